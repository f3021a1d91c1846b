"""Official lists that were damaged on the way: one line with file and line, no clip lost."""

import pytest

from tests.data.datasets.test_definitions import AUDIOSET, ESC, splits_of
from vatt_tf.data.datasets import definition
from vatt_tf.data.datasets.originals import read_table
from vatt_tf.data.prepare.plan import PlanError, Settings
from vatt_tf.data.prepare.planning import make_plan

KINETICS = "label,youtube_id,time_start,time_end,split\nzumba,abc,0,10,train\n"
MSRVTT = "key,vid_key,video_id,sentence\nret0,msr7,video7,a person\n"
UCF = {
    "classInd.txt": "1 A\n2 B\n",
    "trainlist01.txt": "A/a.avi 1\n",
    "testlist01.txt": "B/b.avi\n",
}
MOMENTS = {
    "moments_categories.txt": "clap,0\nsing,1\n",
    "trainingSet.csv": "clap/a.mp4,clap,3,0\n",
    "validationSet.csv": "sing/b.mp4,sing,3,0\n",
}
EVAL = "eval_segments.csv"
INDEX = "class_labels_indices.csv"


def read(name, files, folder, fold=None):
    for file, text in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return definition(name).layout(folder, fold=fold)


@pytest.mark.parametrize(
    ("name", "files", "words"),
    [
        (
            "audioset",
            AUDIOSET | {EVAL: AUDIOSET[EVAL].replace('"', "")},
            r"eval_segments.csv line 4: 5 fields, expected 4 \(YTID,.*'/m/05zppz' has no column",
        ),
        (
            "audioset",
            AUDIOSET | {EVAL: AUDIOSET[EVAL].rstrip()[:-1] + '\nx, 0, 10, "/m/09x0r"\n'},
            "eval_segments.csv line 4: field 4 goes on after its closing quote",
        ),
        (
            "audioset",
            AUDIOSET | {EVAL: AUDIOSET[EVAL].rstrip()[:-1] + "\nx, 0, 10, /m/09x0r\n"},
            "eval_segments.csv line 4: a quote opens here and is never closed",
        ),
        (
            "audioset",
            AUDIOSET | {EVAL: AUDIOSET[EVAL].rstrip()[:-1] + '\nx, 0, 10, /m/09x0r"\n'},
            "eval_segments.csv line 4: a quote opens here and is not closed in its line",
        ),
        ("audioset", AUDIOSET | {EVAL: "x, 0, 10\n"}, "line 1: 3 fields, expected 4"),
        ("audioset", AUDIOSET | {EVAL: 'x, nan, 10, "/m/09x0r"\n'}, "line 1: 'nan' where seconds"),
        (
            "audioset",
            AUDIOSET | {INDEX: AUDIOSET[INDEX] + "0,/m/1,Other\n"},
            "indices.csv line 4: the index '0' stands in line 2 already",
        ),
        (
            "audioset",
            AUDIOSET | {INDEX: AUDIOSET[INDEX] + "2,/m/09x0r,Other\n"},
            "indices.csv line 4: the class '/m/09x0r' stands in line 2 already",
        ),
        (
            "msrvtt",
            {"msrvtt_test.csv": MSRVTT + "ret1,msr8,video8,a person, singing\n"},
            r"msrvtt_test.csv line 3: 5 fields, expected 4 .*'singing' has no column",
        ),
        (
            "msrvtt",
            {"msrvtt_test.csv": MSRVTT + 'ret1,msr8,video8,"a person\n' + MSRVTT},
            "msrvtt_test.csv line 3: a quote opens here and is never closed",
        ),
        (
            "msrvtt",
            {"msrvtt_test.csv": MSRVTT.replace("key,vid_key", "key,Key")},
            "msrvtt_test.csv line 1: the column 'Key' comes twice",
        ),
        (
            "msrvtt",
            {"msrvtt_test.csv": MSRVTT.replace("sentence", "sentense")},
            "msrvtt_test.csv line 1: no column 'sentence' in its first line",
        ),
        ("msrvtt", {"msrvtt_test.csv": ""}, "msrvtt_test.csv line 1: no column 'video_id'"),
        ("msrvtt", {"msrvtt_test.csv": MSRVTT + "ret1,msr8\n"}, "line 3: 2 fields, expected 4"),
        (
            "msrvtt",
            {"msrvtt_test.csv": MSRVTT + "ret1;msr8;video8;x\n"},
            "line 3: 1 fields, expected 4 .*separated by ';', the header by ','",
        ),
        (
            "kinetics400",
            {
                "train.csv": KINETICS,
                "val.csv": KINETICS,
                "test.csv": "lable,youtube_id,time_start,time_end\nzumba,abc,0,10\n",
            },
            "test.csv line 1: the column 'lable' is not read; expected 'label'",
        ),
        (
            "youcook2",
            {"validation_youcook.csv": "end,start,task,text,video_id\n9,4,1,cut, stir,x\n"},
            "validation_youcook.csv line 2: 6 fields, expected 5",
        ),
        (
            "moments_in_time",
            MOMENTS | {"trainingSet.csv": "clap/a.mp4,clap,3,0,9\n"},
            "trainingSet.csv line 1: 5 fields, expected 4",
        ),
        (
            "moments_in_time",
            MOMENTS | {"moments_categories.txt": "clap,0\nsing,0\n"},
            "moments_categories.txt line 2: the index '0' stands in line 1 already",
        ),
        (
            "moments_in_time",
            MOMENTS | {"moments_categories.txt": "clap,0\nclap,1\n"},
            "moments_categories.txt line 2: the class 'clap' stands in line 1 already",
        ),
        ("ucf101", UCF | {"classInd.txt": "1 A\n1 B\n"}, "classInd.txt line 2: the index '1'"),
        ("ucf101", UCF | {"classInd.txt": "1 A\n2 A\n"}, "classInd.txt line 2: the class 'A'"),
        (
            "ucf101",
            UCF | {"trainlist01.txt": "A/a.avi 1 A/c.avi 1\n"},
            "trainlist01.txt line 1: .* where 'class/video.avi index' was expected",
        ),
        (
            "hmdb51",
            {"wave_test_split1.txt": "a.avi 1\nb.avi\n"},
            r"wave_test_split1.txt line 2: 'b.avi' where 0 \(unused\), 1 \(train\) or 2",
        ),
        (
            "hmdb51",
            {"hmdb51.csv": "video_id,label,split1\na.avi,wave,3\n"},
            "hmdb51.csv line 2: '3' where 0",
        ),
        (
            "imagenet",
            {"LOC_synset_mapping.txt": "n1 crane\n\nn1 tench\n"},
            "LOC_synset_mapping.txt line 3: the wnid 'n1' stands in line 1 already",
        ),
        (
            "esc50",
            {"meta/esc50.csv": ESC + "5-3-A-2.wav,5,1,rain,True,3,A\n"},
            "esc50.csv line 5: the class of target 1 is 'rain', in a line before 'rooster'",
        ),
        (
            "sign_digits",
            {"0/a.png": "", "manifest.csv": "clip,split\n0/a.png,../x\n"},
            "manifest.csv line 2: '../x' cannot be the name of a split",
        ),
    ],
)
def test_damaged_lists(name, files, words, tmp_path):
    with pytest.raises(PlanError, match=words) as error:
        read(name, files, tmp_path, 5 if name == "esc50" else None)
    assert "\n" not in str(error.value)


def test_lists_saved_by_a_spreadsheet(tmp_path):
    """Semicolons, capitals, a byte order mark, empty columns and rows are harmless."""
    files = {"msrvtt_test.csv": "\ufeff" + MSRVTT.replace(",", ";").title() + ";;;\n"}
    (tmp_path / "Video7.mp4").touch()
    layout = read("msrvtt", files, tmp_path)
    (row,) = layout.rows.rows
    assert (row.path, row.captions, row.line) == ("Video7.mp4", ["A Person"], 2)
    (tmp_path / "a").mkdir()
    for name in ("q.wav", "x.wav"):
        (tmp_path / "a" / name).touch()
    segments = AUDIOSET[EVAL] + 'x, 0.000, 10.000, "/m/09x0r, /m/05zppz",\r\n'
    layout = read("audioset", AUDIOSET | {EVAL: segments}, tmp_path / "a")
    assert splits_of(layout)["x.wav"] == ("val", "Speech", "Male speech, man speaking")


def test_comments_and_names_with_a_hash(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('# "made\nname,n\n#20 c.avi,1\n# x,2\n\nd,3\n')
    assert list(read_table(path, ["n", "name"])) == [
        (3, {"name": "#20 c.avi", "n": "1"}),
        (6, {"name": "d", "n": "3"}),
    ]
    with pytest.raises(PlanError, match="none.csv: cannot be read: No such file"):
        list(read_table(tmp_path / "none.csv", ["n"]))
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(PlanError, match="t.csv line 1: this is a workbook"):
        list(read_table(path, ["n"]))


def test_val_fraction_beside_a_data_set(tmp_path):
    (tmp_path / "7_jackson_5.wav").touch()
    layout = definition("fsdd").layout(tmp_path)
    settings = Settings(media="audio", cut="whole", val_fraction=0.1)
    (warning,) = make_plan(tmp_path, settings, layout.rows, None, layout.labels).warnings
    assert warning["file"] == str(tmp_path)
    assert warning["warning"].startswith("--val_fraction has no effect: it is 0.1")

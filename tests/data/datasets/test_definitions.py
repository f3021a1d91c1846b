"""The dataset definitions on miniature copies of the official files."""

import json

import pytest
from PIL import Image

from vatt_tf import prepare as command
from vatt_tf.data.datasets import DATASETS, definition
from vatt_tf.data.prepare.plan import PlanError
from vatt_tf.data.prepare.planning import make_plan
from vatt_tf.prepare import Settings


@pytest.fixture
def root(tmp_path):
    """A folder with a function that writes files into it: text, or empty media files."""

    def write(files, texts=None):
        for name in files:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        for name, text in (texts or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write


def rows_of(layout):
    """{file: (split, labels, span, captions)}"""
    return {
        row.path: (row.split, row.labels, (row.start, row.end), row.captions)
        for row in layout.rows.rows
    }


def splits_of(layout):
    return {row.path: (row.split, *row.labels) for row in layout.rows.rows}


WHOLE = (None, None)


@pytest.mark.parametrize("classes", [400, 600, 700])
def test_kinetics(root, classes):
    header = "label,youtube_id,time_start,time_end,split,is_cc\n"
    folder = root(
        [
            "train/abseiling/-abc_000010_000020.mp4",
            "train/zumba/__d_000000_000010.mkv",
            "val/xyz_000100_000110.webm",
            "raw/whole.mp4",
        ],
        {
            "train.csv": header + "zumba,__d,0,10,train,0\nabseiling,-abc,10,20,train,0\n",
            f"kinetics{classes}_val.csv": header
            + 'zumba,xyz,100,110,val,0\n"abseiling",whole,5,15,val,1\nzumba,gone,1,11,val,0\n',
            "test.csv": "youtube_id,time_start,time_end,split\nabc,0,10,test\n",
        },
    )
    layout = definition(f"kinetics{classes}").layout(folder)
    assert layout.labels == ("abseiling", "zumba")
    assert rows_of(layout) == {
        "train/abseiling/-abc_000010_000020.mp4": ("train", ["abseiling"], WHOLE, []),
        "train/zumba/__d_000000_000010.mkv": ("train", ["zumba"], WHOLE, []),
        "val/xyz_000100_000110.webm": ("val", ["zumba"], WHOLE, []),
        "raw/whole.mp4": ("val", ["abseiling"], (5.0, 15.0), []),
    }
    (missing,) = layout.rows.quarantine
    assert missing["file"] == "gone_000001_000011.mp4" and "line 4" in missing["reason"]
    (folder / "train.csv").unlink()
    with pytest.raises(PlanError, match=r"no train.csv or .*holds label,youtube_id,time_start"):
        definition(f"kinetics{classes}").layout(folder)


def test_moments_in_time(root):
    folder = root(
        ["training/adult+singing/a.mp4", "training/clapping/a.mp4", "validation/clapping/b.mp4"],
        {
            "lists/moments_categories.txt": "clapping,0\nadult+singing,1\n",
            "lists/trainingSet.csv": "adult+singing/a.mp4,adult+singing,3,0\n"
            "clapping/a.mp4,clapping,4,1\n",
            "lists/validationSet.csv": "clapping/b.mp4,clapping,6,0\n",
        },
    )
    known = definition("moments_in_time")
    layout = known.layout(folder, folder / "lists")
    assert layout.labels == ("clapping", "adult+singing")
    assert splits_of(layout) == {
        "training/adult+singing/a.mp4": ("train", "adult+singing"),
        "training/clapping/a.mp4": ("train", "clapping"),
        "validation/clapping/b.mp4": ("val", "clapping"),
    }
    with pytest.raises(PlanError, match="no moments_categories.txt there"):
        known.layout(folder)
    (folder / "lists" / "validationSet.csv").write_text("x/b.mp4,running,6,0\n")
    with pytest.raises(PlanError, match="line 1: the class 'running' is not in moments_categories"):
        known.layout(folder, folder / "lists")


AUDIOSET = {
    "class_labels_indices.csv": 'index,mid,display_name\n0,/m/09x0r,"Speech"\n'
    '1,/m/05zppz,"Male speech, man speaking"\n',
    "eval_segments.csv": "# Segments csv created\n# num_ytids=1\n# YTID, start_seconds, "
    'end_seconds, positive_labels\n--A_b, 30.000, 40.000, "/m/09x0r,/m/05zppz"\n',
    "unbalanced_train_segments.csv": '# x\nq, 0.000, 10.000, "/m/05zppz"\n'
    'r, 5.000, 15.000, "/m/09x0r"\ns, 1.000, 11.000, "/m/09x0r"\n',
}


def test_audioset(root):
    folder = root(["e/--A_b_30.000_40.000.wav", "q.flac", "Yr.mp4", "s_1000_11000.m4a"], AUDIOSET)
    layout = definition("audioset").layout(folder)
    assert layout.labels == ("Speech", "Male speech, man speaking")
    assert splits_of(layout) == {
        "e/--A_b_30.000_40.000.wav": ("val", "Speech", "Male speech, man speaking"),
        "q.flac": ("train", "Male speech, man speaking"),
        "Yr.mp4": ("train", "Speech"),
        "s_1000_11000.m4a": ("train", "Speech"),
    }
    with open(folder / "eval_segments.csv", "a") as file:
        file.write('x, 0.0, 10.0, "/m/none"\n')
    with pytest.raises(PlanError, match="line 5: the class /m/none is not in class_labels_indices"):
        definition("audioset").layout(folder)
    (folder / "unbalanced_train_segments.csv").unlink()
    with pytest.raises(PlanError, match="no balanced_train_segments.csv or unbalanced_train"):
        definition("audioset").layout(folder)


def test_imagenet(root):
    folder = root(
        [
            "train/n02012849/n02012849_1.JPEG",
            "train/n03126707/n03126707_1.JPEG",
            "val/ILSVRC2012_val_00000001.JPEG",
            "val/n01440764/ILSVRC2012_val_00000002.JPEG",
        ],
        {
            "LOC_synset_mapping.txt": "n01440764 tench, Tinca tinca\nn02012849 crane\n"
            "n03126707 crane\n",
            "LOC_val_solution.csv": "ImageId,PredictionString\n"
            "ILSVRC2012_val_00000001,n03126707 1 2 3 4 \n"
            "ILSVRC2012_val_00000003,n03126707 1 2 3 4\n",
        },
    )
    layout = definition("imagenet").layout(folder)
    assert layout.labels == ("tench, Tinca tinca", "crane (n02012849)", "crane (n03126707)")
    assert splits_of(layout) == {
        "train/n02012849/n02012849_1.JPEG": ("train", "crane (n02012849)"),
        "train/n03126707/n03126707_1.JPEG": ("train", "crane (n03126707)"),
        "val/ILSVRC2012_val_00000001.JPEG": ("val", "crane (n03126707)"),
        "val/n01440764/ILSVRC2012_val_00000002.JPEG": ("val", "tench, Tinca tinca"),
    }
    assert layout.rows.quarantine[0]["file"] == "ILSVRC2012_val_00000003"
    (folder / "LOC_val_solution.csv").unlink()
    with pytest.raises(PlanError, match="LOC_val_solution.csv there.*ImageId,PredictionString"):
        definition("imagenet").layout(folder)


def test_ucf101(root):
    clip = "ApplyLipstick/v_ApplyLipstick_g{:02d}_c01"
    folder = root(
        [f"UCF-101/{clip.format(number)}.avi" for number in (1, 2, 8)],
        {
            "ucfTrainTestlist/classInd.txt": "1 ApplyEyeMakeup\r\n2 ApplyLipstick\r\n",
            "ucfTrainTestlist/trainlist01.txt": f"{clip.format(8)}.avi 2\r\n",
            "ucfTrainTestlist/testlist01.txt": f"{clip.format(1)}.avi\r\n",
            "ucfTrainTestlist/trainlist02.txt": f"{clip.format(1)}.avi 2\r\n",
            "ucfTrainTestlist/testlist02.txt": f"{clip.format(8)}.avi\r\n",
        },
    )
    known = definition("ucf101")
    one, two = known.layout(folder), known.layout(folder, fold=2)
    assert one.labels == ("ApplyEyeMakeup", "ApplyLipstick") and (one.fold, two.fold) == (1, 2)
    files = [f"UCF-101/{clip.format(number)}.avi" for number in (8, 1)]
    assert splits_of(one) == {
        files[0]: ("train", "ApplyLipstick"),
        files[1]: ("test", "ApplyLipstick"),
    }
    assert splits_of(two) == {
        files[1]: ("train", "ApplyLipstick"),
        files[0]: ("test", "ApplyLipstick"),
    }
    with pytest.raises(PlanError, match=r"no trainlist03.txt or ucfTrainTestlist/trainlist03.txt"):
        known.layout(folder, fold=3)
    with pytest.raises(PlanError, match="--fold=4 of ucf101: expected 1 to 3"):
        known.layout(folder, fold=4)


def test_hmdb51(root):
    files = ["brush_hair/a b_0.avi", "brush_hair/c_1.avi", "wave/#20 c_1.avi", "wave/d_2.avi"]
    folder = root(
        files,
        {
            "splits/brush_hair_test_split2.txt": "a b_0.avi 1 \nc_1.avi 2 \n",
            "splits/wave_test_split2.txt": "#20 c_1.avi 1 \nd_2.avi 0 \n",
            "one/hmdb51.csv": "video_id,label,split1,split2,split3\n"
            "a b_0.avi,brush_hair_test,2,1,1\n"
            "c_1.avi,brush_hair_test,1,2,0\n#20 c_1.avi,wave_test,1,1,1\nd_2.avi,wave_test,0,0,2\n",
        },
    )
    expected = {
        files[0]: ("train", "brush_hair"),
        files[1]: ("test", "brush_hair"),
        files[2]: ("train", "wave"),
    }
    known = definition("hmdb51")
    for annotations in ("splits", "one"):
        layout = known.layout(folder, folder / annotations, fold=2)
        assert layout.labels == ("brush_hair", "wave")
        assert splits_of(layout) == expected
    with pytest.raises(PlanError, match=r"no \{class\}_test_split1.txt or hmdb51.csv there"):
        known.layout(folder, folder / "splits")


ESC = (
    "filename,fold,target,category,esc10,src_file,take\n1-100032-A-0.wav,1,0,dog,True,100032,A\n"
    "2-2-A-36.wav,2,36,vacuum_cleaner,False,2,A\n5-3-A-1.wav,5,1,rooster,True,3,A\n"
)


def test_esc50_and_esc10(root):
    files = ["audio/1-100032-A-0.wav", "audio/2-2-A-36.wav", "audio/5-3-A-1.wav"]
    folder = root(files, {"meta/esc50.csv": ESC})
    layout = definition("esc50").layout(folder, fold=5)
    assert layout.labels == ("dog", "rooster", "vacuum_cleaner")
    assert splits_of(layout) == {
        files[0]: ("train", "dog"),
        files[1]: ("train", "vacuum_cleaner"),
        files[2]: ("val", "rooster"),
    }
    layout = definition("esc10").layout(folder)
    assert layout.labels == ("dog", "rooster")
    assert splits_of(layout) == {files[0]: ("val", "dog"), files[2]: ("train", "rooster")}
    (folder / "meta" / "esc50.csv").write_text("file,fold\na,1\n")
    with pytest.raises(PlanError, match="no column 'filename' in its first line"):
        definition("esc50").layout(folder)


def test_esc10_as_folders(root):
    folder = root(["001 - Dog bark/1-1-A.ogg", "002 - Rain/4-2-A.ogg", "002 - Rain/notes.ogg"])
    layout = definition("esc10").layout(folder, fold=4)
    assert layout.labels == ("Dog bark", "Rain")
    assert splits_of(layout) == {
        "001 - Dog bark/1-1-A.ogg": ("train", "Dog bark"),
        "002 - Rain/4-2-A.ogg": ("val", "Rain"),
    }
    with pytest.raises(PlanError, match="no clip of fold 5"):
        definition("esc10").layout(folder, fold=5)


def test_youcook2(root):
    def video(subset):
        segments = [{"id": 0, "segment": [90, 102], "sentence": "cut it"}]
        return {"subset": subset, "recipe_type": "1", "annotations": segments}

    database = {"GL-x": video("training"), "xHr": video("validation"), "no": video("validation")}
    folder = root(
        ["raw_videos/training/1/GL-x.mp4", "raw_videos/validation/2/xHr.webm"],
        {
            "csv/validation_youcook.csv": "end,start,task,text,video_id\n"
            "60,47,226,pick the ends,xHr\n",
            "json/youcookii_annotations_trainval.json": json.dumps({"database": database}),
        },
    )
    known = definition("youcook2")
    layout = known.layout(folder, folder / "csv")
    assert layout.labels == ()
    segment = ("val", [], (47.0, 60.0), ["pick the ends"])
    assert rows_of(layout) == {"raw_videos/validation/2/xHr.webm": segment}
    assert rows_of(known.layout(folder, folder / "json")) == {
        "raw_videos/training/1/GL-x.mp4": ("train", [], (90.0, 102.0), ["cut it"]),
        "raw_videos/validation/2/xHr.webm": ("val", [], (90.0, 102.0), ["cut it"]),
    }
    (folder / "json" / "youcookii_annotations_trainval.json").write_text("{}")
    with pytest.raises(PlanError, match="not a JSON object with the key 'database'"):
        known.layout(folder, folder / "json")


def test_msrvtt(root):
    videos = [("video0", "train"), ("video1", "validate"), ("video7", "test"), ("video8", "test")]
    data = {
        "videos": [{"video_id": v, "split": s, "category": 9} for v, s in videos],
        "sentences": [{"video_id": v, "caption": f"{v} {n}"} for v, _ in videos for n in "ab"],
    }
    folder = root(
        [f"all/{video}.mp4" for video, _ in videos],
        {
            "msrvtt_test.csv": "key,vid_key,video_id,sentence\nret0,msr7,video7,a person\n",
            "json/MSRVTT_data.json": json.dumps(data),
        },
    )
    known = definition("msrvtt")
    assert rows_of(known.layout(folder)) == {"all/video7.mp4": ("test", [], WHOLE, ["a person"])}
    train = {
        "all/video0.mp4": ("train", [], WHOLE, ["video0 a", "video0 b"]),
        "all/video1.mp4": ("val", [], WHOLE, ["video1 a", "video1 b"]),
    }
    (folder / "MSRVTT_data.json").write_text(json.dumps(data))
    both = {"all/video7.mp4": ("test", [], WHOLE, ["a person"])}
    assert rows_of(known.layout(folder)) == train | both
    official = {
        f"all/{v}.mp4": ("test", [], WHOLE, [f"{v} a", f"{v} b"]) for v in ("video7", "video8")
    }
    assert rows_of(known.layout(folder, folder / "json")) == train | official


def test_fsdd(root):
    folder = root(["recordings/7_jackson_4.wav", "recordings/7_jackson_5.wav", "recordings/x.wav"])
    layout = definition("fsdd").layout(folder)
    assert layout.labels[7] == "seven" and len(layout.labels) == 10
    assert splits_of(layout) == {
        "recordings/7_jackson_4.wav": ("test", "seven"),
        "recordings/7_jackson_5.wav": ("train", "seven"),
    }
    with pytest.raises(PlanError, match="--fold=1 of fsdd: expected none"):
        definition("fsdd").layout(folder, fold=1)


def test_sign_digits(root):
    folder = root([f"Dataset/{d}/IMG_{n}.JPG" for d in (0, 9) for n in range(5)])
    layout = definition("sign_digits").layout(folder)
    found = splits_of(layout)
    assert len(found) == 10 and found["Dataset/9/IMG_3.JPG"] == ("train", "nine")
    assert [name for name, row in found.items() if row[0] == "test"] == [
        "Dataset/0/IMG_4.JPG",
        "Dataset/9/IMG_4.JPG",
    ]
    (folder / "manifest.csv").write_text(
        "clip,split,label\nDataset/0/IMG_1.JPG,val,0\nDataset/9/IMG_0.JPG,train,9\nno/1.JPG,val,1\n"
    )
    layout = definition("sign_digits").layout(folder)
    assert splits_of(layout) == {
        "Dataset/0/IMG_1.JPG": ("val", "zero"),
        "Dataset/9/IMG_0.JPG": ("train", "nine"),
    }
    assert layout.rows.quarantine[0]["file"] == "no/1.JPG"


def test_official_leak_is_refused(root):
    # A clip in two lists of one split number.
    clip = "A/v_A_g01_c01.avi"
    lists = {"classInd.txt": "1 A\n", "trainlist01.txt": f"{clip} 1\n", "testlist01.txt": clip}
    layout = definition("ucf101").layout(root([clip], lists))
    with pytest.raises(PlanError, match="1 clip in two splits: A/v_A_g01_c01.avi"):
        make_plan(root([]), Settings(), layout.rows, None, layout.labels)


def test_every_definition_names_its_files(root, capsys):
    assert set(DATASETS) == set(
        "kinetics400 kinetics600 kinetics700 moments_in_time audioset imagenet ucf101 hmdb51 esc50 "
        "esc10 youcook2 msrvtt fsdd sign_digits howto100m voc2007".split()
    )
    for known in DATASETS.values():
        Settings(**{"media": known.media, **known.settings})
        with pytest.raises(PlanError, match=r"(there|expected: )"):
            known.layout(root([]))
        with pytest.raises(PlanError, match="--annotations=.*no such folder"):
            known.layout(root([]), "/no/such")
    with pytest.raises(PlanError, match="--dataset=ucf: expected one of kinetics400, "):
        definition("ucf")
    assert command.main(["--list_datasets"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name}: " in printed for name in DATASETS) and "--frame_rate=25.0" in printed


def test_command(tmp_path):
    for digit in (3, 4):
        for number in range(5):
            path = tmp_path / "signs" / str(digit) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6), (digit * 20, number * 20, 0)).save(path)
    out = tmp_path / "out"
    arguments = [f"--videos={tmp_path / 'signs'}", f"--out={out}", "--quiet", "--jobs=1"]
    assert command.main([*arguments, "--dataset=sign_digits", "--short_side=4"]) == 0
    content = json.loads((out / "manifest.json").read_text())
    assert {name: split["records"] for name, split in content["splits"].items()} == {
        "train": 8,
        "test": 2,
    }
    assert content["dataset"] == {"name": "sign_digits", "fold": 0}
    assert content["labels"] == list(definition("sign_digits").layout(tmp_path / "signs").labels)
    settings = content["settings"]
    assert (settings["media"], settings["cut"], settings["short_side"]) == ("image", "whole", 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dataset=ucf", "--videos=."], "--dataset=ucf: expected one of"),
        (["--dataset=fsdd"], "--videos=DIR is missing"),
        (["--fold=1", "--videos=."], "--annotations and --fold are for --dataset"),
        (["--dataset=fsdd", "--videos=.", "--manifest=m.csv"], "no file of fsdd there"),
        (["--dataset=esc50", "--videos=.", "--fold=6"], "--fold=6 of esc50: expected 1 to 5"),
    ],
)
def test_flags_that_do_not_fit(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main([*arguments, f"--out={tmp_path / 'out'}"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

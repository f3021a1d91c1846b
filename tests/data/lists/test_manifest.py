"""Manifests as people write them: read as they are meant, or one line with file and line."""

import unicodedata

import pytest

from vatt_tf.data.lists.columns import SYNONYMS, meant_column
from vatt_tf.data.lists.manifest import COLUMNS, ManifestError, read_rows, split_name

A = ("a.mp4", None, None, "train", ["zero"], ["one a"])
B = ("b.mp4", None, None, "val", ["one"], ["one b"])
HEAD = "path,label,caption,split\n"
BOTH = "a.mp4,zero,one a,train\nb.mp4,one,one b,val\n"
TSV = (HEAD + BOTH).replace(",", "\t")
SEMICOLON = (HEAD + BOTH).replace(",", ";")
SPELLINGS = (
    "café",
    unicodedata.normalize("NFD", "café"),
    "big  cat",
    "big\u00a0cat",
    "big\u200b cat",
)
LOOK_ALIKES = ("Dog", "dog", "bigcat", "big cat", "big_cat")


def spans(*times):
    return [("a.mp4", start, end, "train", [], []) for start, end in times]


# Name, content, rows, and parts of what is said of it: in the quarantine and the warnings, which
# are empty without; or in the error, where there are no rows.
READ = [
    ("plain", HEAD + BOTH, [A, B], ()),
    ("capitals", "PATH,Label,Caption,SPLIT\n" + BOTH, [A, B], ()),
    ("blanks in the header", " path , label,\tcaption ,split \n" + BOTH, [A, B], ()),
    ("quoted header", '"path","label","caption","split"\n' + BOTH, [A, B], ()),
    ("semicolons", SEMICOLON, [A, B], ()),
    ("semicolons and quotes", SEMICOLON.replace("one a", '"one a"'), [A, B], ()),
    ("quoted header of semicolons", '"path";"label"\na.mp4;zero\n', [(*A[:5], [])], ()),
    ("tabs", TSV, [A, B], ()),
    (
        "tabs around an empty field",
        "path\tlabel\tcaption\na.mp4\t\tone a\n",
        [(*A[:4], [], A[5])],
        (),
    ),
    ("separator line of Excel", "sep=;\r\n" + SEMICOLON, [A, B], ()),
    ("separator line of Excel, tab", "sep=\t\n" + TSV, [A, B], ()),
    ("UTF-8 with a mark", b"\xef\xbb\xbf" + (HEAD + BOTH).encode(), [A, B], ()),
    ("UTF-16 of Excel", TSV.replace("\n", "\r\n").encode("utf-16"), [A, B], ()),
    ("UTF-16, big end first", b"\xfe\xff" + TSV.encode("utf-16-be"), [A, B], ()),
    ("Windows line ends", (HEAD + BOTH).replace("\n", "\r\n"), [A, B], ()),
    ("old Mac line ends", (HEAD + BOTH).replace("\n", "\r"), [A, B], ()),
    ("no line end", (HEAD + BOTH).rstrip(), [A, B], ()),
    ("empty lines", "\n" + HEAD + "\n  \n" + BOTH + "\n\n", [A, B], ()),
    ("empty rows of a spreadsheet", HEAD + BOTH + ",,,\n,,,\n", [A, B], ()),
    ("separators behind the last column", (HEAD + BOTH).replace("\n", ",,\n"), [A, B], ()),
    ("separators behind the rows only", HEAD + BOTH.replace("\n", ",,\n"), [A, B], ()),
    ("blanks around values", HEAD + BOTH.replace(",", " , "), [A, B], ()),
    ("blanks around quotes", HEAD + BOTH.replace("one a", ' "one a" '), [A, B], ()),
    (
        "a comma in quotes",
        HEAD + 'a.mp4,zero,"one, a",train\n',
        [(*A[:5], ["one, a"])],
        (),
    ),
    ("quotes in quotes", HEAD + 'a.mp4,zero,"a ""big"" one",\n', [(*A[:5], ['a "big" one'])], ()),
    ("an inch in a caption", HEAD + 'a.mp4,zero,a 5" disc,\n', [(*A[:5], ['a 5" disc'])], ()),
    ("quotes inside a caption", HEAD + 'a.mp4,zero,a "5" here,\n', [(*A[:5], ['a "5" here'])], ()),
    (
        "a caption on two lines",
        HEAD + 'a.mp4,zero,"one\r\n a, again",train\n' + BOTH.splitlines()[1],
        [(*A[:5], ["one a, again"]), B],
        (),
    ),
    (
        "a caption on two lines before the path",
        'caption,path\n"one\na",a.mp4\n',
        [(*A[:4], [], ["one a"])],
        (),
    ),
    ("other line separators", HEAD + "a.mp4,zero,one\u2028a,\n", [A], ()),
    (
        "paths alone",
        "path\na.mp4\n./b//c.mp4\n",
        [(*A[:4], [], []), ("b/c.mp4", *A[1:4], [], [])],
        (),
    ),
    (
        "times",
        "path,start,end\na.mp4,00:01:02.5,1:03\na.mp4,0.5,1e1\na.mp4,00:00:01,\na.mp4,,2\n"
        'a.mp4,"00:01:02,500",63.5\n',
        spans((62.5, 63.0), (0.5, 10.0), (1.0, None), (0.0, 2.0), (62.5, 63.5)),
        (),
    ),
    ("case of splits", HEAD + BOTH.replace("train", "Train").replace("val", "VAL"), [A, B], ()),
    (
        "other names of val",
        "path,split\na.mp4,Validation\n",
        [("a.mp4", None, None, "validation", [], [])],
        (),
    ),
    (
        "a further column",
        "path,label,caption,notes,split\na.mp4,zero,one a,good,train\n",
        [A],
        ("m.csv line 1: not read: the column notes",),
    ),
    (
        "an index without a name",
        ",path,label,caption,split\n0,a.mp4,zero,one a,train\n",
        [A],
        ("m.csv line 1: not read: the column 1 (no name)",),
    ),
    (
        "comments",
        "# made by hand\n" + HEAD + "# " + BOTH,
        [B],
        ("m.csv line 3: left out as a comment",),
    ),
    (
        "a path like a comment",
        'path\n#a.mp4\n"# b.mp4"\n',
        [(p, *A[1:4], [], []) for p in ("#a.mp4", "# b.mp4")],
        (),
    ),
    (
        "short rows",
        HEAD + "a.mp4,zero,one a\n" + BOTH.splitlines()[1] + "\n",
        [A, B],
        ("m.csv line 2: fewer fields than the 4 of the header",),
    ),
    ("a row twice", HEAD + BOTH + BOTH.splitlines()[0], [A, B], ("m.csv line 4 repeats line 2",)),
    (
        "a further split",
        HEAD + BOTH.replace("val", "Extra"),
        [A, (*B[:3], "extra", *B[4:])],
        ("m.csv line 3: the split 'extra' is none of train, val, valid, validation, test",),
    ),
    (
        "labels by Unicode form and blanks",
        "path,label\n"
        + "".join(f"{p}.mp4,{label}\n" for p, label in zip("abcde", SPELLINGS, strict=True)),
        [
            (f"{p}.mp4", None, None, "train", [label], [])
            for p, label in zip("abcde", ["café"] * 2 + ["big cat"] * 3, strict=True)
        ],
        (
            "lines 2, 3: the label 'café' is written in 2 ways",
            "lines 4, 5, 6: the label 'big cat' is written in 3 ways",
        ),
    ),
    (
        "labels by case",
        "path,label\na.mp4,Dog\nb.mp4,dog\nc.mp4,bigcat\nd.mp4,big cat\ne.mp4,big_cat\n",
        [
            (f"{p}.mp4", None, None, "train", [label], [])
            for p, label in zip("abcde", LOOK_ALIKES, strict=True)
        ],
        (
            "lines 2, 3: the labels 'Dog' and 'dog' differ only by case",
            "lines 4, 5, 6: the labels 'bigcat' and 'big cat' and 'big_cat' differ only",
        ),
    ),
    (
        "Windows-1252",
        "path,label\na.mp4,caf\xe9\n".encode("latin-1"),
        [("a.mp4", None, None, "train", ["café"], [])],
        ("m.csv line 2: byte 0xe9 is not UTF-8",),
    ),
    (
        "an empty path",
        HEAD + BOTH + ",two,one c,\n",
        [A, B],
        ("m.csv line 4: the path is empty",),
    ),
    (
        "a split that is a folder",
        HEAD + BOTH + "c.mp4,,,Clips\n",
        [A, B],
        ("line 4: 'Clips' cannot be",),
    ),
    *(
        (
            f"the time {text}",
            f"path;start;end\na.mp4;{text};2000\na.mp4;0;1\n",
            spans((0.0, 1.0)),
            (f"m.csv line 2: start is '{text}', {words}",),
        )
        for text, words in (
            ("1,000", "which may be 1.000 or 1000"),
            ("1,5", "which may be 1.5 or 15"),
            ("1_000", "seconds or h:mm:ss.s were expected"),
            ("00:00:01:02", "seconds or h:mm:ss.s were expected"),
            ("1s", "seconds or h:mm:ss.s were expected"),
            ("nan", "a time >= 0 was expected"),
            ("-1", "a time >= 0 was expected"),
            ("1e300", "a time >= 0 was expected"),
            ("9999999999:00:01", "a time >= 0 was expected"),
        )
    ),
    (
        "end before start",
        "path,start,end\na.mp4,3,2\na.mp4,0,1\n",
        spans((0.0, 1.0)),
        ("m.csv line 2: end (2 s)",),
    ),
]
REFUSED = [
    (
        "a quote that is not closed",
        HEAD + 'a.mp4,zero,"one a,train\n' + BOTH,
        ("m.csv line 2: a quote opens here and is never closed",),
    ),
    (
        "a quote that is not closed in the last field",
        'path,caption\na.mp4,x\n\nb.mp4,"y\nc.mp4,z\n',
        ("m.csv line 4: a quote opens here",),
    ),
    (
        "a quote that is not closed in the header",
        'path,"label\na.mp4,x\n',
        ("m.csv line 1: a quote",),
    ),
    (
        "a row between two stray quotes",
        HEAD + 'a.mp4,zero,"one a,train\nc.mp4,x,y,val\nb.mp4,one,one b",val\n',
        ("m.csv line 2: a quote opens in the column 'caption'", "(c.mp4,x,y,val)", "close it"),
    ),
    (
        "a row in the last line between stray quotes",
        HEAD + 'a.mp4,zero,"one a,train\nb.mp4,one,one b",val\n',
        ("m.csv line 2: a quote opens in the column 'caption'", "b.mp4"),
    ),
    (
        "stray quotes before the path",
        'caption,path\n"one a,a.mp4\none b",b.mp4\n',
        ("m.csv line 2: a quote opens in the column 'caption'", "a.mp4"),
    ),
    (
        "stray quotes in a further column",
        'path,notes,split\na.mp4,"x,train\nb.mp4,y",val\n',
        ("m.csv line 2: a quote opens in the column 'notes'",),
    ),
    *(
        (
            f"a line break in {name}",
            f"path,start,end,label,split\na.mp4,0,1,x,val\n{row}\n",
            (f"m.csv line 3: a quote opens in the column '{name}' and closes in a later line",),
        )
        for name, row in (
            ("path", '"b\n.mp4",0,1,x,val'),
            ("start", 'b.mp4,"0\n",1,x,val'),
            ("end", 'b.mp4,0,"1\n",x,val'),
            ("label", 'b.mp4,0,1,"x\ny",val'),
            ("split", 'b.mp4,0,1,x,"val\n"'),
        )
    ),
    (
        "two stray quotes in a row",
        HEAD + 'a.mp4,zero "x,one a",train\n',
        ("m.csv line 2: a quote opens inside field 2 and closes inside field 3",),
    ),
    (
        "a stray quote in a label",
        HEAD + BOTH + 'c.mp4,one",c,\n',
        ('m.csv line 4: label is one": one quote without another',),
    ),
    (
        "a text behind a quote",
        HEAD + 'a.mp4,zero,"one" a,train\n',
        ("m.csv line 2: field 3 goes on after its closing quote (a,train)", 'twice ("")'),
    ),
    (
        "quotes with backslashes",
        HEAD + 'a.mp4,zero,"say \\"one\\", a",train\n',
        ("m.csv line 2: field 3 goes on after its closing quote",),
    ),
    (
        "a comma in the last column",
        "path,label,caption\na.mp4,zero,a hand shows zero, then it moves left\n",
        ("m.csv line 2: 4 fields, expected 3 (path,label,caption): 'then it moves left' has no",),
    ),
    (
        "a comma before the split",
        HEAD + BOTH + "a.mp4,zero,a hand shows zero, slowly,train\n",
        ("m.csv line 4: 5 fields, expected 4", "'train' has no column", "quotes"),
    ),
    (
        "a comma and empty columns behind",
        HEAD.replace("\n", ",,\n") + "a.mp4,zero,a hand, slowly,train,\n",
        ("m.csv line 2: 5 fields, expected 4",),
    ),
    ("a decimal comma", "path,start,end\na.mp4,0,5,1,5\n", ("m.csv line 2: 5 fields, expected 3",)),
    ("a comma in a path", "path\na,b.mp4\n", ("m.csv line 2: 2 fields, expected 1 (path)",)),
    ("typographic quotes", HEAD + "a.mp4,zero,“one, a”,val\n", ("m.csv line 2: 5 fields",)),
    (
        "semicolons below a header of commas",
        HEAD + BOTH.replace(",", ";"),
        ("m.csv line 2: 1 fields, expected 4", "separated by ';', the header by ','"),
    ),
    (
        "tabs and a comma below a header of commas",
        HEAD + "a.mp4\tzero\tone, a\ttrain\n",
        ("m.csv line 2: 2 fields, expected 4", "separated by tab, the header by ','"),
    ),
    (
        "commas below a header of tabs",
        HEAD.replace(",", "\t") + BOTH,
        ("m.csv line 2: 1 fields", "separated by ',', the header by tab"),
    ),
    (
        "a header of two separators",
        "path;label,split\na.mp4;x,val\n",
        ("m.csv line 1: 'path;label'",),
    ),
    (
        "a column twice",
        "path,label,label\na.mp4,x,y\n",
        ("m.csv line 1: the column 'label' comes twice (columns 2 and 3)",),
    ),
    (
        "a column twice by case",
        "path,Label,label \na.mp4,x,y\n",
        ("the column 'label' comes twice",),
    ),
    ("a further column twice", "path,note,note\na.mp4,x,y\n", ("the column 'note' comes twice",)),
    (
        "the header again",
        HEAD + BOTH + HEAD + BOTH,
        ("m.csv line 4: the header comes again",),
    ),
    (
        "another header again",
        HEAD + BOTH + "split,path,label,caption\n",
        ("m.csv line 4: the header",),
    ),
    *(
        (
            f"the column {name}",
            f"path,{name}\na.mp4,x\n",
            (f"m.csv line 1: the column '{name.lower()}' is not read; expected '{meant}'",),
        )
        for name, meant in (
            ("lable", "label"),
            ("Lable", "label"),
            ("labels", "label"),
            ("class", "label"),
            ("captions", "caption"),
            ("capton", "caption"),
            ("text", "caption"),
            ("Start Time", "start"),
            ("start_time", "start"),
            ("start (s)", "start"),
            ("end_sec", "end"),
            ("splits", "split"),
            ("spilt", "split"),
            ("set", "split"),
        )
    ),
    ("labels beside label", "path,label,labels\na.mp4,x,y\n", ("column 'labels' is not read",)),
    (
        "filename for path",
        "filename,label\na.mp4,x\n",
        ("m.csv line 1: no column 'path'", "rename 'filename' to 'path'"),
    ),
    ("file for path", "File;Label\na.mp4;x\n", ("no column 'path'", "rename 'file' to 'path'")),
    (
        "no header",
        BOTH,
        ("m.csv line 1: no column 'path'", "begins without a header; put path,start"),
    ),
    ("paths without a header", "a.mp4\nb.mp4\n", ("begins without a header",)),
    ("tabs without a header", BOTH.replace(",", "\t"), ("begins without a header",)),
    (
        "a comment as header",
        "# path,label\na.mp4,x\n",
        ("m.csv line 2: no column", "without a header"),
    ),
    ("empty", "", ("m.csv line 1: the file is empty, expected the header path,start,end",)),
    ("blank", " \n\n", ("m.csv line 1: the file is empty",)),
    ("only a header", HEAD + "\n,,,\n", ("holds no line below its header",)),
    ("UTF-16 without a mark", TSV.encode("utf-16-le"), ("m.csv: holds zero bytes",)),
    ("UTF-32", TSV.encode("utf-32"), ("m.csv: holds zero bytes",)),
    (
        "a workbook",
        b"PK\x03\x04" + bytes(20),
        ("m.csv line 1: this is a workbook", "save it as CSV"),
    ),
]


def write(folder, content):
    path = folder / "m.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "rows", "said"), [c[1:] for c in READ], ids=[c[0] for c in READ]
)
def test_read(content, rows, said, tmp_path):
    found = read_rows(write(tmp_path, content))
    assert [
        (row.path, row.start, row.end, row.split, row.labels, row.captions) for row in found.rows
    ] == rows
    notes = [entry["reason"] for entry in found.quarantine]
    notes += [entry["warning"] for entry in found.warnings]
    assert len(notes) == len(said), notes
    for part in said:
        assert any(part in note and note.startswith("m.csv line") for note in notes), notes


@pytest.mark.parametrize(("content", "said"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refused(content, said, tmp_path):
    with pytest.raises(ManifestError) as error:
        read_rows(write(tmp_path, content))
    message = str(error.value)
    assert "\n" not in message
    for part in said:
        assert part in message


def test_columns_of_the_header(tmp_path):
    path = write(tmp_path, "Split,notes,PATH,caption\ntrain,x,a.mp4,\n")
    assert read_rows(path).columns == ("path", "caption", "split")
    assert read_rows(path).source == "m.csv"


def test_many_lines_are_told_shortly(tmp_path):
    found = read_rows(write(tmp_path, HEAD + "a.mp4,zero\n" + "b.mp4,one\n" * 8))
    assert any("lines 2, 3, 4, 5, 6 and 4 more: fewer" in w["warning"] for w in found.warnings)


@pytest.mark.parametrize(
    "name", "id notes speaker fps duration lang en eng and state label_id".split()
)
def test_columns_that_are_far_from_known_ones(name):
    assert meant_column(name, COLUMNS, COLUMNS, SYNONYMS) is None


def test_names_of_splits():
    assert [split_name(text) for text in ("", "Val", "fold_1")] == ["train", "val", "fold_1"]
    for text in ("Tokenizer", "../x", "a b", "val\n", "ｖal", "-x"):
        with pytest.raises(ValueError, match="cannot be the name of a split"):
            split_name(text)

"""Which files a local data set has, packed ones, and keys and columns that stand twice."""

import bz2
import gzip
import json
import lzma

import pyarrow
import pyarrow.parquet
import pytest

from prunegrid.common.data_formats import chosen, files_below, format_of
from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import hub_data, local, readers

ROWS = [{"text": f"café {i}", "n": {"deep.er": "x"}} for i in range(3)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip), ("bz2", bz2), ("xz", lzma)])
@pytest.mark.parametrize("upper", [False, True])
def test_packed_files_are_read_by_the_ending_before(tmp_path, ending, pack, upper):
    name = f"rows.jsonl.{ending}"
    path = tmp_path / (name.upper() if upper else name)
    path.write_bytes(pack.compress(TEXT.encode()))
    assert format_of(path.name) == "jsonl"
    assert readers.read(path, None, "here") == readers.read(path, "jsonl", "here") == ROWS
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PrunegridError, match="not a whole .*copy it again"):
        readers.read(path, None, "here")
    path.write_bytes(b"nothing that is packed")
    with pytest.raises(PrunegridError, match="not a whole .*copy it again"):
        readers.read(path, None, "here")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("dump.xml-p1p9.bz2", "mediawiki"),
        ("dump.bz2", "mediawiki"),
        ("dump.xml.bz2", "mediawiki"),
        ("a.csv.bz2", "csv"),
        ("a.TSV.xz", "csv"),
        ("a.txt.xz", "text"),
        ("a.parquet.gz", "parquet"),
        ("a.xz", None),
        ("a.jsonl.zst", None),
    ],
)
def test_an_ending_tells_one_format(name, form):
    assert format_of(name) == form


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.zip", "a.csv.lz4", "a.tgz"])
def test_other_packings_are_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(PrunegridError, match="compressed by .*unpack it"):
        readers.read(tmp_path / name, "jsonl", "here")


@pytest.mark.parametrize("before", ["", "\n", "\ufeff\n  \n", "\r\n\t"])
def test_an_array_may_follow_blank_lines(tmp_path, before):
    path = tmp_path / "a.json"
    path.write_text(before + json.dumps(ROWS, indent=1), encoding="utf-8", newline="")
    assert readers.read(path, None, "here") == ROWS


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.jsonl", '{"a": 1}\n{"b": 1, "b": 2}\n', "line 2.*key 'b' stands twice"),
        ("a.jsonl", '{"a": {"c": 1, "d": 2, "c": 1}}\n', "line 1.*key 'c' stands twice"),
        ("a.json", '[{"a": 1},\n {"a": 1, "a": 2}]', "key 'a' stands twice"),
        ("a.csv", "x,y,x\n1,2,3\n", "line 1: there are two columns 'x'"),
        ("a.csv", "x,,\n1,2,3\n", "line 1: there are two columns ''"),
        ("a.tsv", "x\ty\ty\n1\t2\t3\n", "line 1: there are two columns 'y'"),
        ("a.tsv", 'x\ty\n1\t2\n"a" b\t3\n4\t5\n', "line 3.*quotes"),
        ("a.csv", 'x,y\n1,"open\n2,3\n4,5\n', "line 2: not CSV.*quotes"),
        ("a.csv", 'x,y\n"a\nb",1\n"c\nd"\n', "line 4: the row has fewer fields"),
    ],
)
def test_what_stands_twice_or_is_not_quoted_is_told_with_its_line(tmp_path, name, text, fault):
    (tmp_path / name).write_text(text)
    with pytest.raises(PrunegridError, match=f"{name}.*{fault}"):
        readers.read(tmp_path / name, None, "here")


def test_two_columns_of_one_name_in_parquet(tmp_path):
    table = pyarrow.table([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["x", "x"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(PrunegridError, match="two columns 'x'"):
        readers.read(tmp_path / "a.parquet", None, "here")


def test_old_line_ends_are_line_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"One\rstill one.\r\rTwo.\r")
    rows = readers.read(tmp_path / "a.txt", None, "")
    assert [row["text"] for row in rows] == ["One\nstill one.", "Two."]


FILES = (
    "README.md",
    "parts/b-1.jsonl",
    "parts/b-0.jsonl",
    "parts/x/c.csv",
    "a [1].jsonl",
    ".h.csv",
    "parts/x/b-0.jsonl",
)


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(FILES):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        csv = name.endswith(".csv")
        path.write_text(f"text\n{number}\n" if csv else f'{{"text": "{number}"}}\n')
    return tmp_path


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ("parts/b-1.jsonl", [1]),
        ("parts/b-*.jsonl", [2, 1]),
        ("parts", [2, 1, 6, 3]),
        ("./parts/", [2, 1, 6, 3]),
        (["parts/x/", "parts/b-0.jsonl"], [2, 6, 3]),
        (["parts/b-0.jsonl", "parts/b-*"], [2, 1]),
        ("*.jsonl", [4, 2, 1, 6]),
        ("a [1].jsonl", [4]),
        (".h.csv", [5]),
        (None, [4, 2, 1, 6, 3]),
    ],
)
def test_a_split_is_a_file_a_folder_a_pattern_or_a_list(folder, rules, found):
    source = {"kind": "local", "path": str(folder), "files": rules}
    splits, record = local.data(source, "here")
    paths = splits["all"]
    assert [FILES.index(p.relative_to(folder).as_posix()) for p in paths] == found
    rows = [row for path in paths for row in readers.read(path, None, "here")]
    assert [row["text"] for row in rows] == [str(number) for number in found]
    assert len(record["files"]) == len(found)
    if rules is not None and ".h.csv" not in rules:
        names = [name for name in FILES if not name.startswith((".", "README"))]
        hub = hub_data.resolve({"files": {"all": rules}}, {}, names, ["all"], "here")
        assert [FILES.index(name) for name in hub["all"]] == found


def test_a_rule_that_chooses_nothing_names_the_nearest(folder):
    with pytest.raises(PrunegridError, match="parts/b-2.jsonl does not exist.*b-1.jsonl"):
        files_below(folder, "parts/b-2.jsonl", "here")
    with pytest.raises(PrunegridError, match="does not exist.*pattern"):
        files_below(folder, ["parts/*.jsonl", "none/*"], "here")
    assert chosen(["ab", "a*"], "a*") == ["a*"]


def test_a_split_of_the_hub_is_of_one_format(folder):
    files = [folder / "parts/b-0.jsonl", folder / "parts/x/c.csv"]
    with pytest.raises(PrunegridError, match="of several formats"):
        hub_data.load(files, None, folder / "cache", "here")


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.tsv"])
def test_a_csv_file_of_the_hub_is_read_as_a_local_one(tmp_path, name):
    """Texts that pandas takes for missing values, quotes, and columns that stand twice."""

    def write(text):
        text = text.replace(",", "\t") if "tsv" in name else text
        body = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(body) if name.endswith("gz") else body)
        return [tmp_path / name]

    files = write('x,y\nNA,"a ""b"""\nnull,c\nNone,"d\ne"\n')
    found = hub_data.load(files, None, tmp_path / "cache", "here").to_list()
    assert found == readers.read(files[0], None, "here") and found[0]["x"] == "NA"
    with pytest.raises(PrunegridError, match="line 1: there are two columns 'x'"):
        hub_data.load(write("x,x\n1,2\n"), None, tmp_path / "cache", "here")

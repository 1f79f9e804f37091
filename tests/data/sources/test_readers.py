"""Rows out of each file format, and what is said of a file that is broken."""

import bz2
import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from prunegrid.common.data_formats import FORMATS, format_of
from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import hub_data, mediawiki, readers

ROWS = [{"text": "One, two.", "n": 1}, {"text": "Ünïcode\nline", "n": 2}]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson"])
def test_json_lines(tmp_path, name):
    assert readers.read(write(tmp_path / name, jsonl(ROWS) + "\n"), None, "here") == ROWS


def test_json_lines_packed_marked_and_as_an_array(tmp_path):
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(jsonl(ROWS).encode()))
    assert readers.read(packed, None, "here") == ROWS
    assert readers.read(write(tmp_path / "b.jsonl", "\ufeff" + jsonl(ROWS)), None, "") == ROWS
    assert readers.read(write(tmp_path / "c.json", json.dumps(ROWS, indent=2)), None, "") == ROWS
    assert readers.read(write(tmp_path / "d.dat", jsonl(ROWS)), "jsonl", "here") == ROWS
    packed.write_bytes(packed.read_bytes()[:-12])
    with pytest.raises(PrunegridError, match="not a whole gzip file"):
        readers.read(packed, None, "here")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a": 1}\n{"a": \n', "a.jsonl, line 2: not JSON"),
        ('{"a": 1}\n\n[1, 2]\n', "line 3: a list; expected a JSON object"),
        ("[1, 2]", "not an array of objects"),
        ("\n\n", "holds no rows"),
    ],
)
def test_broken_json_lines_name_the_line(tmp_path, text, fault):
    with pytest.raises(PrunegridError, match=fault):
        readers.read(write(tmp_path / "a.jsonl", text), None, "here")


def test_text_that_is_not_utf8(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": "\xff\xfe"}\n')
    with pytest.raises(PrunegridError, match="not UTF-8"):
        readers.read(tmp_path / "a.jsonl", None, "here")


def test_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    nested = [{"text": "a", "parts": {"x": ["b", "c"]}}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(nested), path)
    assert readers.read(path, None, "here") == nested
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PrunegridError, match="not a whole Parquet file.*copy or download"):
        readers.read(path, None, "here")


def test_csv_and_tsv(tmp_path):
    path = write(tmp_path / "a.csv", 'text,n\r\n"One, ""two""\nmore",1\r\nb,2\r\n')
    assert readers.read(path, None, "here") == [
        {"text": 'One, "two"\nmore', "n": "1"},
        {"text": "b", "n": "2"},
    ]
    assert readers.read(write(tmp_path / "a.tsv", "x\ty\n1\t2\n"), None, "") == [
        {"x": "1", "y": "2"}
    ]
    for row, fault in (("1", "fewer"), ("1,2,3", "more")):
        with pytest.raises(PrunegridError, match=f"line 2: the row has {fault} fields"):
            readers.read(write(tmp_path / "b.csv", f"x,y\n{row}\n"), None, "here")
    with pytest.raises(PrunegridError, match="not CSV"):
        readers.read(write(tmp_path / "c.csv", 'x,y\n"a"b,c\n'), None, "here")


def test_text_is_cut_at_blank_lines(tmp_path):
    path = write(tmp_path / "a.txt", "One\nstill one.\r\n\r\n  \n\nTwo.\n")
    assert readers.read(path, None, "here") == [{"text": "One\nstill one."}, {"text": "Two."}]


def test_unknown_formats(tmp_path):
    with pytest.raises(PrunegridError, match="the ending of a.docx tells no format"):
        readers.read(write(tmp_path / "a.docx", "x"), None, "here")
    with pytest.raises(PrunegridError, match="did you mean 'jsonl'"):
        readers.read(write(tmp_path / "a.docx", "x"), "json", "here")


def body(ending):
    """Return a file of one row, as its ending says."""
    if ending == ".parquet":
        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"a": "1", "b": "2"}]), sink)
        return sink.getvalue().to_pybytes()
    page = f"<mediawiki>{PAGE.format('A', 0, '', 'One.')}</mediawiki>"
    texts = {"jsonl": '{"a": "1", "b": "2"}', "text": "One.", "mediawiki": page}
    texts["csv"] = "a\tb\n1\t2\n" if ending == ".tsv" else "a,b\n1,2\n"
    text = texts[FORMATS[ending]].encode()
    return bz2.compress(text) if ending == ".bz2" else text


@pytest.mark.parametrize(
    ("ending", "packed"),
    [
        *((ending, "") for ending in [*FORMATS, ".TSV"]),
        *((ending, ".gz") for ending in [*FORMATS, ".TSV"] if ending != ".bz2"),
    ],
)
def test_every_ending_of_the_table_is_read_without_a_format(tmp_path, ending, packed):
    path = tmp_path / f"data{ending}{packed}"
    content = body(ending.lower())
    path.write_bytes(gzip.compress(content) if packed else content)
    form = format_of(path.name)
    rows = {"text": [{"text": "One."}], "mediawiki": [{"title": "A", "text": "One."}]}
    assert readers.read(path, None, "here") == rows.get(form, [{"a": "1", "b": "2"}])


@pytest.mark.parametrize("ending", FORMATS)
def test_the_hub_knows_the_same_endings(ending):
    builder = hub_data.BUILDERS.get(FORMATS[ending])
    assert hub_data.builder_of(f"data/train{ending}") == builder
    for packed in hub_data.PACKED:
        assert hub_data.builder_of(f"train{ending}{packed}") == builder


PAGE = "<page><title>{}</title><ns>{}</ns>{}<revision><text>{}</text></revision></page>"
WIKITEXT = """{{Infobox|a=b}}
'''Rivers''' are ''long''.&lt;ref name="x"&gt;A book.&lt;/ref&gt; They flow to the [[sea|seas]].
[[File:River.jpg|thumb|A river with a [[bridge]].]]
{| class="wikitable"
| cell
|}
== Use ==
* Boats
Trade, see [[Trade]].

== References ==
{{reflist}} A book, 1999.
[[Category:Water]]
[[de:Fluss]]"""


def dump(path, pages):
    text = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">' + "".join(pages)
    path.write_bytes(bz2.compress((text + "</mediawiki>").encode()))
    return path


def test_mediawiki_articles_in_order_as_plain_text(tmp_path):
    pages = [
        PAGE.format("River", 0, "", WIKITEXT),
        PAGE.format("Talk:River", 1, "", "Not an article."),
        PAGE.format("Stream", 0, '<redirect title="River"/>', "#REDIRECT [[River]]"),
        PAGE.format("Lake", 0, "", "A lake is still water."),
    ]
    rows = readers.read(dump(tmp_path / "a.xml.bz2", pages), None, "here")
    assert [row["title"] for row in rows] == ["River", "Lake"]
    text = rows[0]["text"]
    assert text.startswith("Rivers are long. They flow to the seas.")
    assert "Use" in text and "Boats" in text and "Trade, see Trade." in text
    for gone in ("Infobox", "book", "cell", "thumb", "bridge", "Category", "Fluss", "''", "[["):
        assert gone not in text
    assert rows[1]["text"] == "A lake is still water."


def test_a_truncated_dump(tmp_path):
    path = dump(tmp_path / "a.xml.bz2", [PAGE.format("Lake", 0, "", "Water. " * 5000)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PrunegridError, match="not readable as a MediaWiki dump"):
        readers.read(path, None, "here")
    path.write_bytes(bz2.compress(b"<mediawiki><page>"))
    with pytest.raises(PrunegridError, match="may be truncated"):
        list(mediawiki.read(path))

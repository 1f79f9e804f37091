"""Data files of any content: rows that can be written and read back, or one clear error."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import shutil
import zipfile

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import columns, readers, wheel
from prunegrid.stages import data as stage
from tests.helpers.fuzzing import fuzz

ROWS = [
    {"id": f"n{i}", "body": f"Text {i}, “so”.", "n": i, "x": {"y": ["a", "b"]}} for i in range(4)
]
XML = """<mediawiki><page><title>A</title><ns>0</ns><revision><text>'''A''' is {{x|y}} [[a|b]].
<ref>no</ref> == See also == * [[c]]</text></revision></page></mediawiki>"""


def parquet(folder):
    path = folder / "whole.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Whole files by the endings of their names."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    table = "id,body\n" + "".join(f'{r["id"]},"{r["body"]}"\n' for r in ROWS)
    return {
        ".jsonl": lines,
        ".json": json.dumps(ROWS).encode(),
        ".jsonl.gz": gzip.compress(lines, mtime=0),
        ".csv": table.encode(),
        ".tsv": table.replace(",", "\t").encode(),
        ".txt": b"One.\n\nTwo.\r\n\r\n \nThree.",
        ".xml": XML.encode(),
        ".bz2": bz2.compress(XML.encode()),
        ".parquet": parquet(tmp_path_factory.mktemp("whole")),
    }


def rows_of(path, tmp_path):
    """Return what a data set makes of a file, written and read back."""
    rows = readers.read(path, None, "here")
    assert rows and all(isinstance(row, dict) for row in rows)
    name = next(iter(rows[0]), "text")
    converted = columns.convert(rows, "text", {"text": name}, "all", 0, "here")
    stage.write(converted, "out", tmp_path, "test")
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist() == converted
    return rows


def test_whole_files_are_read(whole, tmp_path):
    for ending, body in whole.items():
        path = tmp_path / f"data{ending}"
        path.write_bytes(body)
        assert rows_of(path, tmp_path), ending


@fuzz(240)
@given(st.data())
def test_a_damaged_file_is_read_or_told(whole, tmp_path, data):
    ending = data.draw(st.sampled_from(sorted(whole)))
    body = bytearray(whole[ending])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body)))
        piece = data.draw(st.one_of(st.binary(max_size=6), st.sampled_from(PIECES)))
        body[place : place + data.draw(st.sampled_from([0, 1, 1, 9, len(body)]))] = piece
    read_or_told(tmp_path, ending, bytes(body))


PIECES = [
    *(
        b"\0",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b'"\\ud800"',
        b"9" * 5000,
        b"[" * 5000,
        b'{"a":',
        b"NaN",
    ),
    *(
        b'"',
        b"\r",
        b"\n\n",
        b",,,",
        b"\t",
        b"\xef\xbb\xbf",
        b"1e999",
        b"<ref",
        b"{{",
        b"&x;",
        b"]]>",
    ),
    *(b"<page>", b"</page>", b"<!DOCTYPE x [<!ENTITY a 'b'>]>", b"PAR1", b"BZh9", b"\x1f\x8b\x08"),
]


@fuzz(80)
@given(
    st.sampled_from([".jsonl", ".json", ".csv", ".txt", ".xml", ".jsonl.gz", ".parquet"]), st.data()
)
def test_any_bytes_are_read_or_told(tmp_path, ending, data):
    body = data.draw(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
    read_or_told(tmp_path, ending, gzip.compress(body) if ending.endswith("gz") else body)


def read_or_told(tmp_path, ending, body):
    path = tmp_path / f"data{ending}"
    path.write_bytes(body)
    try:
        rows_of(path, tmp_path)
    except PrunegridError as error:
        assert str(error).strip() and "Traceback" not in str(error)


@pytest.mark.parametrize(
    ("ending", "body"),
    [
        (".jsonl", b'{"a": ' + b"[" * 100_000),
        (".jsonl", b'{"a": ' + b"9" * 10_000 + b"}"),
        (".json", b"[" * 100_000),
        (".json", b"[1, 2]"),
        (".jsonl", b'{"a": "\\ud800"}'),
        (".jsonl.gz", gzip.compress(b'{"a": "b"}' * 99, mtime=0)[:10] + b"\xff" * 30),
        (".csv", b'a\n"b'),
        (".xml", b"<a>" * 1000),
    ],
)
def test_what_has_ended_in_a_traceback_is_told(tmp_path, ending, body):
    path = tmp_path / f"data{ending}"
    path.write_bytes(body)
    with pytest.raises(PrunegridError):
        rows_of(path, tmp_path)


@fuzz(200)
@given(st.data())
def test_a_damaged_wheel_is_told_or_holds_what_it_should(tmp_path, monkeypatch, data):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, text = tmp_path / "a-1-py3-none-any.whl", b"Some words.\n" * 9
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a/b.txt"), text, zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo("a-1.dist-info/METADATA"), "License: MIT\n")
    body = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, len(body) - 1))
        if data.draw(st.booleans()):
            body[place] ^= data.draw(st.integers(1, 255))
        else:
            del body[place : place + data.draw(st.sampled_from([1, 9, len(body)]))]
            body += b"\0"
    path.write_bytes(body)
    digest = hashlib.sha256(text).hexdigest()
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    try:
        wheel.unpack(path, {"a/b.txt": digest}, "here")
    except PrunegridError as error:
        assert str(error).startswith("here") and "\n" not in str(error)
    else:
        assert (wheel.cache_folder() / digest / "b.txt").read_bytes() == text

"""The command `claims`: the page and the table that it writes, and the tables that it refuses."""

import pandas
import pytest

from prunegrid.commands import cli
from prunegrid.common import file_io
from prunegrid.common.source_code import LIBRARY
from prunegrid.config.load import validate
from prunegrid.tables import finished
from tests.helpers import shipped
from tests.helpers.claim_world import World, bear, metric_of

ROOT = LIBRARY.parent.parent
CLAIMS = validate(shipped.config(), shipped.FILES, ROOT).sections["claims"]
WANDA = CLAIMS["wanda-over-magnitude"]


def test_the_command_writes_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results"
    folder.mkdir()
    assert cli.main(["claims"]) == 1
    assert "there is no finished table" in capsys.readouterr().err
    for study, speaks in (("one", "for"), ("two", "against")):
        tables = bear(World(study), WANDA, speaks).tables()
        tables.wide.to_parquet(folder / f"{study}.parquet")
        tables.long.to_parquet(folder / f"{study}.long.parquet")
        tables.pairs.to_parquet(folder / f"{study}.pairs.parquet")
    assert cli.main(["claims", "results/one.parquet"]) == 0
    assert "holds        wanda-over-magnitude" in capsys.readouterr().out
    assert cli.main(["claims"]) == 0
    assert "refuted      wanda-over-magnitude" in capsys.readouterr().out
    text = (folder / "claims.md").read_text()
    assert "Studies: `one`, `two`." in text and "| two " in text
    assert all(f"## {name}" in text for name in CLAIMS)
    frame = pandas.read_parquet(folder / "claims.parquet")
    assert set(frame["claim"]) == set(CLAIMS)
    found = frame[frame["claim"] == "wanda-over-magnitude"]
    assert found["speaks"].tolist() == ["for", "against"]
    assert found["metric"].tolist() == [metric_of(WANDA)] * 2
    first = (folder / "claims.parquet").read_bytes()
    assert cli.main(["claims"]) == 0
    assert (folder / "claims.parquet").read_bytes() == first
    assert sorted(p.name for p in folder.glob("*claims*")) == ["claims.md", "claims.parquet"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("s.long.parquet", "is no study's table"), ("t.parquet", "there is no such table")],
)
def test_wrong_files_are_named(tmp_path, monkeypatch, capsys, name, words):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["claims", name]) == 1
    assert words in capsys.readouterr().err and not (tmp_path / "results").exists()


def test_tables_of_another_version_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tables = bear(World(), WANDA, "for").tables()
    tables.wide.drop(columns="strategy").to_parquet("s.parquet")
    assert cli.main(["claims", "s.parquet"]) == 1
    assert "no column strategy" in capsys.readouterr().err


def test_tables_of_censuses_are_no_evidence(tmp_path):
    for name, kind in (("a", "census"), ("b", None), ("claims", None)):
        (tmp_path / f"{name}.parquet").touch()
        file_io.write_json(tmp_path / f"{name}.manifest.json", {"plan": {"kind": kind}})
    (tmp_path / "b.long.parquet").touch()
    assert finished.find(tmp_path) == [tmp_path / "b.parquet"]

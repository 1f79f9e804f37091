"""The command line: what all verbs share."""

import subprocess
import sys

from prunegrid.commands import cli


def test_a_reader_that_has_seen_enough_is_no_fault():
    command = f"{sys.executable} -m prunegrid list metrics | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout and "pipe" not in done.stderr.lower()


def test_verify_takes_the_name_of_a_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["verify", "mine"]) == 1
    assert "there is no such table" in capsys.readouterr().err
    (tmp_path / "results").mkdir()
    (tmp_path / "results/mine.parquet").write_text("no table")
    assert cli.main(["verify", "mine"]) == 1
    assert "results/mine.parquet: 1 difference" in capsys.readouterr().out

"""The command line: what all verbs share."""

import os
import subprocess
import sys

import pytest

from prunegrid.commands import cli


def test_a_reader_that_has_seen_enough_is_no_fault():
    command = f"{sys.executable} -m prunegrid list metrics | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout and "pipe" not in done.stderr.lower()


def test_what_a_command_says_is_shown_and_what_the_library_tells_of_its_work_is_not():
    code = "import logging, prunegrid.common.logs as logs; logs.log_for_people()\n"
    code += "for name in ('prunegrid.commands.verify', 'prunegrid.evaluation.scoring'):\n"
    code += "    logging.getLogger(name).info('told by %s', name)\n"
    code += "    logging.getLogger(name).warning('warned by %s', name)\n"
    code += "logging.getLogger('bitsandbytes.backends.cpu.ops').warning('no kernels')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told = [line.split()[0] for line in done.stderr.splitlines()]
    assert told == ["told", "warned", "warned"] and "kernels" not in done.stderr


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--format", "ro-crate", "--organisation", "x"], "--organization"),
        (["--formt", "ro-crate"], "--format"),  # which is required
    ],
)
def test_an_unknown_option_names_the_nearest(words, option, capsys):
    with pytest.raises(SystemExit):
        cli.main(["export-rows", "demo", "folder", *words])
    assert f"did you mean {option}?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["run", "mien"], ["status", "mien"], ["explain", "mien/a/b"]])
def test_an_unknown_study_may_be_one_of_another_file(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 1
    assert "-c FILE" in capsys.readouterr().err
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    assert cli.main([*words, "-c", "mine.yaml"]) == 1
    said = capsys.readouterr().err
    assert "no study 'mien'" in said and "-c FILE" not in said


def test_verify_takes_the_name_of_a_study(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["verify", "mine"]) == 1
    assert "there is no such table" in capsys.readouterr().err
    (tmp_path / "results").mkdir()
    (tmp_path / "results/mine.parquet").write_text("no table")
    assert cli.main(["verify", "mine"]) == 1
    assert "results/mine.parquet: 1 difference" in capsys.readouterr().out

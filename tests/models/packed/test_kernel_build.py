"""Building kernels: once, into a cache, and one sentence where it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from prunegrid.common.errors import PrunegridError
from prunegrid.models.packed import kernel_build
from tests.helpers.runs import FOR_EVER, ROOT

# It stands in for a compiler: says its version, notes each call, and writes what is asked for.
COMPILER = """#!/bin/sh
if [ "$1" = --version ]; then echo "${VERSION:-1}"; exit; fi
echo "$@" >> "$CALLS"
case "$*" in *${FAILS:-nothing}*) echo "x.cpp:1: fatal error: $FAILS" >&2; exit 1;; esac
while [ "$1" != -o ]; do shift; done
echo made > "$2"
"""


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A stand-in for a compiler, and the file of its calls."""
    script, calls = tmp_path / "compiler", tmp_path / "calls"
    script.write_text(COMPILER)
    script.chmod(0o755)
    facts = {"CXX": script, "CALLS": calls, "FAILS": "", "XDG_CACHE_HOME": tmp_path / "cache"}
    for name, value in facts.items():
        monkeypatch.setenv(name, str(value))
    return calls


def test_it_is_built_once_and_says_so(compiler, caplog):
    built = kernel_build.library()
    assert built.read_text() == "made\n"
    assert "building the kernels for packed weights, once: about" in caplog.text
    lines = compiler.read_text().splitlines()
    assert len(lines) == len(kernel_build.FLAGS) + 2
    assert kernel_build.library() == built and compiler.read_text().splitlines() == lines
    assert {path.name for path in built.parent.iterdir()} <= {kernel_build.LIBRARY, "lock"}


def test_each_instruction_set_has_its_own_flags(compiler):
    kernel_build.library()
    lines = {line.split("/")[-1].split(".")[0]: line for line in compiler.read_text().splitlines()}
    x86 = kernel_build.platform.machine() in kernel_build.X86
    assert ("-mavx2" in lines["avx2"]) == x86 and ("-mavx512vbmi2" in lines["avx512"]) == x86
    assert "-mavx" not in lines["plain"] and "-mavx" not in lines["operators"]


@pytest.mark.parametrize("change", ["source", "torch", "compiler", "flags"])
def test_what_a_build_depends_on_is_in_its_name(compiler, tmp_path, monkeypatch, change):
    first = kernel_build.library()
    if change == "source":
        sources = tmp_path / "sources"
        sources.mkdir()
        for path in kernel_build.SOURCES.glob("*.[ch]*"):
            (sources / path.name).write_bytes(path.read_bytes() + b"\n")
        monkeypatch.setattr(kernel_build, "SOURCES", sources)
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "0")
    elif change == "compiler":
        monkeypatch.setenv("VERSION", "2")
    else:
        monkeypatch.setitem(kernel_build.FLAGS, "plain", ("-mnone",))
    assert kernel_build.library() != first


def test_two_processes_build_it_once(compiler):
    command = [sys.executable, "-m", kernel_build.__name__]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow/lib")}
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    places = {job.communicate(timeout=FOR_EVER)[0].strip() for job in both}
    assert [job.returncode for job in both] == [0, 0] and len(places) == 1
    assert Path(places.pop()).exists()
    assert sum("-shared" in line for line in compiler.read_text().splitlines()) == 1


def test_no_compiler_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PrunegridError, match="no C.. compiler was found; expected one of c"):
        kernel_build.library()
    monkeypatch.setenv("CXX", "ccache missing-compiler")
    with pytest.raises(PrunegridError, match="CXX: the C.. compiler ccache was not found"):
        kernel_build.library()


def test_a_torch_without_headers_is_told(compiler, monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "torch/__init__.py"))
    with pytest.raises(PrunegridError, match="torch was installed without its C.. headers"):
        kernel_build.library()


def test_what_the_compiler_says_is_told_and_nothing_stays(compiler, monkeypatch, tmp_path):
    monkeypatch.setenv("FAILS", "avx2.cpp")
    with pytest.raises(PrunegridError, match="could not build.*fatal error: avx2.cpp.*CXX"):
        kernel_build.library()
    assert not list((tmp_path / "cache").rglob("*.so"))
    monkeypatch.setenv("FAILS", "")
    assert kernel_build.library().exists()


def test_a_cache_that_cannot_be_written_is_told(compiler, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(PrunegridError, match="cannot be written.*set XDG_CACHE_HOME"):
        kernel_build.library()


def test_the_command_says_where_or_why_not(compiler, monkeypatch, capsys):
    kernel_build.main()
    assert capsys.readouterr().out.strip() == str(kernel_build.library())
    monkeypatch.setenv("CXX", "missing-compiler")
    with pytest.raises(SystemExit, match="error: CXX: the C.. compiler missing-compiler"):
        kernel_build.main()


def test_the_sources_are_data_of_the_package():
    project = (ROOT / "pyproject.toml").read_text()
    assert '"prunegrid.models.packed.kernels" = ["*.cpp", "*.h"]' in project
    names = {path.name for path in kernel_build.SOURCES.glob("*.cpp")}
    assert names == {f"{name}.cpp" for name in (*kernel_build.FLAGS, kernel_build.OPERATORS)}

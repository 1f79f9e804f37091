"""A step that starts from the warm process runs as `python step.py` would, and ends as it would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.helpers import ROOT, warm

TOLD = """
import json, os, sys
print(json.dumps({"folder": os.getcwd(), "words": sys.argv, "is_warm": "torch" in sys.modules}))
print(json.dumps([__name__, sys.path[0], os.environ["TOLD"], "prunegrid" in sys.modules]))
print("aside", file=sys.stderr)
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a script as Snakemake starts a step's."""
    script = tmp_path / ".snakemake/scripts/tmpx.step.py"
    script.parent.mkdir(parents=True)

    def started(text: str, **more: str) -> subprocess.Popen:
        script.write_text(text)
        environment = {**os.environ, **warm.environment(ROOT / "workflow/lib"), "TOLD": "x", **more}
        words = [sys.executable, str(script), "a word"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(words, cwd=tmp_path, env=environment, **pipes)

    return started


def test_it_has_its_own_folder_words_and_environment(start, tmp_path):
    process = start(TOLD)
    out, aside = process.communicate()
    script = tmp_path / ".snakemake/scripts/tmpx.step.py"
    first, second = map(json.loads, out.splitlines())
    assert first == {"folder": str(tmp_path), "words": [str(script), "a word"], "is_warm": True}
    # Nothing of prunegrid was there before: a run may be that of a changed copy.
    assert second == ["__main__", str(script.parent), "x", False]
    assert aside == "aside\n" and process.returncode == 0


def test_it_starts_cold_where_packages_have_read_another_environment(start, tmp_path):
    out, _ = start(TOLD, HF_HOME=str(tmp_path)).communicate()
    assert json.loads(out.splitlines()[0])["is_warm"] is False
    out, _ = start(TOLD, PRUNEGRID_WARM="").communicate()
    assert json.loads(out.splitlines()[0])["is_warm"] is False


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("raise SystemExit(3)", 3, ""),
        ("import sys; sys.exit('a sentence')", 1, "a sentence"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("import atexit, sys; atexit.register(print, 'at last', file=sys.stderr)", 0, "at last"),
    ],
)
def test_it_ends_as_the_script_does(start, text, code, said):
    process = start(text)
    _, aside = process.communicate()
    assert process.returncode == code and said in aside


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_step(start, number):
    process = start("import time\nprint('here', flush=True)\ntime.sleep(600)")
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    process.communicate()
    assert process.returncode in (-number, 130)

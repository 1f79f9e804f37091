"""Facts of Python files that are kept between processes: the same as parsed, or parsed again."""

import json
import subprocess
import sys

import pytest

from prunegrid.common import source_code
from prunegrid.common.source_code import LIBRARY

SOURCE = "import math\nfrom .beside import x\nNAMES = {'a': (1, 2)}\ndef f():\n    return 1\n"
CODE = """
import ast, sys
from pathlib import Path
from prunegrid.common import source_code
parses = []
ast.parse = lambda source, parse=ast.parse: parses.append(1) or parse(source)
for path in sys.argv[1:]:
    print(source_code.facts(Path(path)))
print(len(parses))
"""


def facts(folder, *paths):
    """Return (the lines of facts, files parsed) of a fresh process in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, paths)],
        cwd=folder,
        env={"PYTHONPATH": str(LIBRARY)},
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, parsed = done.stdout.splitlines()
    return lines, int(parsed)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / "one.py").write_text(SOURCE)
    return tmp_path


def test_a_second_process_parses_nothing_and_has_the_same_facts(folder):
    path = folder / "one.py"
    first, again = facts(folder, path), facts(folder, path)
    assert first == ([str(source_code.Facts(*source_code.facts(path)))], 1)
    assert again == (first[0], 0)
    other = folder / "copy.py"
    other.write_text(SOURCE)
    assert facts(folder, other) == (first[0], 0)


def test_an_edited_file_is_parsed_and_others_stay(folder):
    path, other = folder / "one.py", folder / "other.py"
    other.write_text("Y = 2\n")
    before, _ = facts(folder, path, other)
    path.write_text(SOURCE.replace("return 1", "return 2"))
    after, parsed = facts(folder, path, other)
    assert parsed == 1 and after[0] != before[0] and after[1] == before[1]
    path.write_text(SOURCE)
    assert facts(folder, path, other) == (before, 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: json.dumps({**json.loads(text), "made_by": "another version"}),
        lambda text: json.dumps({**json.loads(text), "files": {"0": ["x"]}}),
        lambda text: json.dumps({**json.loads(text), "files": 3}),
    ],
)
def test_what_is_damaged_or_of_another_version_is_made_again(folder, damage):
    path, kept = folder / "one.py", folder / source_code.CACHE
    first, _ = facts(folder, path)
    text = kept.read_text()
    kept.write_text(damage(text))
    assert facts(folder, path) == (first, 1)
    assert kept.read_text() == text or damage(text) != "[]"


def test_nothing_is_kept_where_snakemake_has_no_folder(tmp_path):
    (tmp_path / "one.py").write_text(SOURCE)
    assert facts(tmp_path, "one.py")[1] == facts(tmp_path, "one.py")[1] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["one.py"]

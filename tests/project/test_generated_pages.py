"""The pages and the schema that are written from the code are what the code says now."""

import re
import subprocess
import sys

import pytest

from prunegrid.tables import census, schema
from tests.helpers import ROOT

NAMES = [
    "config/schema.json",
    *(f"docs/reference/{name}.md" for name in ("columns", "commands", "config-keys")),
    *(f"docs/reference/{name}.md" for name in ("methods", "metrics")),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    subprocess.run([sys.executable, ROOT / "docs/generate.py", folder], cwd=ROOT, check=True)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_file_is_what_the_code_writes(name, written):
    wanted = (written / name).read_text(encoding="utf-8")
    assert (ROOT / name).read_text(encoding="utf-8") == wanted, "run python docs/generate.py"


def test_nothing_else_is_written(written):
    found = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    assert found == set(NAMES)


def test_every_column_of_every_table_has_its_row():
    text = (ROOT / "docs/reference/columns.md").read_text(encoding="utf-8")
    several = [one for module in (schema, census) for one in vars(module).values()]
    listed = [one for one in several if isinstance(one, tuple)]
    columns = {one for group in listed for one in group if isinstance(one, schema.Column)}
    assert len(columns) > 200
    missing = [c.name for c in columns if f"| `{c.name}` | {c.dtype} | " not in text]
    assert missing == []


@pytest.mark.parametrize("name", NAMES[1:])
def test_each_row_of_a_table_has_all_cells(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", row)[1:-1] for row in block.splitlines()]
        assert len({len(row) for row in rows}) == 1 and len(rows) > 2
        assert all(
            row[0].strip() and row[-1].strip() for row in rows if "source" not in rows[0][-1]
        )

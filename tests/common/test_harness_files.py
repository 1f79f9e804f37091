"""The lines that define a benchmark of the harness, from its own files."""

import pytest
import yaml

from prunegrid.common import harness_files
from tests.helpers import shipped
from tests.helpers.shipped import check, faults


@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge", "boolq", "sciq", "lambada_openai"])
def test_the_lines_can_be_pasted(name):
    raw = shipped.config()
    raw["evaluations"]["mine"] = {"kind": "tasks", "tasks": [name]}
    (told,) = faults(raw)
    first, *lines = told.split("\n")
    assert f"is '{name}', which is not in `tasks`" in first and len(lines) == 2
    for line in lines:
        ((section, bodies),) = yaml.safe_load(line).items()
        raw[section] |= bodies
    config = check(raw)
    assert config.profile("tasks", name).split in config.profile("datasets", f"{name}-rows").splits


def test_what_the_harness_lacks_has_no_lines():
    raw = shipped.config()
    raw["evaluations"]["mine"] = {"kind": "tasks", "tasks": ["pica"]}
    (told,) = faults(raw)
    assert "did you mean 'piqa'" in told and "\n" not in told


def test_no_definition_breaks_the_reader():
    """Those with code, groups and includes too."""
    names = sorted(harness_files.files())
    assert len(names) > 5000
    several = [harness_files.lines_for(name) for name in names[:: len(names) // 60]]
    assert all(len(lines) in (0, 2) for lines in several) and any(several)

"""Code that keys leave out changes no byte of any artifact, however it is written."""

import json
import shutil

import pytest

from prunegrid.artifacts.keys import LEFT_OUT
from tests.helpers import warm
from tests.helpers.runs import ROOT, Run

# {module: (text, text in its place)}: each does its work in another way.
CHANGES = {
    "prunegrid.artifacts.artifact_folder": [
        ('f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"', 'f".{folder.name}.0.tmp"'),
        ("if free < needed:", "if free < 2 * needed:"),
        ("wanted = 0o666 & ~mask", "wanted = 0o600"),
    ],
    "prunegrid.common.timing_guard": [("under_way.append(what)", "under_way.insert(0, what)")],
    "prunegrid.common.device_meters": [
        ("return torch.cuda.max_memory_allocated(device)", "return 1"),
        ("return int(line.split()[1]) * 1024", "return 1"),
    ],
    "prunegrid.common.errors": [
        ('f"{where}: {what}"', 'f"In {where}, {what}"'),
        ("cutoff=0.5", "cutoff=0.9"),
    ],
    "prunegrid.common.gc_pause": [
        ("    gc.disable()", "    gc.collect()"),
        ("gc.freeze()", "pass"),
    ],
    "prunegrid.common.malloc": [
        ("2**20", "2**22"),
        ("_M_ARENA_MAX, 1)", "_M_ARENA_MAX, 2)"),
    ],
}
# Times of other runs are other bytes.
TIMED = "efficiency"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A copy of the library in which all modules that are left out are changed."""
    place = tmp_path_factory.mktemp("changed") / "lib"
    shutil.copytree(ROOT / "workflow/lib", place, ignore=shutil.ignore_patterns("__pycache__"))
    for module, changes in CHANGES.items():
        path = place.joinpath(*module.split(".")).with_suffix(".py")
        text = path.read_text()
        for old, new in changes:
            assert old in text, f"{module} has no {old!r}"
            text = text.replace(old, new)
        path.write_text(text)
    return place


def contents(run):
    """Return {artifact: digest of its files}."""
    manifests = (run.folder / "results/artifacts").glob("*/*/manifest.json")
    return {
        path.parent.relative_to(run.folder).as_posix(): json.loads(path.read_text())["content"]
        for path in manifests
        if path.parent.parent.name != TIMED
    }


def test_each_module_that_is_left_out_is_changed_here():
    assert CHANGES.keys() == LEFT_OUT.keys()


def test_changing_what_is_left_out_changes_no_key_and_no_byte(finished, library, tmp_path):
    run = Run.fresh(tmp_path / "run")
    run.make_artifacts("tiny", **warm.environment(library))
    assert contents(run) == contents(finished)

"""The same seed gives the same bytes, in one process and in others."""

import os
import subprocess
import sys

import pytest

from prunegrid.artifacts import artifact_folder
from prunegrid.common.source_code import LIBRARY
from tests.helpers import ROOT, tiny
from tests.helpers.tuning import tune

pytestmark = pytest.mark.model

WAYS = [
    ("full", {}), ("norms", {}), ("lora", {}), ("lora", {"adapter": "unmerged"}),
    ("qlora", {}), ("qlora", {"adapter": "merged"}),
]  # fmt: skip


@pytest.mark.parametrize("strategy,settings", WAYS)
def test_same_seed_same_bytes(tmp_path, strategy, settings):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    settings = settings | {"dropout": 0.1, "max_steps": 3}
    _, one = tune(tmp_path, parent, strategy, "one", **settings)
    _, two = tune(tmp_path, parent, strategy, "two", **settings)
    for folder in (one, two):
        (folder / artifact_folder.MANIFEST).unlink()
    assert artifact_folder.list_files(one) == artifact_folder.list_files(two)


IN_A_PROCESS_OF_ITS_OWN = """
import pathlib, sys, torch
from tests.helpers import tiny
from tests.helpers.tuning import tune
torch.set_num_threads(1)
place = pathlib.Path(sys.argv[1])
parent = tiny.artifact(place / "parent", "llama", "2:4")
record, _ = tune(place, parent, "qlora", dropout=0.1, max_steps=3)
print("sha256", record["weights"]["sha256"])
"""


def test_same_seed_same_bytes_whatever_pythons_hash_seed(tmp_path):
    found = set()
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        paths = os.pathsep.join(str(p) for p in (ROOT, LIBRARY))
        done = subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN, str(tmp_path / number)],
            env={**os.environ, "PYTHONHASHSEED": number, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout.split("sha256")[-1].strip())
    assert len(found) == 1 and len(found.pop()) == 64

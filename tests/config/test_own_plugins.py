"""A user's own plugins by the path of a file: found, checked, and in the key by their content."""

from __future__ import annotations

import shutil

import pytest

from prunegrid.common import plugins
from prunegrid.common.source_code import LIBRARY
from prunegrid.config.config_files import ConfigError
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from tests.helpers import ROOT, shipped

# {kind: (the library's file that stands in for an own one, section, a profile that names it)}.
OWN = {
    "pruning method": ("pruning/criteria/magnitude", "prune", {"method": "{}", "pattern": "2:4"}),
    "criterion of structured pruning": (
        "pruning/structured/magnitude",
        "prune",
        {"method": "{}", "pattern": "structured", "units": ["mlp"], "sparsity": 0.5},
    ),
    "update": (
        "pruning/updates/none",
        "prune",
        {"method": "magnitude", "pattern": "2:4", "update": "{}"},
    ),
    "allocation": (
        "pruning/allocation/uniform",
        "prune",
        {"method": "magnitude", "sparsity": 0.5, "allocation": "{}"},
    ),
    "strategy": ("finetuning/strategies/full", "finetune", {"strategy": "{}", "rows": 4}),
}


def own_file(folder, source, more=""):
    """Write a copy of a library's plugin, with more code, as mine.py; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(LIBRARY / f"prunegrid/{source}.py", folder / "mine.py")
    with (folder / "mine.py").open("a", encoding="utf-8") as handle:
        handle.write(more)
    return folder / "mine.py"


def step(kind, path, base=ROOT):
    """Return the last node of a study's cell that uses an own plugin."""
    plugins.files.cache_clear()  # as a new process would
    _, section, body = OWN[kind]
    body = {key: str(path) if value == "{}" else value for key, value in body.items()}
    raw = shipped.config()
    raw[section]["own"] = body
    grid = {"model": "smollm2-135m", section: "own"}
    raw["studies"] = {"s": {"dataset": "aclsum", "grid": grid, "evaluations": ["wikipedia-512"]}}
    graph = Graph(validate(raw, shipped.FILES, base), ROOT)
    return graph.plans("s")[0].chain[-1]


@pytest.mark.parametrize("kind", OWN)
def test_the_content_counts_in_the_key_and_the_place_does_not(tmp_path, kind):
    source = OWN[kind][0]
    first = step(kind, own_file(tmp_path / "a", source))
    moved = step(kind, own_file(tmp_path / "b", source))
    changed = step(kind, own_file(tmp_path / "c", source, "\nMORE = 1\n"))
    assert first.key == moved.key != changed.key
    assert "mine.py" in first.settings.values()
    assert first.params()["settings"][plugins.OWN] == {kind: [str(tmp_path / "a/mine.py")]}


def test_a_relative_path_starts_from_the_folder_of_the_run(tmp_path):
    own_file(tmp_path, OWN["pruning method"][0])
    assert step("pruning method", "./mine.py", tmp_path).settings["method"] == "mine.py"


def test_inline_profiles_vary_over_own_files_and_are_named_by_them(tmp_path):
    own_file(tmp_path, OWN["pruning method"][0])
    raw = shipped.config()
    prune = {"method": ["./mine.py", "magnitude"], "sparsity": [0.5]}
    grid = {"model": "smollm2-135m", "prune": prune}
    raw["studies"] = {"s": {"dataset": "aclsum", "grid": grid, "evaluations": ["wikipedia-512"]}}
    plans = Graph(validate(raw, shipped.FILES, tmp_path), ROOT).plans("s")
    assert [plan.cell.names("prune") for plan in plans] == ["mine-0.5", "magnitude-0.5"]


def test_a_control_by_path_is_written_with_the_others(tmp_path):
    path = tmp_path / "mine.py"
    shutil.copy(LIBRARY / "prunegrid/evaluation/baselines/lead.py", path)
    raw = shipped.config()
    raw["evaluations"]["papers"]["baselines"] = {"own": {"method": str(path), "words": 5}}
    raw["studies"] = {
        "s": {"dataset": "aclsum", "grid": {"model": "smollm2-135m"}, "evaluations": ["papers"]}
    }
    (part,) = Graph(validate(raw, shipped.FILES, ROOT), ROOT).controls("s").values()
    assert part.node.settings[plugins.OWN] == {"baseline": [str(path)]}
    assert str(path) in part.node.roots


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (None, "no file"),
        ("NEEDS = 'nothing'\n", "prune_linear"),
        ("NEEDS = 'nothing'\n\ndef prune_linear():\n    pass\n", "SETTINGS"),
        ("def prune_linear(:\n", "Python"),
    ],
)
def test_a_file_that_is_no_plugin_is_refused_with_its_place(tmp_path, text, word):
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        step("pruning method", tmp_path / "mine.py")
    (fault,) = caught.value.faults
    assert "prune.own.method" in fault
    assert word in fault


def test_two_different_files_of_one_name_are_refused(tmp_path):
    raw = shipped.config()
    for name in ("a", "b"):
        path = own_file(tmp_path / name, OWN["pruning method"][0], f"\nMORE = {name!r}\n")
        raw["prune"][name] = {"method": str(path), "pattern": "2:4"}
    with pytest.raises(ConfigError, match="rename"):
        validate(raw, shipped.FILES, ROOT)

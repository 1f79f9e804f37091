"""Links to the weights of a study's cells: by readable names, relative, and never stale."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prunegrid.commands import collect_garbage, repair
from prunegrid.graph.nodes import with_ancestors
from prunegrid.tables import model_links
from prunegrid.tables.table_plan import study_plan
from tests.helpers import ROOT
from tests.helpers.study_world import graph, make

RESULTS = Path("results")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The plan of a finished study of four cells, and its graph."""
    monkeypatch.chdir(tmp_path)
    whole = graph()
    for node in with_ancestors(whole.study_leaves("s")):
        make(node)
    return study_plan(whole, "s", ROOT), whole


def links():
    return {path.name: path for path in (RESULTS / "models/s").iterdir()}


def test_each_cell_has_a_relative_link_to_its_weights(made):
    plan, whole = made
    model_links.write(plan, RESULTS)
    found = links()
    cells = {"dense--none", "dense--demo-full", "wiki-wanda-50--none", "wiki-wanda-50--demo-full"}
    assert {name.removesuffix("--seed0") for name in found} == cells
    for cell, name in zip(whole.plans("s"), model_links.names(plan["cells"]), strict=True):
        assert not os.path.isabs(os.readlink(found[name]))
        assert found[name].resolve() == cell.chain[-1].path.resolve()
        assert (found[name] / "model.safetensors").is_file()


def test_links_of_other_cells_and_of_dropped_weights_go_and_a_user_s_files_stay(made):
    plan, whole = made
    model_links.write(plan, RESULTS)
    (RESULTS / "models/s/notes.txt").write_text("mine")
    (RESULTS / "models/s/old").symlink_to("nowhere")
    pruned = whole.plans("s")[2].chain[-1]
    Path(pruned.manifest).rename(pruned.path / "dropped.json")
    model_links.tidy(RESULTS)
    assert len(links()) == 4 and "old" not in links()
    (RESULTS / "models/s/old").symlink_to("../../artifacts")
    model_links.write(plan, RESULTS)
    assert len(links()) == 4 and {"old", "wiki-wanda-50--none"}.isdisjoint(links())
    assert (RESULTS / "models/s/notes.txt").read_text() == "mine"


def test_a_link_follows_its_cell(made):
    plan, _ = made
    model_links.write(plan, RESULTS)
    first, second = plan["cells"][:2]
    first["chain"], second["chain"] = second["chain"], first["chain"]
    model_links.write(plan, RESULTS)
    name = model_links.names(plan["cells"])[0]
    assert links()[name].resolve().name == first["chain"][-1]["key"]
    assert not list((RESULTS / "models/s").glob(".*"))


def test_names_are_safe_short_and_differ():
    def cell(prune, key="k" * 16, **more):
        columns = {"model": "m", "prune": prune, "finetune": "none", "dataset": "d", "seed": 0}
        return {"columns": columns | more, "chain": [{"key": key, "path": "x"}]}

    cells = [cell("a:b/c d"), cell("a/b:c d"), cell("x" * 300), cell("a", model="n", seed=1)]
    found = model_links.names(cells)
    assert len(set(found)) == 4
    assert found[0] == "m--a_b_c_d--none--seed0" and found[3] == "n--a--none--seed1"
    assert all(len(name) < 256 and "/" not in name and ":" not in name for name in found)


def test_garbage_collection_and_repair_leave_links_and_targets(made):
    plan, whole = made
    model_links.write(plan, RESULTS)
    assert collect_garbage.find([whole], RESULTS) == []
    repair.repair()  # which may find these made-up artifacts damaged, never the links
    assert len(links()) == 4


def test_a_file_system_without_links_costs_one_line(made, monkeypatch, caplog):
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    model_links.write(made[0], RESULTS)
    assert len(caplog.records) == 1 and "not permitted" in caplog.text

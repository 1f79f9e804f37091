"""From cells to artifacts: shared nodes, chains, what a key holds."""

import pytest

from prunegrid.artifacts.keys import reached
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import without_paths
from prunegrid.running import resources
from prunegrid.tables.table_plan import study_plan
from tests.helpers import ROOT, shipped


def config(**study):
    raw = shipped.config()
    base = {"dataset": "aclsum", "evaluations": ["papers"]}
    raw["studies"] = {"s": base | study}
    return validate(raw, shipped.FILES, ROOT)


def test_longer_chains_need_no_new_rule():
    chain = [{"prune": "magnitude-50"}, {"finetune": "full"}, {"prune": "magnitude-2of4"}]
    conf = config(grid={"model": "smollm2-135m", "steps": [chain]})
    plan = Graph(conf, ROOT).plans("s")[0]
    assert [node.stage for node in plan.chain] == ["model", "prune", "finetune", "prune"]
    assert plan.chain[3].parents["weights"] is plan.chain[2]


def test_shared_work_is_one_node():
    conf = config(
        grid={
            "model": "smollm2-135m",
            "prune": "wiki-wanda-50",
            "finetune": ["none", "full", "lora"],
        }
    )
    plans = Graph(conf, ROOT).plans("s")
    assert len({id(plan.chain[1]) for plan in plans}) == 1
    assert len({plan.chain[-1].key for plan in plans}) == 3


def test_seeds_share_what_they_do_not_reach():
    conf = config(
        grid={"model": "smollm2-135m", "prune": "magnitude-50", "finetune": "full", "seed": [0, 1]}
    )
    first, second = Graph(conf, ROOT).plans("s")
    assert first.chain[1] is second.chain[1]
    assert first.chain[2].key != second.chain[2].key


def test_profiles_of_equal_settings_share_artifacts_whatever_their_names():
    raw = shipped.config()
    raw["prune"]["again"] = dict(raw["prune"]["magnitude-50"])
    raw["studies"] = {
        "s": {
            "dataset": "aclsum",
            "evaluations": ["papers"],
            "grid": {"model": "smollm2-135m", "prune": ["magnitude-50", "again"]},
        }
    }
    conf = validate(raw, shipped.FILES, ROOT)
    a, b = Graph(conf, ROOT).plans("s")
    assert a.chain[1].key == b.chain[1].key


def test_how_often_training_saves_its_state_is_in_no_key():
    raw = shipped.config()
    keys = set()
    for every_s in (0, 300.0, None):
        raw["training"] = {"checkpoint_every_s": every_s}
        graph = Graph(validate(raw, shipped.FILES, ROOT), ROOT)
        tuned = {plan.chain[-1] for plan in graph.plans("demo") if "full" in str(plan.cell)}
        for node in tuned:
            assert node.params()["training"] == {"checkpoint_every_s": every_s}
        keys.add(frozenset(node.key for node in tuned))
    assert len(keys) == 1 and keys != {frozenset()}


def test_what_is_held_of_adapters_is_in_no_key_and_in_the_estimate():
    raw = shipped.config()
    keys, needed = set(), {}
    for choice in ("auto", "hold", "form"):
        raw["memory"] = {"adapted": choice}
        graph = Graph(validate(raw, shipped.FILES, ROOT), ROOT)
        tuned = [plan.chain[-1] for plan in graph.plans("demo") if "qlora" in str(plan.cell)]
        node = min(tuned, key=lambda node: node.label)
        keys.add(node.key)
        needed[choice] = resources.memory(resources.step_of(node, lambda _: 10**9))
    assert len(keys) == 1
    assert needed["auto"] == needed["hold"] == needed["form"] + 4 * 10**9 / 1e6


def test_precision_is_an_axis_of_its_own():
    """{dense, pruned} x {tuned or not} x precisions: one cell each, named by what acts."""
    axes = [
        {"prune": ["dense", "magnitude-2of4"]},
        {"finetune": ["none", "full"]},
        {"finetune": ["none", "bfloat16", "nf4"]},
    ]
    conf = config(grid={"model": "smollm2-135m", "steps": [axes]})
    plans = {
        (p.cell.names("prune"), p.cell.names("finetune")): p for p in Graph(conf, ROOT).plans("s")
    }
    assert len(plans) == 12
    stages = [node.stage for node in plans["magnitude-2of4", "full+nf4"].chain]
    assert stages == ["model", "prune", "finetune", "transform"]
    chain = plans["dense", "nf4"].chain
    assert [node.stage for node in chain] == ["model", "transform"]
    assert chain[1].settings == {"strategy": "quantize", "precision": "nf4", "double_quant": True}
    assert "data" not in chain[1].parents
    assert plans["dense", "none"].cell.seed is None is plans["dense", "nf4"].cell.seed
    assert plans["dense", "full+nf4"].cell.seed == 0


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({}, {"grain": "linear", "dampening": 0.01, "iterations": 50, "tolerance": 1e-3}),
        (
            {"grain": "submodule", "epochs": 9},
            {
                **{"grain": "submodule", "learning_rates": [3e-4, 1e-3, 3e-3, 1e-2], "epochs": 9},
                **{"batch_size": 2, "held_out": 0.125, "seed": 0},
            },
        ),
    ],
)
def test_a_refit_has_the_settings_of_its_grain_alone(given, used):
    refit = {"strategy": "reconstruct", "calibration": "wiki-16x256", **given}
    steps = [[{"prune": "wiki-wanda-2of4"}, {"finetune": refit}]]
    conf = config(grid={"model": "smollm2-135m", "steps": steps})
    node = Graph(conf, ROOT).plans("s")[0].chain[-1]
    assert node.settings == {"strategy": "reconstruct", **used}


def test_what_is_refitted_has_its_dense_weights_and_calibration():
    steps = [[{"finetune": "full"}, {"prune": "wiki-wanda-2of4"}, {"finetune": "wiki-reconstruct"}]]
    conf = config(grid={"model": "smollm2-135m", "steps": steps})
    graph = Graph(conf, ROOT)
    model, tuned, pruned, refitted = graph.plans("s")[0].chain
    parents = refitted.parents
    assert refitted.stage == "transform" and parents["weights"] is pruned
    assert parents["dense"] is tuned and parents["calibration"] is pruned.parents["calibration"]
    assert "calibration" not in refitted.settings and refitted.settings["dampening"] == 0.01
    cells = study_plan(graph, "s", ROOT)["cells"]
    assert cells[0]["columns"]["calibration"] == "wiki-16x256"


def test_code_of_training_is_not_in_the_key_of_a_step_without():
    """An edit of the training loop reruns no quantizing, and one of QLoRA no full tuning."""
    closure = {
        name: {
            path.parent.name if path.parent.name == "training" else path.stem
            for path, _ in reached(
                [f"prunegrid.stages.{stage}", f"prunegrid.finetuning.strategies.{name}"]
            )
        }
        for stage, name in (("transform", "quantize"), ("finetune", "full"))
    }
    assert "training" in closure["full"] and "training" not in closure["quantize"]
    assert "quantized" in closure["quantize"] and "quantized" not in closure["full"]


def test_a_cell_depends_on_all_that_its_inputs_depend_on():
    conf = config(grid={"model": "smollm2-135m", "prune": "wiki-wanda-50"})
    stages = [node.stage for node in Graph(conf, ROOT).plans("s")[0].nodes()]
    assert {"calibration", "data", "model", "prune", "predictions", "scores"} <= set(stages)
    assert stages.index("calibration") < stages.index("prune") < stages.index("predictions")


def test_where_a_file_lies_is_in_no_key_and_its_name_may_be_path():
    settings = {
        "source": {"kind": "local", "path": "/a", "digest": "1"},
        "splits": {"path": "train"},
        "metrics": {"path": {"module": "m", "path": "/b/m.py"}},
    }
    assert without_paths(settings) == {
        "source": {"kind": "local", "digest": "1"},
        "splits": {"path": "train"},
        "metrics": {"path": {"module": "m"}},
    }

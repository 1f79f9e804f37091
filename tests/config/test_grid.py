"""From a study to its cells and their artifacts."""

from pathlib import Path

import pytest

from prunegrid.artifacts.keys import reached
from prunegrid.config.config_files import ConfigError
from prunegrid.config.grid import expand
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


def names(**study):
    return [
        (c.model, c.names("prune"), c.names("finetune"), c.seed)
        for c in expand(config(**study), "s")
    ]


def test_a_grid_is_a_product():
    found = names(
        grid={
            "model": "smollm2-135m",
            "prune": ["dense", "magnitude-50"],
            "finetune": ["none", "full"],
        }
    )
    assert len(found) == 4
    assert ("smollm2-135m", "magnitude-50", "full", 0) in found


def test_include_and_exclude():
    grid = {
        "model": "smollm2-135m",
        "prune": ["dense", "magnitude-50"],
        "finetune": ["none", "full"],
    }
    found = names(
        grid=grid,
        exclude=[{"prune": "dense", "finetune": ["full"]}],
        include=[{"model": "smollm2-135m", "prune": "magnitude-2of4"}],
    )
    assert [(p, f) for _, p, f, _ in found] == [
        ("dense", "none"),
        ("magnitude-50", "none"),
        ("magnitude-50", "full"),
        ("magnitude-2of4", "none"),
    ]


def test_inline_products_vary_what_is_listed():
    prune = {
        "method": ["magnitude", "wanda"],
        "sparsity": [0.3, 0.5, 0.7],
        "calibration": "wiki-16x256",
    }
    with pytest.raises(ConfigError, match="not used by magnitude"):
        names(grid={"model": "smollm2-135m", "prune": prune})
    prune = {"method": "wanda", "sparsity": [0.3, 0.5, 0.7], "calibration": "wiki-16x256"}
    found = names(grid={"model": "smollm2-135m", "prune": [prune, "dense"]})
    assert [p for _, p, _, _ in found] == ["wanda-0.3", "wanda-0.5", "wanda-0.7", "dense"]


def test_a_seed_that_reaches_nothing_is_no_replicate():
    grid = {
        "model": "smollm2-135m",
        "prune": ["dense", "magnitude-50", "wiki-wanda-50"],
        "seed": [0, 1, 2],
    }
    found = names(grid=grid)
    assert [(p, s) for _, p, _, s in found] == [
        ("dense", None),
        ("magnitude-50", None),
        ("wiki-wanda-50", 0),
        ("wiki-wanda-50", 1),
        ("wiki-wanda-50", 2),
    ]


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


def test_table3_has_the_fourteen_rows():
    conf = validate(shipped.config(), shipped.FILES, ROOT)
    assert len(expand(conf, "table3")) == 14
    assert len(expand(conf, "table3-legacy")) == 14
    # dense/none, and magnitude/none, draw nothing: one cell each where the others have three seeds
    assert len(expand(conf, "table3-full")) == 2 * (40 * 3 - 4 * 2)


def test_learning_rates_are_tried_and_a_listed_learning_rate_is_varied():
    tuned = {"strategy": ["full", "lora"], "dev_split": "dev", "learning_rates": [1e-4, 1e-3]}
    found = names(grid={"model": "smollm2-135m", "prune": "dense", "finetune": tuned})
    assert [f for _, _, f, _ in found] == ["full", "lora"]
    tuned = {"strategy": "full", "learning_rate": [1e-4, 1e-3]}
    found = names(grid={"model": "smollm2-135m", "prune": "dense", "finetune": tuned})
    assert [f for _, _, f, _ in found] == ["full-0.0001", "full-0.001"]


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


def test_inline_profiles_of_two_methods_keep_all_their_cells():
    tuned = {"strategy": ["lora", "qlora"], "rank": [8, 16]}
    found = names(grid={"model": "smollm2-135m", "prune": "dense", "finetune": tuned})
    assert sorted(f for _, _, f, _ in found) == ["lora-16", "lora-8", "qlora-16", "qlora-8"]


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


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (
            {"prune": [{"method": "magnitude", "sparsity": s} for s in (0.3, 0.5)]},
            "gives two profiles the name 'magnitude'",
        ),
        ({"steps": 5}, "must be a list of chains"),
        ({"steps": [{"prune": "dense"}]}, "must be a list of chains"),
        ({"prune": [["dense"]]}, "expected names of `prune`"),
        ({"steps": [[{"finetune": "qlora"}, {"prune": "magnitude-50"}]]}, "after qlora"),
        ({"steps": [[{"finetune": "nf4"}, {"finetune": "full"}]]}, "full after nf4"),
        (
            {"steps": [[{"finetune": "equal-lora-unmasked"}, {"finetune": "nf4"}]]},
            "nf4 after equal-lora-unmasked",
        ),
        (
            {
                "steps": [
                    [
                        {"prune": "magnitude-50"},
                        {"finetune": "full"},
                        {"finetune": "wiki-reconstruct"},
                    ]
                ]
            },
            "must come right after pruning",
        ),
        (
            {
                "steps": [
                    [{"prune": "magnitude-50"}, {"finetune": "full"}],
                    [{"finetune": "full"}, {"prune": "magnitude-50"}],
                ]
            },
            "two cells that the table could not tell apart",
        ),
    ],
)
def test_a_grid_that_would_mislead_is_refused(study, words):
    with pytest.raises(ConfigError, match=words):
        names(grid={"model": "smollm2-135m", **study})


def test_an_exclusion_that_matches_nothing_is_refused():
    with pytest.raises(ConfigError, match="matches no cell"):
        names(grid={"model": "smollm2-135m"}, exclude=[{"prune": "magnitud-50"}])


def test_a_cell_depends_on_all_that_its_inputs_depend_on():
    conf = config(grid={"model": "smollm2-135m", "prune": "wiki-wanda-50"})
    stages = [node.stage for node in Graph(conf, ROOT).plans("s")[0].nodes()]
    assert {"calibration", "data", "model", "prune", "predictions", "scores"} <= set(stages)
    assert stages.index("calibration") < stages.index("prune") < stages.index("predictions")


def graph_of_texts(*changes):
    """Return the graph of a study of one cell, evaluated by texts, its config changed."""
    raw = shipped.config()
    grid = {"model": "smollm2-135m"}
    raw["studies"] = {"s": {"dataset": "aclsum", "evaluations": ["papers"], "grid": grid}}
    for change in changes:
        change(raw)
    return Graph(validate(raw, shipped.FILES, ROOT), ROOT)


def scores_nodes(*changes):
    """Return {"cell": its scores, "controls": of the same evaluation}."""
    graph = graph_of_texts(*changes)
    (controls,) = {part.node for part in graph.controls("s").values()}
    return {"cell": graph.plans("s")[0].texts["test"][1], "controls": controls}


def without_controls(*names):
    """Return a change of the config that takes controls out."""

    def change(raw):
        for name in names:
            del raw["evaluations"]["papers"]["baselines"][name]

    return change


def test_scores_depend_on_the_data_and_the_prompt_only_where_a_metric_reads_them():
    def metrics(*names):
        return lambda raw: raw["evaluations"]["papers"].update(metrics=list(names))

    def prompted(raw):
        raw["datasets"]["aclsum"]["prompt"] = "{document}\nTL;DR"

    always = {"metrics", "documents", "controls", "seed"}
    for metric, read in (("length", set()), ("copying", {"split"}), ("echo", {"template"})):
        found = scores_nodes(metrics(metric))
        assert found["cell"].settings.keys() == {"metrics", *read}
        assert found["controls"].settings.keys() == {*always, *read}
        data = {"data"} if "split" in read else set()
        assert set(found["cell"].parents) == {"predictions", *data}
        assert set(found["controls"].parents) == {"data"}
    unread = without_controls("prompt-echo")
    for changes, reruns in (
        ([metrics("copying")], {"cell", "controls"}),
        ([metrics("copying"), unread], {"cell"}),
        ([metrics("echo"), unread], {"cell", "controls"}),
    ):
        before, after = scores_nodes(*changes), scores_nodes(*changes, prompted)
        assert {label for label in before if before[label].key != after[label].key} == reruns


def test_scores_are_pinned_to_what_their_metrics_call(tmp_path):
    """Packages follow the metrics, whatever was predicted; a model's are those that run it."""
    own, theirs = tmp_path / "own.py", tmp_path / "theirs.py"
    declared = "COLUMNS = {}\nPACKAGES = ('sacrebleu', 'of-theirs')\n"
    own.write_text(f"{declared}def compute(predictions, references):\n    return {{}}\n")
    theirs.write_text(declared)  # without `compute` it is a module of `evaluate`

    def metrics(*names):
        def change(raw):
            raw["metrics"]["own"] = {"module": str(own)}
            raw["metrics"]["theirs"] = {"module": str(theirs)}
            raw["metrics"]["hub"] = {"module": "hf:exact_match"}
            raw["evaluations"]["papers"].update(metrics=list(names))

        cell, controls = (node.pins.keys() for node in scores_nodes(change).values())
        assert cell == controls
        return cell

    always = {"pandas", "pyarrow"}
    torch = {"torch", "transformers", "tokenizers", "safetensors", "numpy"}
    assert metrics("length") == always
    assert metrics("rouge", "length") == always | {"rouge-score", "nltk"}
    assert metrics("bleu") == metrics("chrf") == metrics("own") == always | {"sacrebleu"}
    assert metrics("theirs") == always | {"sacrebleu", "evaluate"}
    assert metrics("hub", "length") == always | {"evaluate"}
    bert = always | torch | {"bert-score"}
    assert metrics("bertscore_minilm") == bert
    assert metrics("bertscore_minilm", "bleu", "rouge") == bert | {
        "sacrebleu",
        "rouge-score",
        "nltk",
    }


def test_a_seed_reaches_controls_where_one_draws():
    def reruns(*changes):
        before = scores_nodes(*changes)
        after = scores_nodes(*changes, lambda raw: raw.update(seed=7))
        return {label for label in before if before[label].key != after[label].key}

    assert reruns() == reruns(without_controls("other-reference")) == {"controls"}
    assert reruns(without_controls("other-reference", "shuffled-reference")) == set()


def test_controls_of_a_data_set_and_split_are_one_node_that_knows_no_names():
    def rename(raw):
        controls = raw["evaluations"]["papers"]["baselines"]
        raw["evaluations"]["papers"]["baselines"] = {f"my-{n}": c for n, c in controls.items()}
        raw["evaluations"]["mine"] = raw["evaluations"].pop("papers")
        raw["studies"]["s"]["evaluations"] = ["mine"]

    graph, renamed = graph_of_texts(), graph_of_texts(rename)
    (node,) = {part.node for part in graph.controls("s").values()}
    assert {part.node.key for part in renamed.controls("s").values()} == {node.key}
    parts = {name: part.ref["folder"] for (_, name, _), part in graph.controls("s").items()}
    assert parts["lead-60"] == "0-lead" and parts["shuffled-reference"] == "6-shuffled_reference"
    assert [name for _, name, _ in renamed.controls("s")] == [f"my-{name}" for name in parts]
    plans = [study_plan(graph, "s", ROOT) for graph in (graph, renamed)]
    assert plans[0]["key"] != plans[1]["key"]  # the table shows the names
    assert [entry["role"] for entry in plans[0]["baselines"]] == [
        "baseline", "oracle", "oracle", *["gaming"] * 4,
    ]  # fmt: skip


def test_controls_count_the_code_of_each_and_how_a_metric_by_a_model_is_run():
    node = scores_nodes()["controls"]
    assert set(node.parents) == {"data", "bertscore_minilm.model"}
    assert {"prunegrid.evaluation.baselines.lead", "prunegrid.stages.controls:run"} <= {*node.roots}
    assert {Path(root).stem for root in node.roots} >= {"rouge", "bertscore", "labels"}

    def metrics(raw):
        raw["evaluations"]["papers"].update(metrics=["rouge"])

    def threads(raw):
        raw.update(threads=3)

    assert scores_nodes(threads)["controls"].key != node.key
    plain = scores_nodes(metrics)["controls"]
    assert scores_nodes(metrics, threads)["controls"].key == plain.key
    assert (node.compute_dtype, plain.compute_dtype) == ("float32", None)
    fewer = scores_nodes(metrics, without_controls("lead-60"))["controls"]
    assert fewer.code != plain.code


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

"""From a study to its cells and their artifacts."""

from pathlib import Path

import pytest
import shipped

from prunegrid.artifacts.keys import reached
from prunegrid.config.config_files import ConfigError
from prunegrid.config.grid import expand
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import without_paths
from prunegrid.running import resources
from prunegrid.tables.table_plan import study_plan

ROOT = Path(__file__).resolve().parents[2]


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


def scores_nodes(change):
    """Return {label: scores node} of a study of one cell, its config changed."""
    raw = shipped.config()
    grid = {"model": "smollm2-135m"}
    raw["studies"] = {"s": {"dataset": "aclsum", "evaluations": ["papers"], "grid": grid}}
    change(raw)
    graph = Graph(validate(raw, shipped.FILES, ROOT), ROOT)
    found = {name: pair[1] for (_, name, _), pair in graph.baselines("s").items()}
    return found | {"cell": graph.plans("s")[0].texts["test"][1]}


def test_scores_depend_on_the_data_and_the_prompt_only_where_a_metric_reads_them():
    def metrics(*names):
        return lambda raw: raw["evaluations"]["papers"].update(metrics=list(names))

    def prompted(raw):
        raw["datasets"]["aclsum"]["prompt"] = "{document}\nTL;DR"

    plain, copying = scores_nodes(metrics("length")), scores_nodes(metrics("copying"))
    assert all(set(node.parents) == {"predictions"} for node in plain.values())
    assert all(set(node.parents) == {"predictions", "data"} for node in copying.values())
    assert plain["cell"].settings.keys() == {"metrics"}
    assert copying["cell"].settings.keys() == {"metrics", "split"}
    echo = scores_nodes(metrics("echo"))
    assert echo["cell"].settings.keys() == {"metrics", "template"}
    for names, reruns in (("copying", {"prompt-echo", "cell"}), ("echo", set(echo))):
        before = scores_nodes(metrics(names))
        after = scores_nodes(lambda raw, names=names: (metrics(names)(raw), prompted(raw)))
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

        return {name: node.pins for name, node in scores_nodes(change).items()}["cell"].keys()

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


def test_a_seed_reaches_the_controls_that_draw():
    before = scores_nodes(lambda raw: None)
    after = scores_nodes(lambda raw: raw.update(seed=7))
    drawn = {label for label in before if before[label].key != after[label].key}
    assert drawn == {"other-reference", "shuffled-reference"}


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

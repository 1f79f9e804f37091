"""Evaluations of encoders and encoder-decoders in the config: what fits, and what cannot be."""

import copy

import pytest

from prunegrid.config.config_files import ConfigError
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.tables.table_plan import study_plan
from tests.helpers import ROOT, shipped

NAMES = ("architectures", "architectures-small", "architectures-legacy")


@pytest.fixture(scope="module")
def whole():
    return shipped.config()


@pytest.fixture
def raw(whole):
    tree = copy.deepcopy(whole)
    tree["studies"] = {"a": tree["studies"]["architectures-small"]}
    return tree


def check(raw):
    return validate(raw, shipped.FILES, ROOT)


def fault(raw, *words):
    with pytest.raises(ConfigError) as caught:
        check(raw)
    text = "\n".join(caught.value.faults)
    assert all(word in text for word in words), text


def test_each_model_is_asked_what_fits_it(raw):
    graph = Graph(check(raw), ROOT)
    asked = {}
    for plan in graph.plans("a"):
        names = {*plan.texts, *plan.perplexities, *plan.tasks}
        assert asked.setdefault(plan.cell.model, names) == names
        assert plan.efficiency.stage == "passes"
    assert asked == {
        "smollm2-135m": {"wikipedia-512", "papers-outcome", "papers-approach"},
        "minilm": {"papers-roles", "papers-sections"},
        "m2m100-small": {"numbers-en-de", "numbers-en-fr"},
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_studies_have_the_levels_and_benchmarks_of_the_architectures(whole, name):
    tree = {**whole, "studies": {name: whole["studies"][name]}}
    graph = Graph(check(tree), ROOT)
    levels = {}
    for plan in graph.plans(name):
        step = next(s for s in plan.cell.steps if s.kind == "prune")
        levels.setdefault(plan.cell.model, []).append(step.profile.sparsity or 0)
        legacy = name.endswith("legacy") and step.profile.method != "dense"
        assert step.profile.biases == legacy and not step.profile.include
        # Per tensor, over all blocks of all stacks.
        assert step.profile.method == "dense" or step.profile.scope == "layer"
    assert set(map(tuple, levels.values())) == {(0, 0.1, 0.5, 0.9, 0.95, 0.99)}
    plan = study_plan(graph, name, ROOT)
    assert {cliff["split"] for cliff in plan["cliffs"]} and len(graph.study_leaves(name)) > 20
    for cell in plan["cells"]:
        assert len(cell["texts"]) + len(cell["perplexities"]) + len(cell["tasks"]) >= 1


def test_pruning_and_heads_do_not_depend_on_each_other(raw):
    graph = Graph(check(raw), ROOT)
    before = {p.cell.model: p for p in graph.plans("a")}["minilm"]
    changed = copy.deepcopy(raw)
    changed["evaluations"]["papers-roles"]["epochs"] = 3
    after = {p.cell.model: p for p in Graph(check(changed), ROOT).plans("a")}["minilm"]
    assert before.chain[-1].key == after.chain[-1].key
    assert before.tasks["papers-roles"].node.key != after.tasks["papers-roles"].node.key
    assert before.tasks["papers-sections"].node.key == after.tasks["papers-sections"].node.key


def test_a_metric_of_translations_makes_no_other_translations(raw):
    changed = copy.deepcopy(raw)
    changed["evaluations"]["numbers-en-de"]["metrics"] = ["chrf"]
    one, other = (
        {p.cell.model: p for p in Graph(check(tree), ROOT).plans("a")}["m2m100-small"].texts
        for tree in (raw, changed)
    )
    assert one["numbers-en-de"][0].key == other["numbers-en-de"][0].key
    assert one["numbers-en-de"][1].key != other["numbers-en-de"][1].key


def test_sampled_translations_are_of_their_cells_seed(raw):
    study = raw["studies"]["a"]
    study |= {"evaluations": ["wikipedia-512", "papers-roles", "numbers-en-de"], "cliffs": []}
    study["grid"] = [entry | {"seed": [0, 1]} for entry in study["grid"]]
    study["grid"][2]["steps"] = [[{"finetune": "numbers-full"}]]

    def made():
        """Return {model: {seed: key of the translations}}, {} of models that make none."""
        found = {}
        for plan in Graph(check(raw), ROOT).plans("a"):
            (key,) = [pair[0].key for pair in plan.texts.values()] or [None]
            found.setdefault(plan.cell.model, {})[plan.cell.seed] = key
        return found

    greedy = made()
    raw["generation"]["greedy-64"]["do_sample"] = True
    sampled = made()
    for found in (greedy, sampled):  # what draws nothing has no seed
        assert found["smollm2-135m"] == found["minilm"] == {None: None}
    assert set(sampled["m2m100-small"]) == {0, 1}
    study["grid"][2]["steps"] = [[{"prune": "magnitude-50"}]]  # draws nothing itself
    sampled = made()["m2m100-small"]
    assert set(sampled) == {0, 1} and sampled[0] != sampled[1]
    raw["generation"]["greedy-64"]["do_sample"] = False
    assert set(made()["m2m100-small"]) == {None}


def test_scores_of_translations_are_pinned_to_what_their_metrics_call(raw):
    raw["evaluations"]["numbers-en-de"]["metrics"] = ["chrf", "bertscore_minilm"]
    raw["evaluations"]["numbers-en-fr"]["metrics"] = ["length"]
    raw["studies"]["a"]["cliffs"] = []
    texts = {p.cell.model: p for p in Graph(check(raw), ROOT).plans("a")}["m2m100-small"].texts
    assert {"sacrebleu", "bert-score", "torch"} <= texts["numbers-en-de"][1].pins.keys()
    assert texts["numbers-en-fr"][1].pins.keys() == {"pandas", "pyarrow"}


def test_translations_are_keyed_by_what_they_read_of_a_prompt(raw):
    graph = Graph(check(raw), ROOT)
    (made, _) = {p.cell.model: p for p in graph.plans("a")}["m2m100-small"].texts["numbers-en-de"]
    assert made.settings["prompt"] == {"template": "de: {document}", "max_words": None}


@pytest.mark.parametrize("key", ["chat", "end", "max_tokens"])
def test_what_translations_do_not_use_is_refused(raw, key):
    raw["datasets"]["numbers-de"][key] = {"chat": True, "end": ".", "max_tokens": 9}[key]
    fault(raw, "numbers-en-de.dataset is 'numbers-de'", key, "a translation does not use")


def test_whole_passes_leave_other_timings_alone(raw):
    config = check(raw)
    slices = Graph(config, ROOT).slices
    assert "passes" not in slices.efficiency("quick")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: s.update(evaluations=s["evaluations"][:4], cliffs=[]),
            ["has the model 'm2m100-small', of the task seq2seq-lm", "translation would"],
        ),
        (
            lambda s: s.update(grid=s["grid"][:2]),
            ["names 'numbers-en-de', of kind translation", "the grid has none"],
        ),
        (
            lambda s: s["cliffs"].append({"split": "papers-role", "margin": 0.1}),
            ["cliffs.6.split is 'papers-role'", "did you mean 'papers-roles'"],
        ),
        (
            lambda s: s["cliffs"].append({"split": "papers-roles", "metric": "f1", "margin": 0.1}),
            ["cliffs.6.metric is 'f1'"],
        ),
        (
            lambda s: s["cliffs"].append({"split": "papers-roles", "metric": "acc", "margin": 0.0}),
            ["margin", "greater than 0"],
        ),
    ],
)
def test_faults_of_studies(raw, change, words):
    change(raw["studies"]["a"])
    fault(raw, *words)


def one_cliff(raw, **grid):
    study = raw["studies"]["a"]
    study |= {"grid": {"model": "smollm2-135m", **grid}, "evaluations": ["wikipedia-512"]}
    study["cliffs"] = study["cliffs"][:1]


LEVEL = {"method": ["magnitude"], "sparsity": [0.5, 0.9]}


@pytest.mark.parametrize(
    ("prunes", "differ"),
    [
        ([LEVEL | {"scope": ["row", "layer"]}], ("magnitude-0.5-row", "magnitude-0.5-layer")),
        (["magnitude-2of4", LEVEL], ("magnitude-2of4", "magnitude-0.5")),
        (["magnitude-2of4", "magnitude-4of8"], ("magnitude-2of4", "magnitude-4of8")),
        ([LEVEL, {"method": ["random"], "pattern": ["2:4"]}], None),
        ([{"method": ["magnitude"], "pattern": ["3:4", "2:4", "1:4"]}], None),
    ],
)
def test_along_a_cliffs_line_only_the_sparsity_rises(raw, prunes, differ):
    one_cliff(raw, prune=["dense", *prunes])
    if differ is None:
        check(raw)
        return
    one, other = differ
    line = "(smollm2-135m / wikipedia / none / magnitude)"
    fault(raw, f"studies.a.cliffs has '{one}' and '{other}' on one line {line}, which differ")
    raw["studies"]["a"]["cliffs"] = []
    check(raw)


def test_a_pruning_of_what_is_pruned_is_on_no_line_of_one_step(raw):
    twice = [{"prune": "magnitude-50"}, {"prune": LEVEL | {"sparsity": [0.9]}}]
    one_cliff(raw, steps=[[{"prune": "dense"}], twice[:1], twice])
    fault(raw, "cliffs has 'magnitude-50' and 'magnitude-50+magnitude-0.9' on one line")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("papers-roles", {"train_split": "test"}, ["train_split is 'test', which is scored"]),
        (
            "papers-roles",
            {"train_split": "dev"},
            ["train_split is 'dev', no split of 'aclsum-rows'"],
        ),
        (
            "papers-roles",
            {"dataset": "wikipedia"},
            ["of kind text; classification reads kind rows"],
        ),
        ("papers-roles", {"metrics": ["f1"]}, ["metrics.0"]),
        ("numbers-en-de", {"dataset": "aclsum-rows"}, ["translation reads kind summaries"]),
        ("numbers-en-de", {"split": "dev"}, ["split is 'dev', no split of 'numbers-de'"]),
        ("numbers-en-de", {"languages": ["en"]}, ["languages"]),
        ("numbers-en-de", {"metrics": ["blue"]}, ["did you mean 'bleu'"]),
        ("numbers-en-de", {"generation": "greedy"}, ["generation"]),
    ],
)
def test_faults_of_evaluations(raw, name, change, words):
    raw["evaluations"][name] |= change
    fault(raw, *words)


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("train[:500]", ["papers-roles.train_split is 'train', which shares rows with 'test'"]),
        ("train[-500:]", ["papers-sections.train_split is 'train', which shares rows with 'test'"]),
        ("test", []),
    ],
)
def test_a_head_learns_no_row_that_is_scored(raw, test, words):
    raw["datasets"]["aclsum-rows"]["splits"]["test"] = test
    fault(raw, *words) if words else check(raw)


def test_a_head_learns_no_row_of_the_same_file(raw):
    papers = raw["datasets"]["aclsum-rows"]
    papers["files"]["test"] = papers["files"]["train"]
    fault(raw, "papers-roles.train_split is 'train', which shares rows with 'test'")


@pytest.mark.parametrize(("train", "clean"), [("validation[:500]", False), ("train", True)])
def test_no_shown_example_is_scored(raw, train, clean):
    raw["datasets"]["piqa"]["splits"]["train"] = train
    raw["tasks"]["piqa"] |= {"shots": 5, "shots_from": "train"}
    if clean:
        check(raw)
        return
    fault(raw, "tasks.piqa.shots_from is 'train', which shares rows with 'validation'")


def test_a_model_without_a_tokenizer_is_counted_only(raw):
    raw["models"]["minilm"]["tokenizer"] = False
    raw["metrics"].pop("bertscore_minilm")
    for evaluation in raw["evaluations"].values():
        if "bertscore_minilm" in evaluation.get("metrics", []):
            evaluation["metrics"].remove("bertscore_minilm")
    fault(raw, "has the model 'minilm', which has no tokenizer")


def test_evaluated_rows_may_not_be_learned(raw):
    raw["datasets"]["numbers"]["mixture"]["disjoint_from"].remove("numbers-en-fr")
    fault(raw, "'numbers' is not checked against; add 'numbers-en-fr' to its `disjoint_from`")


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"prune": "dense", "model": "absent"}, ["expected.0.cells", "chooses no cell", "dense"]),
        ({"method": "dense"}, ["expected.0.cells.method", "no column that tells cells apart"]),
    ],
)
def test_a_known_value_of_no_cell_is_a_fault(raw, cells, words):
    entry = {"cells": cells, "column": "wikipedia-512_ppl", "value": 1.0, "within": 0.1}
    raw["studies"]["a"]["expected"] = [entry | {"source": "a paper"}]
    fault(raw, *words)


def test_a_study_without_the_dense_model_has_no_anchor(raw):
    study = raw["studies"]["a"]
    entry = {"column": "wikipedia-512_ppl", "value": 1.0, "within": 0.1, "source": "a paper"}
    study["expected"] = [entry | {"cells": {"prune": "dense", "finetune": "none"}}]
    assert check(raw)
    study["exclude"] = [*study.get("exclude", []), {"prune": "dense"}]
    fault(raw, "studies.a.expected.0.cells", "chooses no cell")

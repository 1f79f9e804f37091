"""The grid axis `iterate`: arms over rising sparsities, on equal tokens."""

from collections import Counter

import pytest

from prunegrid.config.config_files import ConfigError
from prunegrid.config.grid import expand
from prunegrid.config.iterate import Schedule
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.tables.aggregate import unique_key
from prunegrid.tables.table_plan import study_plan
from tests.helpers import ROOT, shipped

OPT = ("opt-125m", "opt-350m", "opt-1.3b")
ITERATE = {
    "prune": {"method": "sparsegpt", "calibration": "wiki-16x256", "nested": True},
    "sparsities": [0.2, 0.4],
    "finetune": "tuned",
}


def config(**iterate):
    raw = shipped.config()
    raw["finetune"]["tuned"] = {
        "strategy": "full",
        "window": 64,
        "token_budget": 1000,
        "split": "calibration",
    }
    body = {key: value for key, value in (ITERATE | iterate).items() if value is not None}
    grid = {"model": "smollm2-135m", "iterate": body, "seed": [0, 1]}
    raw["studies"] = {"s": {"dataset": "wikipedia", "grid": grid, "evaluations": ["wikipedia-512"]}}
    return validate(raw, shipped.FILES, ROOT)


def points(seed=0, **iterate):
    """Return (arm, prune names, finetune names) of the cells of one seed."""
    cells = expand(config(**iterate), "s")
    return [(c.arm, c.names("prune"), c.names("finetune")) for c in cells if c.seed in (seed, None)]


def test_the_arms_of_two_sparsities():
    assert points() == [
        ("one-shot", "dense", "none"),
        ("one-shot", "sparsegpt-0.2", "none"),
        ("one-shot", "sparsegpt-0.4", "none"),
        ("one-shot-tuned+iterative", "sparsegpt-0.2", "tuned"),
        ("one-shot-tuned", "sparsegpt-0.4", "tuned-x2"),
        ("iterative", "sparsegpt-0.2+sparsegpt-0.4", "tuned+tuned"),
        ("dense-tuned", "dense", "tuned"),
        ("dense-tuned", "dense", "tuned-x2"),
    ]


def test_all_tuned_arms_get_the_same_tokens_at_a_sparsity():
    budgets = {}
    for cell in expand(config(sparsities=[0.1, 0.2, 0.3]), "s"):
        tuned = [s.profile.token_budget for s in cell.steps if s.kind == "finetune"]
        pruned = [s.profile.sparsity for s in cell.steps if s.kind == "prune"]
        if tuned and pruned:
            budgets.setdefault(pruned[-1], set()).add(sum(tuned))
    assert budgets == {0.1: {1000}, 0.2: {2000}, 0.3: {3000}}


def test_several_prunings_have_lines_of_their_own():
    both = [{"method": "magnitude"}, ITERATE["prune"]]
    found = points(prune=both, arms=["iterative", "one-shot"])
    assert ("iterative", "magnitude-0.2+magnitude-0.4", "tuned+tuned") in found
    assert ("iterative", "sparsegpt-0.2+sparsegpt-0.4", "tuned+tuned") in found
    assert sum(arm == "one-shot" for arm, _, _ in found) == 1 + 2 * 2


def test_a_longer_list_extends_what_is_there():
    def artifacts(sparsities):
        graph = Graph(config(sparsities=sparsities), ROOT)
        return {node.key for plan in graph.plans("s") for node in plan.nodes()}

    short, long = artifacts([0.2, 0.4]), artifacts([0.2, 0.4, 0.6])
    assert short < long


def test_a_chain_prunes_what_the_one_before_tuned():
    graph = Graph(config(arms=["iterative"]), ROOT)
    plans = {plan.cell.names("prune"): plan for plan in graph.plans("s") if plan.cell.seed == 0}
    long = plans["sparsegpt-0.2+sparsegpt-0.4"].chain
    assert [node.stage for node in long] == ["model", "prune", "finetune", "prune", "finetune"]
    assert long[:3] == plans["sparsegpt-0.2"].chain
    assert long[3].parents["weights"] is long[2]


def test_a_dense_model_is_one_row_however_it_is_asked_for():
    """As a profile in one grid, as the beginning of an arm in another."""
    raw = shipped.config()
    grids = [
        {"model": "smollm2-135m", "prune": "dense"},
        {"model": "smollm2-135m", "iterate": ITERATE | {"arms": ["one-shot"], "finetune": "full"}},
    ]
    raw["studies"] = {
        "s": {"dataset": "wikipedia", "grid": grids, "evaluations": ["wikipedia-512"]}
    }
    cells = expand(validate(raw, shipped.FILES, ROOT), "s")
    assert [(c.names("prune"), c.arm) for c in cells] == [
        ("dense", "one-shot"), ("sparsegpt-0.2", "one-shot"), ("sparsegpt-0.4", "one-shot")
    ]  # fmt: skip


def test_no_shipped_study_has_two_rows_alike():
    raw = shipped.config()
    graph = Graph(validate(raw, shipped.FILES, ROOT), ROOT)
    for study in raw["studies"]:
        rows = [cell["columns"] for cell in study_plan(graph, study, ROOT)["cells"]]
        unique_key(rows)
        shown = {tuple(row[k] for k in ("model", "prune", "finetune", "seed")) for row in rows}
        assert len(shown) == len(rows), study


def test_the_legacy_study_prunes_what_the_original_did():
    raw = shipped.config()
    cells = expand(validate(raw, shipped.FILES, ROOT), "figure1-legacy")
    assert Counter(cell.model for cell in cells) == dict.fromkeys(OPT, 27)
    for cell in cells:
        own = ["*.project_in", "*.project_out"] if cell.model == "opt-350m" else []
        assert all(s.profile.include == own for s in cell.steps if s.kind == "prune" and not s.idle)
    names = {cell.names("prune") for cell in cells if cell.model == "opt-350m"}
    assert "sparsegpt-project_in_project_out-0.8" in names and len(names) == 1 + 5 + 5 + 4 + 4


def test_the_table_knows_the_arms():
    cells = study_plan(Graph(config(), ROOT), "s", ROOT)["cells"]
    assert {c["columns"]["arm"] for c in cells} == {
        "one-shot", "one-shot-tuned+iterative", "one-shot-tuned", "iterative", "dense-tuned"
    }  # fmt: skip


def test_schedules_end_where_they_should():
    assert Schedule(shape="linear", to=0.8, steps=4).sparsities() == [0.2, 0.4, 0.6, 0.8]
    # Zhu and Gupta's cubic by hand: 0.8 · (1 - (3/4)³), 0.8 · (1 - (1/2)³), …
    assert Schedule(shape="cubic", to=0.8, steps=4).sparsities() == [0.4625, 0.7, 0.7875, 0.8]
    found = points(sparsities={"shape": "cubic", "to": 0.5, "steps": 2}, arms=["one-shot"])
    assert [prune for _, prune, _ in found] == ["dense", "sparsegpt-0.4375", "sparsegpt-0.5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsities": [0.4, 0.2]}, "each must be above the one before"),
        ({"sparsities": [0.4, 1.0]}, "expected sparsities between 0 and 1"),
        ({"sparsities": []}, "expected sparsities between 0 and 1"),
        ({"sparsities": {"shape": "square", "to": 0.5, "steps": 2}}, "iterate.*shape"),
        ({"finetune": None}, "`finetune` is missing"),
        ({"finetune": "ful"}, "is 'ful', which is not in `finetune`; did you mean 'full'"),
        ({"finetune": "demo-full"}, "has no token_budget"),
        ({"prune": {"method": "wanda", "sparsity": 0.5}}, "takes its sparsity from `sparsities`"),
        ({"prune": {"method": "wanda", "pattern": "2:4"}}, "takes its sparsity from `sparsities`"),
        ({"prune": {"method": "wandas"}}, "did you mean 'wanda'"),
        ({"arms": ["iterativ"]}, "iterate.*arms"),
        ({"levels": 3}, "iterate.*levels"),
    ],
)
def test_faults_are_told(changes, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        config(**changes)


def test_other_steps_beside_it_are_refused():
    raw = shipped.config()
    grid = {"model": "smollm2-135m", "iterate": ITERATE | {"arms": ["one-shot"]}, "prune": "dense"}
    raw["studies"] = {"s": {"dataset": "wikipedia", "grid": grid, "evaluations": ["wikipedia-512"]}}
    with pytest.raises(ConfigError, match="has `iterate`, and other steps beside it"):
        validate(raw, shipped.FILES, ROOT)

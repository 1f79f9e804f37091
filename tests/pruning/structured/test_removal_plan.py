"""Removing units in the config: all faults told, keys of what is read alone, counts of units."""

from __future__ import annotations

import copy

import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.config.config_files import ConfigError
from prunegrid.config.grid import expand
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.pruning.structured.removal_plan import removed_units
from prunegrid.pruning.structured.units import Kind
from prunegrid.tables.table_plan import study_plan
from tests.helpers import ROOT, shipped

SHIPPED = shipped.config()
MLP = {"method": "taylor", "pattern": "structured", "units": ["mlp"], "sparsity": 0.3}
MLP |= {"calibration": "wiki-16x256"}


def config(grid=None, **prune):
    raw = copy.deepcopy(SHIPPED)
    raw["prune"]["shrink"] = {k: v for k, v in (MLP | prune).items() if v is not None}
    grid = grid or {"model": "smollm2-135m", "prune": "shrink"}
    raw["studies"] = {"s": {"dataset": "wikipedia", "grid": grid, "evaluations": ["wikipedia-512"]}}
    return validate(raw, shipped.FILES, ROOT)


def faults(grid=None, **prune):
    with pytest.raises(ConfigError) as error:
        config(grid, **prune)
    return "\n".join(error.value.faults)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"units": None}, "needs `units`"),
        ({"units": []}, "needs `units`"),
        ({"units": ["mpl"]}, "prune.shrink.units.0 is 'mpl'; input should be 'mlp'"),
        ({"units": ["mlp", "blocks"]}, "[heads, mlp], [blocks] or [experts]"),
        ({"units": ["mlp", "experts"]}, "expected [mlp], [heads]"),
        ({"units": ["experts"]}, "prune.shrink.units are ['experts']: taylor scores mlp, heads"),
        ({"units": ["experts"]}, "for [experts] take magnitude or random or reap"),
        ({"units": ["experts"], "method": "wanda"}, "take magnitude or random or reap"),
        ({"method": "reap"}, "reap scores experts; for [mlp] take magnitude or random or taylor"),
        ({"units": ["experts"], "method": "reap", "calibration": None}, "reap needs calibration"),
        ({"units": ["experts"], "method": "reap", "multiple": 8}, "`multiple` is of kept neurons"),
        ({"units": ["mlp", "mlp"]}, "expected [mlp]"),
        ({"sparsity": None}, "needs `sparsity` (0 < sparsity < 1)"),
        ({"sparsity": 1.0}, "needs `sparsity` (0 < sparsity < 1)"),
        ({"scope": "row"}, "does not use ['scope']"),
        ({"allocation": "owl", "biases": True}, "does not use ['allocation', 'biases']"),
        ({"propagation": "dense"}, "does not use ['propagation']"),
        ({"update": "sparsegpt"}, "units know none and least_squares"),
        ({"update": "least_squares", "units": ["blocks"]}, "nothing to correct"),
        ({"update": "least_squares", "units": ["experts"], "method": "reap"}, "nothing to correct"),
        (
            {"update": "least_squares", "update_settings": {"iterations": 3}},
            "closed form and has no ['iterations']",
        ),
        ({"units": ["heads"], "multiple": 8}, "`multiple` is of kept neurons"),
        ({"multiple": 0}, "prune.shrink.multiple is 0"),
        ({"method": "tailor"}, "did you mean 'taylor'"),
        ({"method": "sparsegpt"}, "no criterion of structured pruning 'sparsegpt'"),
        ({"calibration": None}, "taylor needs calibration"),
        ({"method": "random"}, "calibration is not used by random"),
        ({"dampning": 0.1}, "prune.shrink.dampning is not a key here, nor a setting of taylor"),
        ({"pattern": "structurd"}, '"structured" or "N:M"'),
        (
            {"method": "wanda", "pattern": "unstructured"},
            "['units'] are of `pattern`: structured",
        ),
    ],
    ids=str,
)
def test_a_fault_names_place_and_remedy(change, said):
    assert said in faults(**change)


def test_all_faults_of_a_step_are_told_at_once():
    found = faults(units=None, sparsity=None, scope="row", update="sparsegpt")
    for said in ("needs `units`", "needs `sparsity`", "['scope']", "least_squares"):
        assert said in found


def test_chains_that_cannot_work_are_refused():
    def said(*steps):
        return faults({"model": "smollm2-135m", "steps": [list(steps)]})

    shrink = {"prune": "shrink"}
    assert "their shapes differ" in said(shrink, {"finetune": "wiki-reconstruct"})
    assert "break the groups of 2:4" in said({"prune": "wiki-wanda-2of4"}, shrink)
    assert "not the first step" in said(
        shrink, {"prune": {"method": "wanda", "pattern": "2:4", "propagation": "dense",
                           "calibration": "wiki-16x256"}}
    )  # fmt: skip
    # After units went, any pattern may follow; so may heads after a pattern.
    good = [[shrink, {"prune": "wiki-wanda-2of4"}, {"finetune": "nf4"}]]
    good += [[{"prune": "wiki-wanda-2of4"}, {"prune": {**MLP, "units": ["heads"]}}]]
    assert len(expand(config({"model": "smollm2-135m", "steps": good}), "s")) == 2


def node_of(**prune):
    made = config(**prune)
    (plan,) = Graph(made, ROOT).plans("s")
    return plan.chain[-1]


def test_a_key_holds_what_is_read_and_nothing_else():
    base = node_of()
    assert base.roots[2:] == (
        "prunegrid.pruning.structured.stage",
        "prunegrid.pruning.structured.taylor",
    )
    assert set(base.settings) == {
        *("method", "pattern", "sparsity", "units", "multiple", "update", "update_settings"),
    }
    assert base.key != node_of(sparsity=0.4).key
    assert base.key != node_of(units=["heads", "mlp"]).key
    assert base.key == node_of(update="none").key
    assert base.settings["multiple"] is None and base.key != node_of(multiple=1).key
    for units in (["heads"], ["blocks"]):
        assert node_of(units=units).settings["multiple"] == 1  # which says nothing there
    heads_first, mlp_first = (node_of(units=u).key for u in (["heads", "mlp"], ["mlp", "heads"]))
    assert heads_first == mlp_first
    # The seed reaches the control, and no key of units reaches another pattern.
    assert node_of(method="random", calibration=None).settings["seed"] == 0
    plain = node_of(method="magnitude", pattern="2:4", units=None, sparsity=None, calibration=None)
    assert not {"units", "multiple"} & set(plain.settings)
    assert not any("structured" in root for root in plain.roots)


def test_the_code_of_structured_pruning_is_in_no_other_key():
    from prunegrid.artifacts.keys import reached

    found = reached(["prunegrid.stages.prune", "prunegrid.stages.finetune"])
    assert not any("/prunegrid/pruning/structured/" in path.as_posix() for path, _ in found)


def test_columns_of_a_row():
    made = config({"model": "smollm2-135m", "prune": [{**MLP, "units": [["heads", "mlp"]]}]})
    (cell,) = study_plan(Graph(made, ROOT), "s", ROOT)["cells"]
    columns = cell["columns"]
    assert columns["prune"] == "taylor-heads_mlp"
    assert (columns["pattern"], columns["units"]) == ("structured", "heads+mlp")
    assert (columns["sparsity_target"], columns["scope"]) == (0.3, None)


def test_experts_are_units_of_a_profile():
    node = node_of(method="reap", units=["experts"])
    assert node.roots[-1] == "prunegrid.pruning.structured.reap"
    assert (node.settings["units"], node.settings["multiple"]) == (["experts"], 1)
    profile = {**MLP, "method": "reap", "units": [["experts"]]}
    made = config({"model": "smollm2-135m", "prune": [profile]})
    (cell,) = study_plan(Graph(made, ROOT), "s", ROOT)["cells"]
    assert (cell["columns"]["prune"], cell["columns"]["units"]) == ("reap-experts", "experts")


def test_arms_over_rising_sparsities_take_units():
    prune = {k: v for k, v in MLP.items() if k != "sparsity"}
    iterate = {"prune": prune, "sparsities": [0.1, 0.2], "finetune": "wiki-chain-full"}
    cells = expand(config({"model": "smollm2-135m", "iterate": iterate}), "s")
    (last,) = [c for c in cells if c.arm == "iterative"]
    assert [s.profile.sparsity for s in last.steps if s.kind == "prune"] == [0.1, 0.2]
    assert all(s.profile.units == ["mlp"] for s in last.steps if s.kind == "prune")
    with pytest.raises(ConfigError, match="takes its sparsity from"):
        body = {**iterate, "prune": {**prune, "pattern": "2:4"}}
        config({"model": "smollm2-135m", "iterate": body})


# SmolLM2-135M: 30 layers of 9 heads in 3 groups (294,912 weights each) and 1,536 neurons.
HEADS, NEURONS = Kind(3, 294_912, 30), Kind(1536, 1728, 30)
PRUNABLE = 30 * (3 * 294_912 + 1536 * 1728)
BLOCKS = Kind(30, PRUNABLE // 30, 1)


def counted(kinds, sparsity, multiple=1, refusal=lambda count: None):
    return removed_units(kinds, round(sparsity * PRUNABLE), PRUNABLE, refusal, multiple, "here")


@pytest.mark.parametrize("sparsity", [0.03, 0.1, 0.2, 0.37, 0.5, 0.7])
def test_neurons_make_up_for_the_rounding_of_heads(sparsity):
    found = counted({"heads": HEADS, "mlp": NEURONS}, sparsity)
    lost = HEADS.lost(found["heads"]) + NEURONS.lost(found["mlp"])
    assert abs(lost - sparsity * PRUNABLE) <= NEURONS.lost(1) / 2
    assert abs(found["heads"] / 3 - sparsity) <= 0.5 / 3


def test_counts_are_the_nearest():
    assert counted({"blocks": BLOCKS}, 0.1) == {"blocks": 3}
    assert counted({"blocks": BLOCKS}, 0.25) == {"blocks": 8}  # 7.5
    assert counted({"heads": HEADS}, 0.1) == {"heads": 1}  # 8.3%
    assert counted({"mlp": NEURONS}, 0.75 * 768 / 1536) == {"mlp": 768}
    assert (1536 - counted({"mlp": NEURONS}, 0.2, multiple=64)["mlp"]) % 64 == 0


@pytest.mark.parametrize(("possible", "goes"), [((1, 2), 1), ((2,), 0)])
def test_heads_go_as_the_config_can_say(possible, goes):
    def refusal(count):
        return None if count in possible else PrunegridError("it cannot say so")

    found = counted({"heads": HEADS, "mlp": NEURONS}, 0.3, refusal=refusal)
    assert found["heads"] == goes and found["mlp"] > 0
    if not goes:  # alone, the reason is the config's
        with pytest.raises(PrunegridError, match="cannot say so"):
            counted({"heads": HEADS}, 0.08, refusal=refusal)


def test_a_config_that_can_say_no_fewer_heads_is_the_reason():
    for kinds in ({"heads": HEADS}, {"heads": HEADS, "mlp": NEURONS}):
        with pytest.raises(PrunegridError, match="no head_dim"):
            counted(kinds, 0.1 if len(kinds) == 1 else 0.3,
                    refusal=lambda _: PrunegridError("no head_dim"))  # fmt: skip


@pytest.mark.parametrize(
    ("width", "sparsity", "stays"),
    [
        (1536, 0.2, 1152),  # of 1126.4
        (1504, 0.2, None),  # 32 divides it
        (1536, 0.01, 1504),  # 64 would take none
        (109, 0.05, None),  # nothing divides it
    ],
)
def test_the_multiple_that_is_taken_where_none_is_given(width, sparsity, stays):
    neurons = Kind(width, 1728, 30)
    prunable = HEADS.lost(3) + neurons.lost(width)
    goal = round(sparsity * prunable)
    found = removed_units({"mlp": neurons}, goal, prunable, lambda _: None, None, "here")
    kept = width - found["mlp"]
    # By hand: widths of all powers of two that divide, the nearest multiple of each.
    ideal = width - goal / (1728 * 30)
    expected = next(
        nearest
        for power in (64, 32, 16, 8, 4, 2, 1)
        if width % power == 0 and (nearest := max(round(ideal / power), 1) * power) < width
    )
    assert kept == expected
    assert stays is None or kept == stays


def test_a_multiple_that_lets_nothing_go_is_named():
    with pytest.raises(PrunegridError, match="`multiple` 2048 all 1536 .* as 64"):
        counted({"mlp": NEURONS}, 0.2, multiple=2048)
    with pytest.raises(PrunegridError, match="`multiple`"):
        counted({"heads": HEADS, "mlp": NEURONS}, 0.03, multiple=512)
    # Where one neuron is too much already, that is the reason.
    with pytest.raises(PrunegridError, match="less than half"):
        counted({"mlp": NEURONS}, 1e-5, multiple=64)


@pytest.mark.parametrize(
    ("kinds", "sparsity", "said"),
    [
        ({"mlp": NEURONS}, 0.9, "at most 0.7495"),
        ({"heads": HEADS}, 0.3, "at most 0.1667"),
        ({"heads": HEADS}, 0.02, "about 0.0833 or more"),
        ({"blocks": BLOCKS}, 0.01, "about 0.0333 or more"),
    ],
)
def test_a_sparsity_that_units_cannot_have_is_refused(kinds, sparsity, said):
    with pytest.raises(PrunegridError, match=said):
        counted(kinds, sparsity)

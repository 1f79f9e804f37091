"""What of a prune profile is in the key of its step, and in the row."""

import pytest

from prunegrid.config.config_files import ConfigError
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.tables.table_plan import study_plan
from tests.helpers import ROOT, shipped

WANDA = {"method": "wanda", "sparsity": 0.5, "calibration": "wiki-16x256"}
DENSE = {**WANDA, "method": "sparsegpt", "propagation": "dense"}


def graph_of(*prunes, **grid):
    """Return the graph of a study of one model with some prune profiles."""
    raw = shipped.config()
    grid = {"model": "smollm2-135m", **({"prune": list(prunes)} if prunes else {}), **grid}
    raw["studies"] = {"s": {"dataset": "aclsum", "evaluations": ["papers"], "grid": grid}}
    return Graph(validate(raw, shipped.FILES, ROOT), ROOT)


def pruned(*prunes, **grid):
    """Return the last node of each cell's chain."""
    return [plan.chain[-1] for plan in graph_of(*prunes, **grid).plans("s")]


def refused(*prunes, **grid):
    with pytest.raises(ConfigError) as caught:
        graph_of(*prunes, **grid)
    return str(caught.value)


def test_only_swaps_have_their_compilers_version_in_the_key():
    (plain,), (refined,) = pruned(WANDA), pruned(WANDA | {"refine": "swaps"})
    assert refined.pins.keys() - plain.pins.keys() == {"numba", "llvmlite"}


def test_what_is_left_at_its_default_is_in_no_key():
    (plain,), (said,) = pruned(WANDA), pruned(WANDA | {"exclude": [], "allow_unprunable": False})
    assert plain.key == said.key
    assert not {"exclude", "allow_unprunable"} & plain.settings.keys()
    (named,), (allowed,) = (
        pruned(WANDA | {"exclude": ["*.o"]}),
        pruned(WANDA | {"allow_unprunable": True}),
    )
    assert named.settings["exclude"] == ["*.o"] and allowed.settings["allow_unprunable"]
    assert len({plain.key, named.key, allowed.key}) == 3


def test_cells_that_exclude_different_linears_share_what_is_measured():
    first, second = pruned(DENSE | {"exclude": [[], ["*.o_proj"]]})
    assert first.key != second.key
    for role in ("calibration", "hessians"):
        assert first.parents[role] is second.parents[role]


def test_a_list_is_one_value_and_a_list_of_lists_varies_it():
    one = pruned(WANDA | {"exclude": ["*.a", "*.b"]})
    assert [node.settings["exclude"] for node in one] == [["*.a", "*.b"]]
    two = pruned(WANDA | {"exclude": [[], ["*.a"]]})
    assert [node.settings.get("exclude") for node in two] == [None, ["*.a"]]


def test_the_row_names_the_patterns():
    plan = study_plan(graph_of(WANDA | {"exclude": [[], ["*.a", "*.b"]]}), "s", ROOT)
    assert [cell["columns"]["exclude"] for cell in plan["cells"]] == [None, "*.a *.b"]


def test_iterated_prunings_exclude_at_each_sparsity():
    prune = {**WANDA, "exclude": ["*.o_proj"]}
    del prune["sparsity"]
    iterate = {"prune": prune, "sparsities": [0.3, 0.5], "arms": ["one-shot"]}
    dense, *others = pruned(iterate=iterate)
    assert [node.settings["exclude"] for node in others] == [["*.o_proj"]] * 2
    assert dense.stage == "model"


def test_units_take_no_patterns_and_come_first():
    units = {"method": "magnitude", "pattern": "structured", "units": ["mlp"], "sparsity": 0.2}
    for key, value in (("exclude", ["*.o_proj"]), ("allow_unprunable", True)):
        assert f"does not use ['{key}']" in refused(units | {key: value})
    drawn = {"method": "random", "sparsity": 0.5, "exclude": ["*.o_proj"]}
    text = refused(steps=[[{"prune": drawn}, {"prune": units}]])
    assert "remove units first" in text
    pruned(steps=[[{"prune": units}, {"prune": drawn}]])


def test_a_dense_cell_has_nothing_to_exclude():
    assert "dense prunes nothing" in refused({"method": "dense", "exclude": ["*.a"]})


def mask_of(**parts):
    """Return the node of DENSE with the parts, and that of the mask which it takes on, if any."""
    (node,) = pruned(DENSE | parts)
    return node, node.parents.get("mask")


def test_a_mask_that_needs_hessians_is_chosen_once():
    own, nothing = mask_of()
    none, chosen = mask_of(update="none")
    refined, first = mask_of(refine="swaps", update="none")
    _, second = mask_of(refine="swaps", update="least_squares")
    assert nothing is None and chosen.key == first.key == own.key
    assert second.key == refined.key and none.key not in (own.key, refined.key)
    updates = DENSE | {"update": ["none", "sparsegpt", "least_squares"]}
    assert sum(node.stage == "prune" for node in graph_of(updates).all_nodes()) == 4


def test_a_mask_that_is_cheap_or_depends_on_updates_is_chosen_in_each_step():
    assert mask_of(method="wanda", refine="swaps")[1] is None
    assert mask_of(method="wanda", update="least_squares")[1] is None
    both = {"refine": "swaps", "update": "least_squares"}
    assert mask_of(method="wanda", **both)[1].settings["refine"] == "swaps"
    assert mask_of(propagation="sequential", **both)[1] is None


def test_no_refinement_is_in_no_key():
    (plain,), (said,) = pruned(WANDA), pruned(WANDA | {"refine": "none"})
    assert plain.key == said.key and "refine" not in plain.settings
    (one,), (other,) = (
        pruned(WANDA | {"refine": "swaps"}),
        pruned(WANDA | {"refine": "swaps", "refine_settings": {"max_swaps": 3}}),
    )
    assert one.settings["refine_settings"]["max_swaps"] == 1000
    assert len({plain.key, one.key, other.key}) == 3


def test_a_refinement_that_cannot_be_is_refused():
    assert "update" in refused(DENSE | {"refine": "swaps"})
    assert "nothing to `refine`" in refused(WANDA | {"sparsity": 0.0, "refine": "swaps"})
    assert "swaps" in refused(WANDA | {"refine": "swop"})
    assert "refine_settings" in refused(WANDA | {"refine_settings": {"max_swaps": 3}})
    assert "max_swops" in refused(WANDA | {"refine": "swaps", "refine_settings": {"max_swops": 3}})
    structured = {"method": "magnitude", "pattern": "structured", "units": ["mlp"], "sparsity": 0.2}
    assert "refine" in refused(structured | {"refine": "swaps"})
    assert "calibration" in refused({"method": "magnitude", "pattern": "2:4", "refine": "swaps"})

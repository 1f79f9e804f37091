"""The part on layers: each pruning once, its zeros by block and linear, its errors, units left."""

import re

import pytest

from prunegrid.common import file_io
from prunegrid.tables.page.parts import layers
from tests.helpers.page_world import cell, facts, step


def linear(zeros, size=100, **more):
    return {"shape": [size // 10, 10], "zeros": zeros, "sparsity": zeros / size} | more


def rows(part, name="layers_linears"):
    return [{k: v for k, v in row.items() if k != "cell"} for row in part.data[name]]


@pytest.fixture
def model(tmp_path):
    return step(tmp_path, "model", "m")


def test_zeros_of_each_linear_against_the_mean_in_the_order_of_the_model(tmp_path, model):
    report = {f"model.layers.{i}.mlp.up": linear(40 + 2 * i) for i in (0, 2, 10)}
    prune = step(tmp_path, "prune", "p", {"prune.json": report})
    part = layers.part(facts([cell(model, prune)]))
    shown = [(r["block"], r["linear"], r["zeros"], r["sparsity"]) for r in rows(part)]
    assert shown == [
        ("0", "mlp.up", 40, 0.4), ("2", "mlp.up", 44, 0.44), ("10", "mlp.up", 60, 0.6)
    ]  # fmt: skip
    assert [r["points"] for r in rows(part)] == pytest.approx([-8, -4, 12])
    assert set(part.charts) == {"layers-linears"}
    assert "relative error" in part.html  # that none was measured is said


def test_the_mean_is_weighted_by_size_and_experts_of_a_block_are_one(tmp_path, model):
    report = {f"layers.0.mlp.experts.{i}.down": linear(10 * i) for i in range(3)}
    report |= {f"layers.0.mlp.experts.up.{i}": linear(30, 200) for i in range(2)}
    prune = step(tmp_path, "prune", "p", {"prune.json": report})
    down, up = rows(layers.part(facts([cell(model, prune)])))
    assert (down["linear"], down["zeros"], down["weights"]) == ("mlp.experts.*.down", 30, 300)
    assert (up["linear"], up["zeros"], up["weights"]) == ("mlp.experts.up.*", 60, 400)
    mean = 90 / 700
    assert [down["points"], up["points"]] == pytest.approx(
        [10 - 100 * mean, 15 - 100 * mean], abs=1e-4
    )


def test_stacks_and_linears_outside_the_blocks_are_told_apart(tmp_path, model):
    report = {"encoder.block.0.q": linear(1), "decoder.block.0.q": linear(2), "lm_head": linear(3)}
    prune = step(tmp_path, "prune", "p", {"prune.json": report})
    shown = {
        (r["block"], r["linear"]): r["zeros"]
        for r in rows(layers.part(facts([cell(model, prune)])))
    }
    assert shown == {
        ("encoder.block 0", "q"): 1,
        ("decoder.block 0", "q"): 2,
        ("outside", "lm_head"): 3,
    }


def test_each_pruning_is_shown_once_and_named_by_what_differs(tmp_path, model):
    steps = [step(tmp_path, "prune", k, {"prune.json": {"b.0.q": linear(5)}}) for k in ("p", "q")]
    tune = step(tmp_path, "finetune", "t")
    cells = [cell(model, finetune="none"), cell(model, steps[0], prune="w50")]
    cells += [cell(model, steps[0], tune, prune="w50", finetune="lora")]
    cells += [cell(model, steps[1], prune="w60")]
    part = layers.part(facts(cells))
    assert [row["cell"] for row in part.data["layers_linears"]] == ["w50", "w60"]
    assert re.findall('<option value="(.*?)"', part.html) == ["w50", "w60"]
    assert "$layers-of-linears" in str(part.charts["layers-linears"])  # what the page replaces


def test_the_counts_of_the_pruned_weights_are_in_a_table(tmp_path, model):
    weights = {"sparsity_prunable": 0.5, "excluded_share": 0.25, "router_share": 0.0}
    weights |= {"removed_prunable": None, "pattern": "2:4", "nm_valid": True}
    files = {"prune.json": {"b.0.q": linear(50)}}
    prune = step(tmp_path, "prune", "p", files, record={"weights": weights})
    texts = re.findall("<td>(.*?)</td>", layers.part(facts([cell(model, prune)])).html)
    assert texts == ["w50", "50.00%", "25.00%", "2:4 in every group"]


def test_errors_of_a_refit_belong_to_the_cells_that_had_it(tmp_path, model):
    prune = step(tmp_path, "prune", "p", {"prune.json": {"b.0.q": linear(5), "b.1.q": linear(5)}})
    story = {"linears": {"b.0.q": {"error_before": 0.5, "error_after": 0.25}}}
    refit = step(tmp_path, "transform", "t", {"transform.json": story})
    cells = [cell(model, prune), cell(model, prune, refit, finetune="refit")]
    part = layers.part(facts(cells))
    assert part.data["layers_errors"] == [
        {"cell": "w50 / refit", "block": "0", "linear": "q", "error": 0.25}
    ]
    assert {row["cell"] for row in part.data["layers_linears"]} == {"w50", "w50 / refit"}
    assert "relative error" not in part.html


def test_errors_that_the_pruning_measured_are_shown_without_a_refit(tmp_path, model):
    report = {"b.0.q": linear(5, output_error=0.125), "b.1.q": linear(5)}
    prune = step(tmp_path, "prune", "p", {"prune.json": report})
    part = layers.part(facts([cell(model, prune)]))
    assert rows(part, "layers_errors") == [{"block": "0", "linear": "q", "error": 0.125}]


def units(removed, before):
    return {"mlp": {"units": before, "removed": removed, "indices": [], "score": 1.0}}


def test_each_selector_has_a_name_of_its_own(tmp_path, model):
    report = {"b.0.q": linear(5, output_error=0.125)}
    prune = step(tmp_path, "prune", "p", {"prune.json": report})
    html = layers.part(facts([cell(model, prune)])).html
    assert re.findall("<label.*?>(.*?) <select", html) == ["Zeros of", "Errors of"]


def test_units_left_count_from_before_the_first_pruning(tmp_path, model):
    first = {"blocks": {"l.0": units(2, 10), "l.1": units(4, 10)}, "counts": {}, "corrected": {}}
    second = {"blocks": {"l.0": units(3, 8), "l.1": units(1, 6)}, "counts": {}, "must_stay": {}}
    second["corrected"] = {"l.1.down": {"error_after": 0.1}}
    steps = [
        step(tmp_path, "prune", k, {"prune.json": r}) for k, r in (("p", first), ("q", second))
    ]
    part = layers.part(facts([cell(model, *steps, prune="a+b")]))
    assert rows(part, "layers_units") == [
        {"block": "0", "kind": "mlp", "left": 5, "before": 10},
        {"block": "1", "kind": "mlp", "left": 5, "before": 10},
    ]
    assert rows(part, "layers_errors") == [{"block": "1", "linear": "down", "error": 0.1}]
    assert set(part.charts) == {"layers-units", "layers-errors"}


def test_a_report_that_is_gone_or_changed_is_named_and_not_shown(tmp_path, model):
    whole, changed = (
        step(tmp_path, "prune", k, {"prune.json": {"b.0.q": linear(5)}}) for k in ("p", "q")
    )
    file_io.write_json(tmp_path / "prune/q/prune.json", {"b.0.q": linear(9)})
    missing = whole | {"path": str(tmp_path / "prune/none"), "key": "none"}
    cells = [cell(model, whole), cell(model, changed, prune="<b>"), cell(model, missing, prune="c")]
    part = layers.part(facts(cells))
    assert [row["zeros"] for row in rows(part)] == [5]
    assert "&lt;b&gt;" in part.html and "<b>" not in part.html and "m / c" in part.html


def test_what_would_make_the_page_large_is_left_out_and_said(tmp_path, model, monkeypatch):
    monkeypatch.setattr(layers, "ROWS", 3)
    report = {f"b.{i}.q": linear(5) for i in range(2)}
    steps = [step(tmp_path, "prune", k, {"prune.json": report}) for k in ("p", "q")]
    part = layers.part(facts([cell(model, s, prune=s["key"]) for s in steps]))
    assert len(rows(part)) == 2 and "1 more" in part.html


def test_a_study_that_prunes_nothing_and_a_census_have_no_such_part(model):
    assert layers.part(facts([cell(model, prune="dense")])) is None
    census = facts([cell(model)])
    assert layers.part(facts([cell(model)], plan=census.plan | {"kind": "census"})) is None

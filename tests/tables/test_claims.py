"""Published conclusions: every one can hold, be refuted, stay open or be untested; scopes hold."""

import math

import pandas
import pytest

from prunegrid.common.source_code import LIBRARY
from prunegrid.config.load import validate
from prunegrid.tables.claims import comparisons, page, verdicts
from tests.helpers import shipped
from tests.helpers.claim_world import World, bear, facts, places

ROOT = LIBRARY.parent.parent
CONFIG = shipped.config()
CLAIMS = validate(CONFIG, shipped.FILES, ROOT).sections["claims"]
WANDA = CLAIMS["wanda-over-magnitude"]
ROUNDS = CLAIMS["iterative-over-one-shot"]


def outcome(world, claim):
    (found,) = verdicts.judge(world.tables(), {"claim": claim})
    return found


def changed(claim, **scope):
    """Return a claim of another scope."""
    return claim.model_copy(update={"scope": claim.scope.model_copy(update=scope)})


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
@pytest.mark.parametrize(
    ("speaks", "verdict"),
    [("for", "holds"), ("against", "refuted"), ("neither", "cannot tell")],
)
def test_every_claim_comes_out_every_way(claim, speaks, verdict):
    found = outcome(bear(World(), claim, speaks), claim)
    assert found.verdict == verdict
    assert found.within and not found.elsewhere


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_what_is_found_elsewhere_is_told_and_decides_nothing(claim):
    found = outcome(bear(World(), claim, "against", inside=False), claim)
    assert found.verdict == "not tested" and not found.within
    text = page.markdown([found], [])
    assert "**not tested.**" in text
    assert "On another" in text and "*refuted*" in text
    frame = page.rows([found])
    assert frame["in_scope"].tolist() == [True, *[False] * (len(frame) - 1)]
    assert set(frame["verdict"]) == {"not tested"} and len(frame) >= 2


@pytest.mark.parametrize("name", ["zeros-save-no-time", "zeros-save-no-bytes", "nonzeros-halved"])
def test_models_that_lost_units_say_nothing_about_zeros(name):
    world = bear(World(), CLAIMS[name], "against")
    assert outcome(world, CLAIMS[name]).verdict == "refuted"
    for row in world.wide:
        if row["method"] != "dense":
            row["removed_prunable"] = 0.5
    assert outcome(world, CLAIMS[name]).verdict == "not tested"


def comparison(support, p):
    return {"support": support, "p": p}


@pytest.mark.parametrize(
    ("found", "every", "some"),
    [
        ([], "not tested", "not tested"),
        ([(1, 0.01)], "holds", "holds"),
        ([(1, 0.01), (1, 0.2)], "cannot tell", "holds"),
        # .04 is enough where all must agree, not where one of two decides.
        ([(1, 0.04), (1, 0.04)], "holds", "cannot tell"),
        ([(-1, 0.04), (1, 0.04)], "cannot tell", "cannot tell"),
        ([(-1, 0.01), (1, 0.01)], "refuted", "holds"),
        ([(-1, 0.04), (-1, 0.04)], "cannot tell", "refuted"),
        ([(-1, 0.01), (1, 0.9)], "refuted", "cannot tell"),
    ],
)
def test_quantifiers(found, every, some):
    several = [comparison(*one) for one in found]
    assert verdicts.decide(several, "all") == every
    assert verdicts.decide(several, "some") == some


def test_p_values_are_those_of_the_interval():
    assert comparisons.p_value(1.96, 1.0) == pytest.approx(0.05, abs=1e-3)
    assert comparisons.p_value(-1.96, 1.0) == comparisons.p_value(1.96, 1.0)
    assert (comparisons.p_value(0.0, 0.0), comparisons.p_value(0.1, 0.0)) == (1.0, 0.0)


@pytest.mark.parametrize("speaks", ["for", "against"])
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_the_order_of_pairs_and_rows_changes_nothing(claim, speaks):
    world = bear(World(), claim, speaks)
    before = page.rows([outcome(world, claim)])
    for rows in (world.wide, world.long, world.pairs):
        rows.reverse()
    for row in world.pairs:
        for name in ("", "seeds_", "value_", "spread_"):
            row[f"{name}a"], row[f"{name}b"] = row[f"{name}b"], row[f"{name}a"]
        turn = (lambda x: 1 / x) if row["effect"] == "ratio" else (lambda x: -x)
        row["value"], row["low"], row["high"] = map(turn, (row["value"], row["high"], row["low"]))
    after = page.rows([outcome(world, claim)])
    columns = ["claim", "verdict", "a", "b", "value", "low", "high", "support", "p", "n"]
    pandas.testing.assert_frame_equal(before[columns], after[columns])


def test_a_difference_smaller_than_the_spread_over_seeds_decides_nothing():
    sides = [facts(WANDA.a), facts(WANDA.b)]
    for spread, verdict in ((0.01, "holds"), (0.5, "cannot tell")):
        world = World()
        seeds = {"seeds_a": 5, "seeds_b": 5, "spread_a": spread, "spread_b": spread}
        world.pair(places(WANDA, True)[0], *sides, "rougeLsum", 0.1, 0.01, **seeds)
        found = outcome(world, WANDA)
        assert found.verdict == verdict and found.within[0]["seeds"] == 5


def test_the_interval_shown_is_that_of_the_pair():
    world = bear(World(), CLAIMS["half-breaks"], "for")
    one = outcome(world, CLAIMS["half-breaks"]).within[0]
    low, high = (world.pairs[0][name] for name in ("low", "high"))
    assert (one["low"], one["high"]) == pytest.approx((low, high), rel=1e-3)
    assert one["support"] == pytest.approx(-math.log(one["value"]) - math.log(2))


def test_what_is_at_chance_is_no_evidence():
    world = bear(World(), WANDA, "for")
    for row in world.long:
        row["at_chance"] = "wanda" in row["prune"]
    found = outcome(world, WANDA)
    assert found.verdict == "cannot tell"
    assert found.within[0]["note"] == "the better side is at chance"


def test_failed_cells_and_variants_of_a_recipe_are_left_out():
    world = bear(World(), WANDA, "for")
    sides = [facts(WANDA.a), facts(WANDA.b)]
    sides[0] |= {"prune": "other", "update": "least_squares"}
    world.pair(places(WANDA, True)[0], *sides, "rougeLsum", -0.5, 0.01)
    assert outcome(world, WANDA).verdict == "holds"
    for row in world.wide:
        row["status"] = "failed"
    assert outcome(world, WANDA).verdict == "not tested"


def test_another_metric_is_another_scope():
    sides = [facts(WANDA.a), facts(WANDA.b)]
    world = World()
    world.pair(places(WANDA, True)[0], *sides, "ppl_512_nonoverlap", -0.5, 0.01, split="wiki")
    found = outcome(world, WANDA)
    assert found.verdict == "not tested"
    assert list(found.elsewhere) == [("opt-125m", "billsum", "wiki", "ppl_512_nonoverlap")]


@pytest.mark.parametrize("dataset", ["aclsum", "wikitext-2"])
def test_a_perplexity_is_judged_by_the_text_that_was_read(dataset):
    """…and not by the data set that the cells were tuned on."""
    claim = CLAIMS["tuning-recovers"]
    sides = [facts(claim.a), facts(claim.b)]
    world = World()
    for split, better in (("wikitext", 0.5), ("wikipedia-2048", -0.5), ("c4", -0.5)):
        metric = "ppl_2048_nonoverlap"
        world.pair(("opt-125m", dataset), *sides, metric, better, 0.01, split=split)
    found = outcome(world, claim)
    assert found.verdict == "holds"
    assert [one["split"] for one in found.within] == ["wikitext"]
    texts = [("opt-125m", dataset, name, metric) for name in ("wikipedia-2048", "c4")]
    assert list(found.elsewhere) == texts
    text = page.markdown([found], [])
    assert "any data; ppl_* of wikitext" in text
    assert f"On opt-125m / {dataset} c4 by ppl_2048_nonoverlap: *refuted*" in text


def test_perplexities_are_claimed_of_evaluations_and_not_of_what_was_learned():
    """What text was read its evaluation says: no scope asks for cells that were tuned on a text."""
    texts = {name for name, profile in CONFIG["datasets"].items() if profile.get("kind") == "text"}
    assert texts >= {"wikitext-2", "wikipedia"}
    for name, claim in CLAIMS.items():
        assert not texts & set(claim.scope.dataset), name
        for split in set(claim.scope.split) - {"*"}:
            is_task = split in CONFIG["tasks"]
            assert is_task or CONFIG["evaluations"][split]["kind"] == "perplexity", name


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, "holds"),
        ({"strategy": "full"}, "not tested"),
        ({"sparsity_target": 0.8}, "not tested"),
        ({"zeros_promised": "none"}, "not tested"),
    ],
)
def test_rounds_are_compared_at_one_sparsity_and_strategy(change, verdict):
    a, b = facts(ROUNDS.a), facts(ROUNDS.b)
    assert (a["strategy"], b["strategy"]) == ("lora+lora", "lora")
    world = World()
    metric = "ppl_2048_nonoverlap"
    world.pair(("opt-125m", "aclsum"), a, b | change, metric, 0.5, 0.01, split="wikitext")
    assert outcome(world, ROUNDS).verdict == verdict


@pytest.mark.parametrize(
    ("metric", "places", "count"),
    [
        ("rougeLsum", [("billsum", "test"), ("billsum", "ca_test")], 1),
        ("rougeLsum", [("billsum", "test"), ("other", "test")], 1),
        ("rougeLsum", [("billsum", "test"), ("billsum", "test")], 0),
        ("ppl_2048_nonoverlap", [("billsum", "wikitext"), ("other", "c4")], 1),
        # A text is the same one whatever else a study has.
        ("ppl_2048_nonoverlap", [("billsum", "wikitext"), ("other", "wikitext")], 0),
    ],
)
def test_one_task_in_two_studies_is_no_pair_of_tasks(metric, places, count):
    claim = CLAIMS["tolerance-by-task"]
    pruned, dense = facts(claim.a), facts(claim.b)
    worlds = [World("one"), World("two")]
    for world, (dataset, split), loss in zip(worlds, places, (0.9, 0.2), strict=True):
        world.pair(("gpt2-xl", dataset), pruned, dense, metric, -loss, 0.01, split=split)
    for name in ("wide", "long", "pairs"):
        getattr(worlds[0], name).extend(getattr(worlds[1], name))
    found = outcome(worlds[0], claim)
    every = [*found.within, *(one for some in found.elsewhere.values() for one in some)]
    assert len(every) == count


@pytest.mark.parametrize("speaks", ["for", "against"])
def test_a_score_beside_chance_is_that_of_the_seed_that_decides(speaks):
    claim = CLAIMS["no-catastrophe"]
    (one,) = outcome(bear(World(), claim, speaks), claim).within
    assert (one["value"], one["seeds"], one["effect"]) == (0.35, 2, "score")
    assert one["low"] <= one["value"] <= one["high"]
    assert (one["low"] <= 0.25) is (speaks == "against")


def test_of_perplexities_beside_chance_the_worst_is_the_highest():
    claim = changed(CLAIMS["no-catastrophe"], metric=["ppl_*"])
    world = World()
    cell = facts({})
    world.cell(("gpt2", "d"), cell)
    for seed, value in enumerate((20.0, 30.0, 25.0)):
        levels = {"low": value - 1, "high": value + 1, "chance": 50_000, "at_chance": False}
        world.score(("gpt2", "d"), cell, "ppl_512", "wiki", value=value, seed=seed, **levels)
    (one,) = outcome(world, claim).within
    assert [one[name] for name in ("value", "low", "high", "seeds")] == [30, 29, 31, 3]


def test_a_disturbed_timing_is_no_evidence_and_the_untouched_model_is_as_fast_as_itself():
    claim = CLAIMS["zeros-save-no-time"]
    (column,) = claim.scope.metric
    place = ("opt-125m", "billsum")
    seen = {"prune": "x", "finetune": "none", "strategy": "none", "turn_seconds": 2.0}
    half = {"method": "wanda", "pattern": "unstructured", "sparsity_target": 0.5}
    half |= {"allocation": "uniform", "propagation": "sequential", "zeros_promised": None}
    for disturbed, expected in ((None, [0.7]), ("others ran", [])):
        world = World()
        world.cell(place, seen | half | {column: 0.7, "speed_disturbed": disturbed})
        world.cell(place, seen | {"prune": "dense", "method": "dense"})
        found = comparisons.measure(claim, world.tables())
        assert [one["value"] for one in found] == expected


@pytest.mark.parametrize(
    ("low", "high", "speaks"), [(1.8, 2.2, True), (1.0, 4.0, False), (None, None, True)]
)
def test_a_ratio_of_timings_speaks_outside_of_their_interval_only(low, high, speaks):
    """Twice as fast, where ten percent is the bound; a count has no interval."""
    claim = CLAIMS["zeros-save-no-time"]
    (column,) = claim.scope.metric
    place, seen = ("opt-125m", "billsum"), {"prune": "x", "finetune": "none", "strategy": "none"}
    half = {"method": "wanda", "pattern": "unstructured", "sparsity_target": 0.5}
    half |= {"allocation": "uniform", "propagation": "sequential", "zeros_promised": None}
    world = World()
    ends = {f"{column}_low": low, f"{column}_high": high}
    world.cell(place, seen | half | ends | {column: 2.0, "turn_seconds": 2.0})
    world.cell(place, seen | {"prune": "dense", "method": "dense", "turn_seconds": 2.0})
    (one,) = comparisons.measure(claim, world.tables())
    assert (one["p"] < 0.05) is speaks and bool(one["note"]) is not speaks


def test_intervals_of_both_sides_count():
    """2.3 [2.1, 2.6] beside 2.1 [1.6, 2.8] is no evidence that the first is faster."""
    claim = CLAIMS["zeros-beside-int8"]
    (column,) = claim.scope.metric
    place = ("smollm2-135m", "wikipedia")
    base = {"finetune": "int8-values", "strategy": "quantize", "turn_seconds": 2.0}
    half = {"method": "wanda", "pattern": "unstructured", "sparsity_target": 0.6}
    half |= {"allocation": "uniform", "propagation": "sequential", "zeros_promised": None}
    wide, narrow = (2.1, 2.56), (2.28, 2.36)
    cases = ((wide, (1.6, 2.8), False), (wide, (2.12, 2.16), False), (narrow, (2.12, 2.16), True))
    for own, ends, speaks in cases:
        world = World()
        for cell, value, (low, high) in ((half, 2.32, own), (None, 2.14, ends)):
            named = cell or {"method": "dense"}
            named |= {"prune": "wanda-0.6" if cell else "dense", column: value}
            world.cell(place, base | named | {f"{column}_low": low, f"{column}_high": high})
        (one,) = comparisons.measure(claim, world.tables())
        assert (one["p"] < 0.05) is speaks, ends

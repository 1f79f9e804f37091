"""Declared contrasts: verdicts on made-up cells whose differences are known."""

import copy
import math

import numpy
import pandas
import pytest

from prunegrid.config.config_files import ConfigError
from prunegrid.config.load import validate
from prunegrid.tables import contrasts
from prunegrid.tables.files import typed_frame
from prunegrid.tables.groups import paired
from prunegrid.tables.intervals import levels
from prunegrid.tables.render import render_markdown
from prunegrid.tables.schema import COLUMNS, CONTRASTS, LONG
from tests.helpers import ROOT, shipped
from tests.helpers.contrast_world import N, World


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path).cell("dense", 0).cell("w", -0.05, seed=0).cell("w", -0.06, seed=1)
    return made.cell("same", 0.0).cell("x", 0, failed="it is broken")


def pair(a, b, **more):
    return {"a": {"prune": a}, "b": {"prune": b}, **more}


ROUGE = {"split": "test", "metric": "rouge1"}


def test_verdicts_of_both_kinds_of_metric(world):
    found = world.verdicts(
        pair("dense", "w"), pair("w", "dense"), pair("dense", "same"),
        pair("dense", "w", **ROUGE), pair("w", "dense", **ROUGE),
    )  # fmt: skip
    assert [row["verdict"] for row in found] == [
        "better", "worse", "not distinguishable at this n", "better", "worse",
    ]  # fmt: skip
    assert set(found[0]) == {column.name for column in CONTRASTS}
    ratio, difference = found[0], found[3]
    assert ratio["effect"] == "ratio" and ratio["metric"] == "ppl_16_nonoverlap"
    assert ratio["value"] == pytest.approx(math.exp(-0.055), rel=0.01)
    assert ratio["low"] < ratio["value"] < ratio["high"] < 1
    assert difference["value"] == pytest.approx(0.055, rel=0.1)
    assert (difference["seeds_a"], difference["seeds_b"], difference["n"]) == (1, 2, N)
    assert difference["spread_a"] is None and difference["spread_b"] > 0
    assert difference["detectable"] < 0.02 < difference["standardized"]


def test_a_verdict_that_so_few_items_could_not_give_is_called_that(tmp_path, monkeypatch):
    """Eight items have p = 1/128 at least: enough for one test, and not for the first of eight."""
    made = World(tmp_path).cell("dense", 0).cell("w", -5.0)
    one, same = pair("dense", "w"), pair("w", "w")
    items = {"n": 8}
    monkeypatch.setattr(contrasts, "paired", lambda *a: tuple(x[: items["n"]] for x in paired(*a)))

    def verdicts(*entries):
        return [row["verdict"] for row in made.verdicts(*entries)]

    assert verdicts(one, *[same] * 7)[0] == "too few items for a verdict"
    assert verdicts(one) == ["better"] and verdicts(same) == ["not distinguishable at this n"]
    assert verdicts(*[one] * 6, same, same)[-1] == "too few items for a verdict"
    items["n"] = 9
    found = verdicts(*[one] * 7, same)
    assert set(found[:7]) == {"better"} and found[7] == "not distinguishable at this n"


def test_swapped_sides_mirror_each_other(world):
    for kind in ({}, ROUGE):
        one, two = world.verdicts(pair("dense", "w", **kind), pair("w", "dense", **kind))
        assert one["p"] == two["p"] and one["detectable"] == pytest.approx(two["detectable"])
        assert one["standardized"] == pytest.approx(-two["standardized"])
        turn = (lambda x: 1 / x) if one["effect"] == "ratio" else (lambda x: -x)
        mirrored = (turn(two["value"]), turn(two["high"]), turn(two["low"]))
        assert (one["value"], one["low"], one["high"]) == pytest.approx(mirrored)


def test_scaling_a_metric_changes_no_verdict_and_a_constant_no_difference(world):
    plain = world.verdicts(pair("dense", "w", **ROUGE))[0]
    for path in world.folder.glob("t*/scores.parquet"):
        frame = pandas.read_parquet(path)
        frame.assign(rouge1=frame["rouge1"] * 8).to_parquet(path)
    scaled = world.verdicts(pair("dense", "w", **ROUGE))[0]
    same = ("verdict", "p", "p_holm")
    assert [scaled[k] for k in same] == [plain[k] for k in same]
    assert scaled["value"] == pytest.approx(8 * plain["value"])
    assert scaled["standardized"] == pytest.approx(plain["standardized"])
    for path in world.folder.glob("t*/scores.parquet"):
        frame = pandas.read_parquet(path)
        frame.assign(rouge1=frame["rouge1"] + 3).to_parquet(path)
    moved = world.verdicts(pair("dense", "w", **ROUGE))[0]
    for name in ("value", "low", "high", "detectable", "p", "standardized"):
        assert moved[name] == pytest.approx(scaled[name])


def test_non_inferiority_takes_a_margin_from_the_config(world):
    near, without, far = world.verdicts(
        pair("same", "dense", margin=0.02, **ROUGE),
        pair("same", "dense", **ROUGE),
        pair("w", "dense", margin=0.02, **ROUGE),
    )
    assert (near["verdict"], near["non_inferior"]) == ("non-inferior", True)
    assert (without["verdict"], without["non_inferior"]) == ("not distinguishable at this n", None)
    assert (far["verdict"], far["non_inferior"]) == ("worse", False)
    within = world.verdicts(pair("w", "dense", margin=0.2))[0]
    assert (within["verdict"], within["non_inferior"]) == ("worse", True)


def test_all_declared_tests_are_one_family(world):
    alone = world.verdicts(pair("same", "dense", **ROUGE))[0]
    crowd = world.verdicts(
        *[pair("same", "dense", **ROUGE, name=f"n{i}") for i in range(3)],
        pair("x", "dense", margin=0.1, **ROUGE),
    )
    assert crowd[3]["verdict"] == "not measured" and "it is broken" in crowd[3]["reason"]
    assert crowd[0]["p"] == alone["p"]
    assert crowd[0]["p_holm"] == pytest.approx(min(1, 5 * alone["p"]))


def test_what_is_at_chance_is_never_better(world):
    for row in world.tall:
        row["at_chance"] = row["prune"] != "same"
    better, worse, beaten = world.verdicts(
        pair("dense", "w"), pair("w", "dense"), pair("w", "same")
    )
    assert better["verdict"] == worse["verdict"] == "not ranked: at chance"
    assert (better["at_chance"], beaten["at_chance"]) == ("both", "a")
    assert beaten["verdict"] == "worse"


def test_only_the_same_items_are_paired(tmp_path):
    world = World(tmp_path).cell("dense", 0).cell("w", -0.05, documents="other")
    for row in world.verdicts(pair("dense", "w"), pair("dense", "w", **ROUGE)):
        assert row["verdict"] == "not measured"
        assert "not scored on the same items" in row["reason"]


def test_equal_ids_of_two_data_sets_are_not_the_same_items(world):
    """Ids may be numbers of rows, which every data set has."""
    for row in world.rows:
        row["data_sha256"] = "one" if row["prune"] == "dense" else "another"
    row = world.verdicts(pair("dense", "same", **ROUGE))[0]
    assert row["verdict"] == "not measured"
    assert "not scored on the same items" in row["reason"]


def test_a_seed_is_judged_by_its_own_level_of_chance(world):
    for row in world.tall:
        row["at_chance"] = row["prune"] == "w" and row["seed"] == 0
    chosen = {**pair("w", "dense", **ROUGE), "a": {"prune": "w", "seed": 1}}
    assert world.verdicts(chosen)[0]["at_chance"] == "none"
    chosen["a"] = {"prune": "w", "seed": 0}
    assert world.verdicts(chosen)[0]["at_chance"] == "a"


def test_items_without_a_score_on_one_side_are_left_out(world):
    path = world.folder / "t0/scores.parquet"
    frame = pandas.read_parquet(path)
    kept = frame["rouge1"].to_numpy()
    frame.loc[:9, "rouge1"] = numpy.nan
    frame.to_parquet(path)
    row = world.verdicts(pair("dense", "same", **ROUGE))[0]
    other = pandas.read_parquet(world.folder / "t3/scores.parquet")["rouge1"].to_numpy()
    assert (row["n"], row["items"]) == (N - 10, N)
    assert row["value"] == pytest.approx((kept - other)[10:].mean())


def test_one_seed_can_be_chosen(world):
    row = world.verdicts({**pair("dense", "w", **ROUGE), "b": {"prune": "w", "seed": 1}})[0]
    assert row["seeds_b"] == 1 and row["value"] == pytest.approx(0.06, abs=0.01)


@pytest.mark.parametrize(
    ("record", "row", "expected"),
    [
        ({}, (0.3, 0.2, 0.4, True), None),
        ({"chance": 0.25}, (0.3, 0.24, 0.36, True), True),
        ({"chance": 0.25}, (0.3, 0.26, 0.34, True), False),
        ({"chance": 0.25, "majority": 0.3}, (0.33, 0.28, 0.38, True), True),
        ({"chance": 64}, (60.0, 55.0, 65.0, False), True),
        ({"chance": 64}, (9.0, 8.0, 10.0, False), False),
        ({"chance": 64}, (900.0, 800.0, 1000.0, False), True),
        ({"chance": 0.5}, (0.4, None, None, True), True),
        ({"chance": 0.5}, (0.6, None, None, None), None),
    ],
)
def test_levels(record, row, expected):
    names = ("value", "low", "high", "higher_is_better")
    found = levels(dict(zip(names, row, strict=True)), record)
    assert found["at_chance"] is expected
    assert found["chance"] == record.get("chance")
    assert found["majority"] == record.get("majority")


def test_the_markdown_says_what_n_could_have_seen(world):
    rows = world.verdicts(pair("dense", "w", name="dense-w"), pair("x", "dense", name="broken"))
    wide, tall = typed_frame(world.rows, COLUMNS), typed_frame(world.tall, LONG)
    tall.loc[(tall["prune"] == "dense") & (tall["split"] == "wiki"), "at_chance"] = True
    wide["wiki_ppl_16_nonoverlap"] = 7.0
    text = render_markdown({"title": "", "study": "s"}, wide, tall, contrasts=rows)
    assert "dense-w: n = 40 would have shown a ratio of 1.0" in text
    assert "Holm-corrected for 2 declared test(s)" in text
    assert "| better " in text and "it is broken" in text
    assert text.count("7.00 †") == 1 and "† not distinguishable from chance" in text


@pytest.fixture
def config():
    return shipped.config()


DEMO = {"name": "c", "split": "test", "metric": "rougeLsum"}
WANDA = {"prune": "wiki-wanda-2of4"}
DENSE = {"prune": "dense", "finetune": "none"}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([DEMO | {"a": WANDA, "b": {"prune": "dense"}}], ["contrasts.0.b", "dense / demo-full;"]),
        ([DEMO | {"a": {"prune": "w"}, "b": DENSE}], ["contrasts.0.a", "no cell of the grid"]),
        ([DEMO | {"a": WANDA, "b": WANDA}], ["the same cells on both sides"]),
        ([DEMO | {"a": WANDA, "b": DENSE, "split": "tset"}], ["split", "did you mean 'test'"]),
        ([DEMO | {"a": WANDA, "b": DENSE, "metric": "rougeL1"}], ["did you mean 'rouge"]),
        ([DEMO | {"a": WANDA, "b": DENSE, "metric": "length_ratio"}], ["neither more nor less"]),
        ([DEMO | {"a": WANDA, "b": DENSE, "metric": None}], ["metric is missing"]),
        ([DEMO | {"a": WANDA, "b": DENSE, "margin": 0.0}], ["margin", "greater than 0"]),
        ([DEMO | {"a": {}, "b": DENSE}], ["name some of model, dataset"]),
        ([DEMO | {"a": WANDA, "b": DENSE}] * 2, ["a second time"]),
        ([DEMO | {"a": WANDA, "b": DENSE, "name": f"c{i}"} for i in range(9)], ["at most 8"]),
        ([DEMO | {"a": WANDA | {"methd": 1}, "b": DENSE}], ["contrasts.0.a.methd", "not a key"]),
    ],
)
def test_faults_are_told_before_anything_runs(config, entries, words):
    tree = copy.deepcopy(config)
    tree["studies"]["demo"]["contrasts"] = entries
    with pytest.raises(ConfigError) as caught:
        validate(tree, shipped.FILES, ROOT)
    for word in ["studies.demo", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("split", "metric", "hint"),
    [
        ("wikipedia-512", "ppl_512_nonoverlap", None),
        ("wikipedia-512", None, None),
        ("wikipedia-512", "ppl_521_nonoverlap", "did you mean 'ppl_512_nonoverlap'"),
        ("wikipedia-512", "rougeLsum", "ppl_512_nonoverlap"),
        ("wikipedia-stride", "ppl_stride512", None),
        ("wikipedia-stride", "ppl_512_stride", "ppl_stride512"),
        ("wikipedia-words", "word_perplexity", None),
        ("wikipedia-words", "perplexity", "word_perplexity"),
    ],
)
def test_the_metric_of_a_perplexity_is_its_protocols(config, split, metric, hint):
    study = config["studies"]["demo"]
    study["evaluations"].append(split)
    study["contrasts"] = [DEMO | {"a": WANDA, "b": DENSE, "split": split, "metric": metric}]
    if hint is None:
        assert validate(config, shipped.FILES, ROOT)
        return
    with pytest.raises(ConfigError) as caught:
        validate(config, shipped.FILES, ROOT)
    (found,) = caught.value.faults
    assert "studies.demo.contrasts.0.metric" in found
    assert f"is '{metric}', which is not measured" in found and hint in found


def test_good_contrasts_are_accepted(config):
    config["studies"]["demo"]["contrasts"] = [
        DEMO | {"a": WANDA, "b": DENSE, "margin": 0.01, "metric": "bertscore_minilm"}
    ]
    study = validate(config, shipped.FILES, ROOT).sections["studies"]["demo"]
    assert study.contrasts[0].margin == 0.01

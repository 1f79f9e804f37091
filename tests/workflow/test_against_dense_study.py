"""Models against their dense model through the whole workflow: columns, words, what runs again."""

import json
import re

import pandas
import pytest
import yaml

from tests.helpers import benchmark_rows
from tests.helpers.runs import ROOT, Run

TABLE = "results/against.parquet"
OVERLAY = """
datasets:
  piqa: {source: asked, files: {validation: piqa.jsonl}}
studies:
  against:
    dataset: tiny-notes
    grid: {model: tiny-llama, prune: [dense, tiny-magnitude-2of4], finetune: [none, tiny-full]}
    contrasts:
      - {name: nearer, a: {prune: tiny-magnitude-2of4, finetune: none}, b: {prune: dense, finetune: tiny-full}, split: apart, metric: kl}
"""  # noqa: E501
ANSWERS = ["flips_right_wrong", "flips_wrong_right", "recognised", "produced"]
COLUMNS = ["apart_agreement", "apart_kl", "apart_piqa_recognised_not_produced"]
COLUMNS += [f"apart_piqa_{name}" for name in ANSWERS]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = Run.fresh(tmp_path_factory.mktemp("against") / "run")
    (run.folder / "asked").mkdir()
    rows = benchmark_rows.piqa(12, seed=1)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (run.folder / "asked/piqa.jsonl").write_text(text)

    page = (ROOT / "docs/how-to/against-dense.md").read_text()
    (asked,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)

    def lay_over(tree):
        for section, profiles in yaml.safe_load(OVERLAY).items():
            tree.setdefault(section, {}).update(profiles)
        shown = yaml.safe_load(asked)
        tree["evaluations"] |= shown["evaluations"]
        tree["studies"]["against"] |= shown["studies"]["against"]

    run.configure(lay_over)
    run.make_artifacts("against")
    done = run.snakemake(TABLE)
    assert done.returncode == 0, done.stdout[-6000:]
    return run


def rows_of(run):
    wide = pandas.read_parquet(run.folder / TABLE)
    return {(row["prune"], row["finetune"]): row for row in wide.to_dict("records")}


def test_every_cell_has_the_columns_and_dense_has_no_distance(run):
    rows = rows_of(run)
    assert {row["status"] for row in rows.values()} == {"ok"}
    dense = rows.pop(("dense", "none"))
    assert (dense["apart_agreement"], dense["apart_kl"]) == (1, 0)
    assert dense["apart_piqa_flips_right_wrong"] == dense["apart_piqa_flips_wrong_right"] == 0
    for row in rows.values():  # the tuned dense model too
        assert row["apart_kl"] > 0 and row["apart_agreement"] <= 1
        assert row["apart_n"] == 4 and row["apart_piqa_n"] == 12
        assert all(row[name] >= 0 for name in COLUMNS)
        assert row["apart_piqa_recognised"] == row["piqa_acc"]
        gained = row["apart_piqa_flips_wrong_right"] - row["apart_piqa_flips_right_wrong"]
        assert row["piqa_acc"] - dense["piqa_acc"] == pytest.approx(gained)
    long = pandas.read_parquet(run.folder / "results/against.long.parquet")
    kl = long[long["metric"] == "kl"]
    assert (kl["low"] <= kl["value"]).all() and (kl["value"] <= kl["high"]).all()


def test_tasks_are_asked_once_for_both_evaluations(run):
    for stage, count in {"tasks": 4, "distances": 4, "answers": 4, "perplexity": 4}.items():
        assert len(list((run.folder / "results/artifacts" / stage).iterdir())) == count


def test_distances_of_models_as_good_as_dense_rank_nothing_and_the_page_says_why(run):
    long = pandas.read_parquet(run.folder / "results/against.long.parquet")
    distances = long["metric"].isin(["kl", "agreement"])
    assert long["near_dense"].isna().eq(~distances).all()
    # A random model is no better than another; a tuned one is.
    near = long[distances].groupby("finetune")["near_dense"].agg(["min", "max"])
    assert near.loc["none"].all() and not near.loc["tiny-full"].any()
    (contrast,) = pandas.read_parquet(run.folder / "results/against.contrasts.parquet").to_dict(
        "records"
    )
    assert contrast["near_dense"] == "a" and "not ranked" in contrast["verdict"]
    text = (run.folder / "results/against.md").read_text()
    assert "apart kl" in text and "≈ its perplexity has an interval that overlaps" in text
    page = (run.folder / "results/against.html").read_text()
    assert "KL from dense" in page
    shown = run.prunegrid("show", "against", "--columns", "apart kl")
    assert "≈" in shown.stdout and "rank none" in " ".join(shown.stdout.split())


def test_it_verifies_and_nothing_is_left_to_do(run):
    done = run.prunegrid("verify", TABLE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert run.plan(TABLE) == {}


def test_its_works_are_cited(run):
    said = " ".join(run.prunegrid("cite", "against").stdout.split())
    for work in ("dutta2024accuracy", "nikolic2026displacement", "wen2026benchmark"):
        assert said.count(work) >= 2, said  # in the text, and its entry
    assert "Flips against the dense model" in said and "Distance from the dense model" in said


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"evaluations": {"apart": {"batch_size": 2}}}, {"tasks": 4, "answers": 4}),
        ({"evaluations": {"apart": {"tasks": []}}}, {}),
        ({"evaluations": {"my-text": {"window": 16}}}, {"perplexity": 4, "distances": 4}),
    ],
)
def test_a_change_of_the_profile_runs_it_alone_again(run, tmp_path, change, again):
    other = run.copy(tmp_path / "other")

    def lay_over(tree):
        for name, keys in change["evaluations"].items():
            tree["evaluations"][name] |= keys

    other.configure(lay_over)
    rules = {"distances": "compare", "answers": "write_answers"}
    expected = {rules.get(stage, stage): count for stage, count in again.items()}
    assert other.plan(TABLE) == {**expected, "aggregate": 1}

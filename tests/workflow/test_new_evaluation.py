"""The worked example of docs/how-to/new-evaluation.md, made as it is written there, and run."""

import re

import pandas
import pytest
import yaml

from tests.helpers.runs import ROOT

TABLE = "results/tiny.parquet"
PAGE = (ROOT / "docs/how-to/new-evaluation.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def example(finished, tmp_path_factory):
    """The finished tiny study, with the example's files and config."""
    run = finished.copy(tmp_path_factory.mktemp("example") / "run", project=True)
    stage, rule, kind = blocks("python")
    library = run.project / "workflow/lib/prunegrid"
    (library / "stages/next_token.py").write_text(stage)
    (library / "config/evaluations/next_token.py").write_text(kind)
    with open(run.project / "workflow/rules/score.smk", "a") as file:
        file.write(f"\n\n{rule}")
    (asked,) = blocks("yaml")

    def lay_over(tree):
        asks = yaml.safe_load(asked)
        tree["evaluations"] |= asks["evaluations"]
        tree["studies"]["tiny"] |= asks["studies"]["tiny"]

    run.configure(lay_over)
    return run


def test_the_example_is_two_files_and_four_lines_and_reruns_nothing_else(example):
    assert len(blocks("python")[1].strip().splitlines()) <= 4
    assert example.plan(TABLE) == {"next_token": 5, "aggregate": 1}


def test_its_scores_are_a_column_with_intervals_and_pairs_and_verify(example):
    done = example.snakemake(TABLE)
    assert done.returncode == 0, done.stdout[-6000:]
    wide = pandas.read_parquet(example.folder / TABLE)
    assert set(wide["status"]) == {"ok"} and wide["next_acc"].between(0, 1).all()
    assert set(wide["next_n"]) == {4}
    long = pandas.read_parquet(example.folder / "results/tiny.long.parquet")
    rows = long[(long["split"] == "next") & (long["metric"] == "acc")]
    assert len(rows) == len(wide) and (rows["low"] <= rows["value"]).all()
    pairs = pandas.read_parquet(example.folder / "results/tiny.pairs.parquet")
    assert (pairs["split"] == "next").any()
    verified = example.prunegrid("verify", TABLE)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert example.plan(TABLE) == {}


def test_a_key_that_is_wrong_is_told_with_the_nearest(example, tmp_path):
    other = example.copy(tmp_path / "other", project=False)
    other.configure(lambda tree: tree["evaluations"]["next"].update(windw=3))
    done = other.snakemake("-n", TABLE)
    assert done.returncode != 0
    assert "evaluations.next.windw" in done.stdout and "window" in done.stdout

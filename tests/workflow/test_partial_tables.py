"""The table of a run that failed: what failed in that run and why, and what it did not reach."""

import json

import pandas
import pytest

from tests.helpers.runs import ROOT, Run, table


@pytest.fixture
def run(tmp_path):
    """A study `s` of a dense and an impossible cell, and a study `t` of the dense one."""
    run = Run.fresh(tmp_path / "run")
    cells = {"dataset": "tiny-text", "evaluations": ["tiny-ppl"]}

    def change(tree):
        tree["prune"] |= {
            "sevens": {"method": "magnitude", "pattern": "3:7"},
            "nines": {"method": "random", "pattern": "5:9"},
        }
        tree["studies"] = {
            name: {**cells, "grid": [{"model": "tiny-llama", "prune": prunings}]}
            for name, prunings in (("s", ["dense", "sevens"]), ("t", ["dense"]))
        }

    run.configure(change)
    return run


def rows(run):
    """Return {pruning: (status, reason)} of the study's table, and its page."""
    wide = table(run, "s").set_index("prune")
    page = (run.folder / "results/s.md").read_text()
    return dict(
        zip(wide.index, zip(wide["status"], wide["reason"], strict=True), strict=True)
    ), page


def test_two_different_failures_in_a_row_are_both_told(run):
    done = run.snakemake("results/s.parquet", "results/t.parquet")
    assert done.returncode == 1
    found, _ = rows(run)
    assert found["dense"][0] == "ok" and "7 does not divide" in found["sevens"][1]
    # The other table of the run is whole, and is left alone.
    assert "Not all of s was made" in done.stdout and "Not all of t" not in done.stdout
    assert (table(run, "t")["status"] == "ok").all()
    run.configure(lambda tree: tree["studies"]["s"]["grid"][0].update(prune=["nines"]))
    assert run.snakemake("results/s.parquet").returncode == 1
    found, page = rows(run)
    assert set(found) == {"nines"} and "9 does not divide" in found["nines"][1]
    assert "9 does not divide" in page and "7 does not divide" not in page
    assert not list(run.folder.glob("results/status/s.*"))
    run.configure(lambda tree: tree["prune"]["nines"].update(pattern="2:4"))
    assert run.snakemake("results/s.parquet").returncode == 0
    assert rows(run)[0]["nines"][0] == "ok"


def test_what_an_earlier_run_failed_at_and_this_did_not_reach_is_missing(run):
    assert run.snakemake("results/s.parquet").returncode == 1
    status = ("status", "s", "--configfile", "config.yaml")
    assert "1 done, 0 running, 1 failed, 0 missing" in run.prunegrid(*status).stdout
    done = run.snakemake("results/s.parquet", "--until", "download_model")
    assert done.returncode == 0, done.stdout
    assert "1 done, 0 running, 0 failed, 1 missing" in run.prunegrid(*status).stdout


IMPORTER = f"""
configfile: "config.yaml"


include: "{ROOT / "Snakefile"}"


onstart:
    with open("text.jsonl", "a") as grown:
        grown.write('{json.dumps({"text": "one more"})}\\n')
"""


def test_a_file_that_grows_meanwhile_is_named_in_the_table(run):
    """The next start sees other keys: the plan of the run that failed has the reason."""
    (run.folder / "Snakefile").write_text(IMPORTER)
    assert run.snakemake("--snakefile", "Snakefile", "results/t.parquet").returncode == 1
    wide = pandas.read_parquet(run.folder / "results/t.parquet")
    assert wide["status"].tolist() == ["failed"]
    assert "text.jsonl: it was changed meanwhile" in wide["reason"].iloc[0]

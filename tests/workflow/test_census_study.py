"""A census through the workflow: three kinds of models and a pruned one, counted and verified."""

import pandas

from tests.helpers.runs import Run

FILES = ("parquet", "csv", "md", "png", "svg", "depth.png", "depth.svg", "manifest.json")


def test_from_models_to_a_table_that_attests_itself(tmp_path):
    run = Run.fresh(tmp_path / "run")
    table = "results/census-tiny.parquet"
    planned = {"download_model": 3, "prune": 1, "census": 4, "census_table": 1}
    assert run.plan(table) == planned
    done = run.snakemake(table)
    assert done.returncode == 0, done.stdout[-6000:]
    for suffix in FILES:
        assert (run.folder / f"results/census-tiny.{suffix}").stat().st_size > 500
    frame = pandas.read_parquet(run.folder / table)
    assert set(frame["status"]) == {"ok"} and frame["weights_sha256"].nunique() == 4
    for _, rows in frame.groupby(["model", "prune"]):
        totals = rows.groupby("group")["count"].sum()
        assert totals["all"] == totals["block"] == totals["kind"]
        assert totals["all"] == rows[rows["group"] == "all"]["parameters"].iloc[0]
    stacks = frame.dropna(subset="stack").groupby("model")["stack"].unique().map(sorted).to_dict()
    assert stacks["tiny-t5"] == ["decoder.block", "encoder.block"]
    pruned = frame[(frame["prune"] == "tiny-magnitude-2of4") & (frame["bin"] == "0")]
    assert pruned[pruned["kind"].isin(["attention", "mlp"])]["share"].tolist() == [0.5, 0.5]
    assert run.plan(table) == {}
    # How zeros are shown is the table's alone.
    run.configure(lambda tree: tree["studies"]["census-tiny"].update(zeros="within"))
    assert run.plan(table) == {"census_table": 1}
    run.configure(lambda tree: tree["studies"]["census-tiny"].pop("zeros"))
    verified = run.prunegrid("verify", table)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "4 done" in run.prunegrid("status", "census-tiny", "--configfile", "config.yaml").stdout
    export = ("export-rows", "census-tiny")
    assert run.prunegrid(*export, "crate", "--format", "ro-crate").returncode == 0
    assert (run.folder / "crate/census-tiny.parquet").is_file()
    refused = run.prunegrid(*export, "rows", "--format", "every-eval-ever")
    assert refused.returncode == 1 and "a census has no scores" in refused.stderr
    assert "han2015learning" in run.prunegrid("cite", "census-tiny").stdout
    frame.loc[frame["group"] == "all", "count"] += 1
    found = differences_of(run, frame, table)
    assert "counted" in found and "the table says" in found


def differences_of(run, frame, table):
    """Put a changed table in the place of the one that was made; say what verifying finds."""
    from prunegrid.commands import verify
    from prunegrid.common.file_io import read_json

    plan = read_json(run.folder / "results/census-tiny.manifest.json")["plan"]
    for cell in plan["cells"]:
        for ref in (cell["census"], *cell["chain"]):
            ref["path"] = str(run.folder / ref["path"])
    frame.to_parquet(run.folder / table)
    return " ".join(verify.census_differences(run.folder / table, plan))

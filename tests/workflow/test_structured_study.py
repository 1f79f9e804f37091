"""Units removed through the whole workflow: smaller at each step, in the table, verified."""

import pandas
import pytest

from tests.helpers.runs import Run


def test_models_shrink_step_by_step_and_verify(tmp_path):
    run = Run.fresh(tmp_path / "run")
    run.make_artifacts("shrunken")
    done = run.snakemake("results/shrunken.parquet")
    assert done.returncode == 0, done.stdout[-6000:]
    wide = pandas.read_parquet(run.folder / "results/shrunken.parquet")
    assert set(wide["status"]) == {"ok"} and len(wide) == 1 + 3 + 2
    rows = {(row["prune"], row["finetune"]): row for row in wide.to_dict("records")}
    dense = rows["dense", "none"]
    assert pandas.isna(dense["removed_prunable"]) and pandas.isna(dense["units"])
    chain = rows["taylor-0.2+taylor-0.4", "tiny-chain+tiny-chain"]
    once = rows["taylor-0.4", "tiny-chain-x2"]
    for row in (chain, once):
        assert row["removed_prunable"] == pytest.approx(0.4, abs=0.02)
        assert row["parameters"] == round((1 - row["removed_total"]) * dense["parameters"])
        assert row["train_tokens"] == 128 and pandas.isna(row["zeros_promised"])
        assert (row["pattern"], row["units"], row["sparsity_target"]) == ("structured", "mlp", 0.4)
        for size in ("file_bytes", "bytes_dense_float32", "bytes_nf4", "bytes_packed"):
            assert row[size] < dense[size], size
    assert rows["random-blocks-0.5", "none"]["removed_prunable"] == 0.5
    assert rows["random-heads_mlp-0.5", "none"]["units"] == "heads+mlp"
    shown = (run.folder / "results/shrunken.md").read_text()
    (header,) = [line for line in shown.splitlines() if line.startswith("| prune")]
    assert {"removed", "of all"} < {name.strip() for name in header.split("|")}
    done = run.prunegrid("verify", "results/shrunken.parquet")
    assert done.returncode == 0, done.stdout + done.stderr

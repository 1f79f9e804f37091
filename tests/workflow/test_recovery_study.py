"""Recovery through the whole workflow: what each way keeps stands in its row, and verifies."""

import pandas

from tests.helpers.runs import Run


def test_each_way_says_what_it_kept(tmp_path):
    run = Run.fresh(tmp_path / "run")
    run.make_artifacts("recovery")
    done = run.snakemake("results/recovery.parquet")
    assert done.returncode == 0, done.stdout[-6000:]
    wide = pandas.read_parquet(run.folder / "results/recovery.parquet").set_index("finetune")
    assert set(wide["status"]) == {"ok"} and len(wide) == 5
    told = wide[["adapter", "weight_precision", "zeros_promised", "zeros_filled"]].to_dict("index")
    assert list(told["tiny-merged"].values()) == ["merged", "nf4", "all", 0]
    assert list(told["tiny-reconstruct+tiny-int8"].values()) == ["none", "int8", "all", 0]
    assert pandas.isna(told["none"]["zeros_promised"])
    unmasked, free = wide.loc["tiny-unmasked"], wide.loc["tiny-free"]
    assert unmasked["zeros_promised"] == "base" and unmasked["zeros_filled"] > 0
    assert unmasked["sparsity_prunable"] == 0.5 > unmasked["sparsity_effective"]
    assert free["zeros_promised"] == "none" and not free["nm_valid"]
    kept = wide.drop(index=["tiny-unmasked", "tiny-free"])
    assert kept["nm_valid"].all() and (kept["sparsity_effective"] >= 0.5).all()
    assert wide["merge_loss_after"].notna().sum() == 1
    assert wide.loc["tiny-reconstruct+tiny-int8", "calibration"] == "tiny"
    done = run.prunegrid("verify", "results/recovery.parquet")
    assert done.returncode == 0, done.stdout + done.stderr

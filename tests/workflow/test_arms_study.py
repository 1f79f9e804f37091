"""An iterated grid through the workflow: equal tokens, zeros kept at each step, one figure."""

import pandas
import pytest

from tests.helpers.runs import Run


def test_arms_spend_the_same_tokens_and_keep_their_zeros(tmp_path):
    run = Run.fresh(tmp_path / "run")
    run.make_artifacts("arms")
    done = run.snakemake("results/arms.parquet")
    assert done.returncode == 0, done.stdout[-6000:]
    wide = pandas.read_parquet(run.folder / "results/arms.parquet")
    assert set(wide["status"]) == {"ok"}
    # The dense model, two one-shot, two tuned, one iterated, two dense tuned.
    assert len(wide) == 1 + 7
    arms = {arm: rows for arm, rows in wide.groupby("arm")}
    (tuned,) = arms["one-shot-tuned"].to_dict("records")
    (chain,) = arms["iterative"].to_dict("records")
    assert chain["prune"] == "sparsegpt-0.3+sparsegpt-0.6"
    for row in (tuned, chain):
        assert row["train_tokens"] == 128 and row["zeros_filled"] == 0
        assert row["sparsity_prunable"] == pytest.approx(0.6, abs=1e-3)
    assert chain["zeros_revived"] == 0 and pandas.isna(tuned["zeros_revived"])
    assert arms["dense-tuned"]["train_tokens"].tolist() == [64, 128]
    for form in ("png", "svg"):
        assert (run.folder / f"results/arms.{form}").stat().st_size > 5000
    drawing = (run.folder / "results/arms.svg").read_text()
    assert "sparsegpt-0.3 + sparsegpt-0.6" in drawing and "lower is better" in drawing
    done = run.prunegrid("verify", "results/arms.parquet")
    assert done.returncode == 0, done.stdout + done.stderr

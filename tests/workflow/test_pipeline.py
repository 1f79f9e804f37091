"""The tiny study end to end: the table, its attestation, failures. Kills: `tests/faults`."""

import json
from pathlib import Path

import pandas

from prunegrid.artifacts import artifact_folder
from prunegrid.artifacts.artifact_folder import sealed
from prunegrid.common import file_io
from prunegrid.tables.page import assembly
from prunegrid.tables.schema import COLUMNS, CONTROLS, KEYS
from prunegrid.tables.table_names import outputs
from tests.helpers.runs import table


def test_the_table_is_whole(finished):
    wide = table(finished)
    assert len(wide) == 5
    assert set(wide["status"]) == {"ok"}
    assert not wide.duplicated(subset=[column.name for column in KEYS]).any()
    assert [c for c in wide][: len(COLUMNS)] == [column.name for column in COLUMNS]
    assert {str(wide[column.name].dtype).lower() for column in COLUMNS} <= {
        "string",
        "str",
        "float64",
        "int64",
        "boolean",
    }
    for path in outputs("tiny"):
        assert (finished.folder / path).stat().st_size > 0
    page = (finished.folder / "results/tiny.html").read_text(encoding="utf-8")
    assert assembly.FAILED_PART not in page


def test_each_cell_has_a_link_to_its_weights_and_an_explanation(finished):
    """The link leads to the folder that the row names; a whole cell says so."""
    for row in table(finished).to_dict("records"):
        name = f"results/models/tiny/{row['prune']}--{row['finetune']}*"
        (link,) = finished.folder.glob(name)
        assert link.is_symlink()
        assert link.resolve() == (finished.folder / row["artifact"]).resolve()
    words = ("explain", "tiny/tiny-wanda-50/tiny-lora", "--configfile", "config.yaml")
    assert "whole" in finished.prunegrid(*words).stdout


def test_the_rows_say_what_was_measured(finished):
    wide = table(finished).set_index(["prune", "finetune"])
    dense = wide.loc[("dense", "none")]
    wanda = wide.loc[("tiny-wanda-50", "none")]
    lora = wide.loc[("tiny-wanda-50", "tiny-lora")]
    qlora = wide.loc[("tiny-sparsegpt-2of4", "tiny-qlora")]
    assert dense["sparsity_prunable"] < 0.01 and pandas.isna(dense["sparsity_target"])
    assert wanda["sparsity_prunable"] == lora["sparsity_prunable"] == 0.5
    assert wanda["weights_sha256"] != lora["weights_sha256"]
    assert (lora["adapter"], qlora["adapter"]) == ("merged", "unmerged")
    assert qlora["weight_precision"] == "nf4" and qlora["sparsity_target"] == 0.5
    assert bool(qlora["nm_valid"]) and qlora["sparsity_effective"] >= 0.5
    assert pandas.isna(wanda["nm_valid"])
    assert dense["parameters"] == wanda["parameters"] == lora["parameters"] < qlora["parameters"]
    assert wanda["nonzero_parameters"] < dense["nonzero_parameters"]
    assert pandas.isna(dense["seed"]) and wanda["seed"] == 0
    assert (wide["test_n"] == 6).all()
    assert wide["test_rouge1"].between(0, 1).all()
    assert (wide["tiny-ppl_ppl_32_nonoverlap"] > 1).all()
    assert wide["decode_tokens_per_second"].gt(0).all()
    assert wide["train_seconds"].notna().sum() == 3
    assert sorted(wide["decode_speed_vs_dense"].notna()) == [False] + [True] * 4
    assert pandas.isna(dense["decode_speed_vs_dense"])
    assert (wide["energy_method"].notna() & wide["sparse_kernel_linears"].isna()).all()
    assert (wide["bytes_entropy_bound"] <= wide["bytes_packed"]).all()
    assert (wide["bytes_dense_float32"] == dense["bytes_dense_float32"]).all()
    assert wanda["bytes_packed"] < dense["bytes_packed"]
    assert qlora["bytes_packed"] < wanda["bytes_packed"]


def test_the_long_table_holds_baselines_and_intervals(finished):
    tall = pandas.read_parquet(finished.folder / "results/tiny.long.parquet")
    assert set(tall["kind"]) == {"cell", "baseline", "oracle", "gaming"}
    rouge = tall[tall["metric"] == "rouge1"]
    assert (rouge["low"] <= rouge["value"]).all() and (rouge["value"] <= rouge["high"]).all()


def test_controls_and_examples_stand_beside_the_cells(finished):
    controls = pandas.read_parquet(finished.folder / "results/tiny.controls.parquet")
    assert [c for c in controls] == [column.name for column in CONTROLS]
    assert set(controls["role"]) == {"baseline", "oracle", "gaming"}
    # Random models say nothing, so shuffled references win.
    shuffled = controls[controls["name"] == "shuffled-reference"].set_index("metric")
    assert shuffled.loc["rouge1", "value"] == 1 and bool(shuffled.loc["rouge1", "flagged"])
    assert not {"lead-5", "shuffled-reference"} & set(table(finished)["prune"])
    singles = pandas.read_parquet(finished.folder / "results/tiny.examples.parquet")
    assert len(singles) == 6 * (5 + 3) and singles["label"].notna().all()
    wide = table(finished)
    rates = wide[[c for c in wide if c.startswith("test_label_")]]
    assert (rates.sum(axis=1) - 1).abs().max() < 1e-9
    page = (finished.folder / "results/tiny.examples.md").read_text()
    assert page.count("**greedy-extract** (oracle): label copied") == 4
    text = (finished.folder / "results/tiny.md").read_text()
    assert "Flagged metrics" in text and "test rouge1: shuffled-reference by" in text
    status = finished.prunegrid("status", "tiny", "--configfile", "config.yaml").stdout
    assert "done     control shuffled-reference / tiny-notes / test" in status
    assert "controls: 3 of 3 done" in status


def test_the_contrasts_have_verdicts_and_the_conclusions_a_page(finished, tmp_path):
    found = pandas.read_parquet(finished.folder / "results/tiny.contrasts.parquet")
    assert found["contrast"].tolist() == ["tuned", "texts"] and found["reason"].isna().all()
    assert found["n"].tolist() == [4, 6]
    assert set(found["verdict"]) <= {
        "better", "worse", "non-inferior", "not distinguishable at this n", "not ranked: at chance",
        "too few items for a verdict",
    }  # fmt: skip
    assert "Declared contrasts" in (finished.folder / "results/tiny.md").read_text()
    tall = pandas.read_parquet(finished.folder / "results/tiny.long.parquet")
    assert (tall.loc[tall["split"] == "tiny-ppl", "chance"] > 2).all()
    run = finished.copy(tmp_path / "copy")
    assert run.prunegrid("claims").returncode == 0
    assert "On tiny-llama / tiny-notes" in (run.folder / "results/claims.md").read_text()


def test_verify_passes_on_what_was_run(finished):
    done = finished.prunegrid("verify", "results/tiny.parquet")
    assert done.returncode == 0, done.stdout + done.stderr


def reseal(folder: Path) -> None:
    """Make a changed artifact's manifest fit its files again, as a careful forger would."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = artifact_folder.list_files(folder)
    manifest["content"] = artifact_folder.content_digest(manifest["files"])
    file_io.write_json(folder / "manifest.json", sealed(manifest))


def test_verify_names_forged_predictions_and_weights(finished, tmp_path):
    run = finished.copy(tmp_path / "copy")
    row = table(run).iloc[3]
    artifacts = run.folder / "results/artifacts"
    texts = next(artifacts.glob("predictions/*/predictions.parquet"))
    (control,) = artifacts.glob("controls/*/0-lead/predictions.parquet")
    for path, artifact in ((texts, texts.parent), (control, control.parents[1])):
        forged = pandas.read_parquet(path)
        forged["prediction"] = forged["reference"]
        forged.to_parquet(path)
        reseal(artifact)
    weights = run.folder / row["artifact"] / "model.safetensors"
    body = bytearray(weights.read_bytes())
    body[-1] ^= 1
    weights.write_bytes(body)
    reseal(weights.parent)
    done = run.prunegrid("verify", "results/tiny.parquet")
    assert done.returncode == 1
    assert "rouge1" in done.stdout
    told = control.parent.relative_to(run.folder)
    assert f"{told}: rouge1 of single items differs" in done.stdout
    assert f"{row['artifact']}: weights hash to" in done.stdout


def test_dense_weights_in_the_place_of_pruned_ones_fail_the_job(finished, tmp_path):
    run = finished.copy(tmp_path / "copy")
    wide = table(run).set_index(["prune", "finetune"])
    dense = run.folder / wide.loc[("dense", "none"), "artifact"]
    pruned = run.folder / wide.loc[("tiny-wanda-50", "none"), "artifact"]
    (pruned / "model.safetensors").write_bytes((dense / "model.safetensors").read_bytes())
    reseal(pruned)
    for manifest in run.folder.glob("results/artifacts/predictions/*/manifest.json"):
        body = json.loads(manifest.read_text())
        if body["parents"]["weights"]["key"] == pruned.name:
            manifest.unlink()
    (run.folder / "results/tiny.parquet").unlink()
    done = run.snakemake("results/tiny.parquet")
    assert done.returncode == 1
    assert "the weights in memory have sha256" in done.stdout
    failed = table(run).set_index(["prune", "finetune"])
    assert failed.loc[("tiny-wanda-50", "none"), "status"] == "failed"
    assert "in memory" in failed.loc[("tiny-wanda-50", "none"), "reason"]
    assert failed.loc[("dense", "none"), "status"] == "ok"


def test_a_failed_cell_is_a_row_and_the_next_run_completes_the_table(finished, tmp_path):
    run = finished.copy(tmp_path / "copy")

    def break_one(tree):
        tree["prune"]["odd"] = {"method": "magnitude", "pattern": "3:7"}
        tree["studies"]["tiny"]["grid"].append({"model": "tiny-llama", "prune": "odd"})

    run.configure(break_one)
    done = run.snakemake("results/tiny.parquet")
    assert done.returncode == 1
    wide = table(run)
    assert list(wide["status"]) == ["ok"] * 5 + ["failed"]
    assert "7" in wide["reason"].iloc[-1] and "q_proj" in wide["reason"].iloc[-1]
    assert "1 of 6 cells failed" in (run.folder / "results/tiny.md").read_text()
    status = run.prunegrid("status", "tiny", "--configfile", "config.yaml").stdout
    assert "5 done, 0 running, 1 failed, 0 missing" in status
    words = ("export-rows", "tiny", "--format", "every-eval-ever", "rows")
    assert "1 of 6 cells have no scores" in run.prunegrid(*words).stdout
    assert run.prunegrid("export-rows", "tiny", "crate", "--format", "ro-crate").returncode == 0
    crate = (run.folder / "crate/ro-crate-metadata.json").read_text()
    assert crate.count("FailedActionStatus") == 1 and "input columns, which 7" in crate
    cited = run.prunegrid("cite", "tiny").stdout
    assert "sun2024simple" in cited and "han2015learning" not in cited
    run.configure(lambda tree: tree["prune"]["odd"].update(pattern="2:4"))
    assert run.snakemake("results/tiny.parquet").returncode == 0
    assert list(table(run)["status"]) == ["ok"] * 6


def test_cells_share_the_hessians_of_their_dense_model(finished, tmp_path):
    """They are measured once, by a job of their own, for the cells of now and of later runs."""
    run = finished.copy(tmp_path / "run")
    later = {"hessians": 1, "prune": 1, "perplexity": 1, "aggregate": 1}
    assert run.plan("results/shared-2of4.parquet") == later | {"perplexity": 1}
    both = later | {"prune": 2, "perplexity": 2}
    assert run.plan("results/shared.parquet") == both
    assert run.snakemake("results/shared-2of4.parquet").returncode == 0
    assert run.plan("results/shared.parquet") == {"prune": 1, "perplexity": 1, "aggregate": 1}
    done = run.snakemake("results/shared.parquet")
    assert done.returncode == 0, done.stdout[-3000:]
    wide = table(run, "shared")
    assert set(wide["propagation"]) == {"dense"} and wide["nm_valid"].all()
    first = table(run, "shared-2of4")["weights_sha256"].item()
    assert first in set(wide["weights_sha256"]) and wide["weights_sha256"].is_unique


def test_a_known_value_that_has_drifted_fails_the_table(finished, tmp_path):
    run = finished.copy(tmp_path / "run")
    wide = table(run)
    column = "tiny-ppl_ppl_32_nonoverlap"
    true = float(wide.loc[wide["prune"] == "dense", column].iloc[0])
    cells = {"prune": "dense", "finetune": "none"}
    known = {"cells": cells, "column": column, "within": 0.01, "source": "an earlier run"}

    def expect(value):
        entry = {**known, "value": value}
        run.configure(lambda tree: tree["studies"]["tiny"].update(expected=[entry]))
        return run.snakemake("results/tiny.parquet")

    assert expect(true).returncode == 0
    assert "as expected" in (run.folder / "results/tiny.md").read_text()
    done = expect(true * 1.5)
    assert done.returncode == 1
    assert "off by -33.3%" in done.stdout
    assert "off by -33.3%, allowed ±1.0%" in (run.folder / "results/tiny.md").read_text()
    # It is the dense model's: the table begins with it, and no contrast has a verdict.
    _, first, *_ = (run.folder / "results/tiny.md").read_text().split("\n\n")
    assert first.startswith("**The dense model has drifted")
    contrasts = pandas.read_parquet(run.folder / "results/tiny.contrasts.parquet")
    assert len(contrasts) and set(contrasts["verdict"]) == {"not given"}


def test_the_table_says_what_was_learned_and_cut(finished):
    """Training and calibration rows are others than the scored ones, and all prompts fit."""
    wide = table(finished).set_index(["prune", "finetune"])
    shares = wide["learned_share"]
    assert pandas.isna(shares["dense", "none"]) and (shares.drop(("dense", "none")) == 0).all()
    assert (wide["contexts_cut"] == 0).all()
    long = pandas.read_parquet(finished.folder / "results/tiny.long.parquet")
    cells = long[long["kind"] == "cell"].set_index("split")
    assert (cells.loc["test", "contexts_cut"] == 0).all()
    assert cells.loc["tiny-ppl", "contexts_cut"].isna().all()
    assert long[long["kind"] != "cell"]["learned_share"].isna().all()

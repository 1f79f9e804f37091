"""One byte flipped in weights, Parquet or a manifest: told, never in a row, and repaired."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.helpers.disturbed import (
    TARGET,
    require_calm,
    require_no_wrong_row,
    require_recovery,
    whole,
)

# The artifact, its file, and what has to be made again for the damage to be met at all.
DAMAGE = {
    "weights": ("prune", "model.safetensors", ("finetune", "predictions", "scores")),
    "data": ("data", "train.parquet", ("finetune", "predictions", "scores")),
    "scores": ("scores", "scores.parquet", ()),
    "a record": ("predictions", "manifest.json", ()),
}


def flip(path, place=None):
    """Flip a bit of a byte: one of a digit of what is recorded, or the middle of the file."""
    body = bytearray(path.read_bytes())
    body[len(body) // 2 if place is None else place] ^= 1
    path.write_bytes(body)


def of_a_count(path) -> int:
    """Return the place of a digit of a count that stands in a manifest's record."""
    body = path.read_bytes()
    name = b'"parameters": '
    place = body.rindex(name) + len(name)
    assert body[place : place + 1].isdigit()
    return place


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_flipped_byte_is_told_and_repaired(calm, tmp_path, kind):
    stage, name, again = DAMAGE[kind]
    run = calm.copy(tmp_path / "run")
    (folder,) = run.folder.glob(f"results/artifacts/{stage}/*")
    flip(folder / name, of_a_count(folder / name) if name == "manifest.json" else None)
    for other in again:
        shutil.rmtree(run.folder / f"results/artifacts/{other}")
    for path in run.folder.glob("results/one.*"):
        path.unlink()
    done = run.snakemake(TARGET)
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert folder.name in done.stdout and "run" in done.stdout
    require_no_wrong_row(run, calm)
    repaired = run.prunegrid("repair")
    assert repaired.returncode == 0 and folder.name in repaired.stdout
    assert not folder.exists()
    before = whole(run)
    if stage == "predictions":  # Snakemake runs again what reads an artifact that is made again
        (scores,) = run.folder.glob("results/artifacts/scores/*")
        del before[scores.name]
    require_recovery(run, calm, before)


def test_a_damaged_table_is_told_and_written_again(calm, tmp_path):
    for suffix in ("parquet", "long.parquet", "csv", "manifest.json"):
        run = calm.copy(tmp_path / suffix)
        before = whole(run)
        flip(run.folder / f"results/one.{suffix}")
        told = run.prunegrid("verify", TARGET)
        assert told.returncode == 1 and "Traceback" not in told.stderr
        assert run.plan(TARGET) == {"aggregate": 1}
        if suffix == "manifest.json":
            require_recovery(run, calm, before)


def test_a_damaged_row_of_what_is_not_read_again_is_found_by_verify(calm, tmp_path):
    """The table was made before the damage: its rows are right, and say what is damaged now."""
    run = calm.copy(tmp_path / "run")
    (folder,) = run.folder.glob("results/artifacts/finetune/*")
    flip(folder / "model.safetensors")
    assert run.plan(TARGET) == {}
    told = run.prunegrid("verify", TARGET)
    assert told.returncode == 1 and folder.name in told.stdout
    assert run.prunegrid("repair").returncode == 0
    assert run.plan(TARGET) == {}
    require_no_wrong_row(run, calm)


def test_a_lost_snakemake_folder_and_torn_leftovers_change_nothing(calm, tmp_path):
    run = calm.copy(tmp_path / "run")
    before = whole(run)
    shutil.rmtree(run.folder / ".snakemake")
    (model,) = run.folder.glob("results/artifacts/model/*")
    (model.parent / f".{model.name}.1.tmp").mkdir()
    (run.folder / f"results/status/model-{model.name}.json").write_text('{"state": "run')
    (run.folder / "results/.one.parquet.1.tmp").write_bytes(b"half")
    (run.folder / "results/one.md").unlink()
    assert run.plan(TARGET) == {"aggregate": 1}
    assert json.loads((model / "manifest.json").read_text())["key"] == model.name
    done = run.snakemake(TARGET)
    assert done.returncode == 0
    require_no_wrong_row(run, calm)
    assert whole(run) == before
    assert run.prunegrid("repair").returncode == 0
    # A record that cannot be read is dropped by the run.
    assert not (run.folder / f"results/status/model-{model.name}.json").exists()
    require_calm(run, calm, before)

"""Timings in real runs: alone on the machine, in turns with the untouched model, taken again."""

import json
import shutil

import pandas

TABLE = "results/tiny.parquet"


def timings(run):
    """Return {label: record} of the timings."""
    found = {}
    for path in run.folder.glob("results/artifacts/efficiency/*/manifest.json"):
        manifest = json.loads(path.read_text())
        found[manifest["label"]] = manifest["record"] | {"parents": manifest["parents"]}
    return found


def test_each_cell_took_turns_with_the_untouched_model(finished):
    found = timings(finished)
    assert len(found) == 5
    alone = [record for record in found.values() if "dense" not in record["parents"]]
    assert len(alone) == 1 and alone[0]["versus"] == {}
    for label, record in found.items():
        others = sorted(record["versus"])
        assert others == ["dense", "dense_same_format"] if "qlora" in label else len(others) <= 1
        assert record["alone"] == "machine" and record["peak_memory_bytes"] > 10**8
    wide = pandas.read_parquet(finished.folder / TABLE)
    assert set(wide["speed_alone"]) == {"machine"}
    assert wide["speed_pairs"].isna().sum() == 1
    # Two pairs say nothing of the noise: no interval, no verdict.
    for column in ("decode_speed_vs_dense_low", "decode_speed_verdict"):
        assert wide[column].isna().all()
    assert wide["decode_speed_vs_dense_same_format"].notna().sum() == 1


def test_no_step_ran_beside_a_timing(finished):
    """The run had two cores, and each step needs one."""
    spans = {}
    for path in finished.folder.glob("results/artifacts/*/*/manifest.json"):
        manifest, end = json.loads(path.read_text()), path.stat().st_mtime
        spans[manifest["stage"], manifest["key"]] = (end - manifest["seconds"], end)
    timed = [name for name in spans if name[0] == "efficiency"]
    assert len(timed) == 5
    for name in timed:
        began, ended = spans[name]
        beside = [n for n, (b, e) in spans.items() if n != name and b < ended and began < e]
        assert beside == []


def test_removed_timings_are_taken_again_with_their_table_and_nothing_else(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    said = copy.prunegrid("remeasure", "tiny", "--all", "--configfile", "config.yaml")
    assert said.returncode == 0, said.stderr
    assert "5 of 5 timings removed" in said.stdout
    assert "prunegrid run tiny -c config.yaml" in said.stdout
    assert copy.plan(TABLE) == {"efficiency": 5, "aggregate": 1}


def test_a_study_that_times_some_cells_asks_for_those_alone(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    shutil.rmtree(copy.folder / "results/artifacts/efficiency")
    timed = [{"prune": "dense", "finetune": "none"}, {"finetune": "tiny-qlora"}]
    copy.configure(lambda tree: tree["studies"]["tiny"].update(timed=timed))
    assert copy.plan(TABLE) == {"efficiency": 2, "aggregate": 1}

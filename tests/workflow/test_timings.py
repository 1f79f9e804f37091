"""Timings in real runs: alone on the machine, in turns with the untouched model, taken again."""

import json
import re
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


def test_a_timing_asks_for_all_cores_and_no_other_step_does(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    for stage in ("efficiency", "perplexity"):
        shutil.rmtree(copy.folder / "results/artifacts" / stage)
    shown = copy.snakemake("-n", TABLE, "--cores", "3").stdout
    threads = {}
    for name, body in re.findall(r"rule (\w+):\n(.*?)\n\n", shown + "\n\n", re.S):
        asked = re.search(r"threads: (\d+)", body)
        threads.setdefault(name, set()).add(int(asked[1]) if asked else 1)
    assert threads["efficiency"] == {3} and threads["perplexity"] == {1}


def test_removed_timings_are_taken_again_with_their_table_and_nothing_else(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    said = copy.prunegrid("remeasure", "tiny", "--all", "--configfile", "config.yaml")
    assert said.returncode == 0, said.stderr
    assert "5 of 5 timings removed" in said.stdout
    assert f"--configfile config.yaml -- {TABLE}" in said.stdout
    assert copy.plan(TABLE) == {"efficiency": 5, "aggregate": 1}


def test_a_study_that_times_some_cells_asks_for_those_alone(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    shutil.rmtree(copy.folder / "results/artifacts/efficiency")
    timed = [{"prune": "dense", "finetune": "none"}, {"finetune": "tiny-qlora"}]
    copy.configure(lambda tree: tree["studies"]["tiny"].update(timed=timed))
    assert copy.plan(TABLE) == {"efficiency": 2, "aggregate": 1}

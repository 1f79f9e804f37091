"""Speeds in the table: read from the timing, and marked where it was disturbed."""

import pandas
import pytest

from prunegrid.tables import finished, schema, speed


def record(**changes):
    ratio = {"value": 1.5, "low": 1.2, "high": 1.8, "verdict": "faster"}
    same = {"value": 0.9, "low": 0.7, "high": 1.1, "verdict": "not distinguishable"}
    return {
        "prefill_tokens_per_second": {"median": 100.0},
        "decode_tokens_per_second": {"median": 20.0},
        "versus": {
            "dense": {"prefill": ratio, "decode": ratio | {"value": 1.4}},
            "dense_same_format": {"prefill": same, "decode": same},
        },
        "disturbed": [],
        "alone": "machine",
        "pairs": 30,
        "turn_seconds": 2.0,
        "turn_cpu_seconds": 1.9,
    } | changes


def row(**changes):
    return {column.name: None for column in schema.COLUMNS} | speed.columns(record(**changes))


def test_columns_are_what_the_timing_says():
    found = speed.columns(record())
    assert found.keys() <= {column.name for column in schema.COLUMNS}
    assert found["decode_speed_vs_dense"] == 1.4 and found["decode_speed_vs_dense_low"] == 1.2
    assert found["prefill_speed_vs_dense_same_format_high"] == 1.1
    assert found["prefill_speed_verdict"] == found["decode_speed_verdict"] == "faster"
    assert found["speed_disturbed"] is None and found["speed_alone"] == "machine"
    assert (found["speed_pairs"], found["turn_seconds"]) == (30, 2.0)
    assert found["turn_cpu_seconds"] == 1.9


def test_a_disturbed_timing_says_why_and_has_no_verdict():
    found = speed.columns(record(disturbed=["it waited", "others ran"]))
    assert found["speed_disturbed"] == "it waited; others ran"
    assert found["prefill_speed_verdict"] is found["decode_speed_verdict"] is None
    assert found["decode_speed_vs_dense"] == 1.4


def test_the_untouched_model_has_speeds_and_no_ratio():
    found = speed.columns(record(versus={}, pairs=None))
    assert found["decode_tokens_per_second"] == 20.0
    assert not any("vs_dense" in name or "verdict" in name for name in found)


def test_whole_passes_have_no_decoding():
    phases = record()["versus"]["dense"]
    passes = {"dense": {"prefill": phases["prefill"]}}
    made = row(decode_tokens_per_second=None, versus=passes)
    assert made["decode_tokens_per_second"] is made["decode_speed_vs_dense"] is None
    assert speed.shown(made) == {
        "tok/s": "100.0", "vs dense": "1.50 (1.20–1.80)", "vs dense, same format": "",
    }  # fmt: skip


def test_a_timing_from_before_turns_has_its_speeds_alone():
    old = {k: v for k, v in record().items() if k.endswith("per_second")}
    found = speed.columns(old)
    assert {name for name, value in found.items() if value is not None} == set(old)


@pytest.mark.parametrize("disturbed", [[], ["others ran"]])
def test_the_page_marks_what_was_disturbed(disturbed):
    made = row(disturbed=disturbed) | {"study": "s"}
    mark = " §" if disturbed else ""
    assert speed.shown(made)["tok/s"] == f"20.0{mark}"
    assert speed.shown(made)["vs dense"] == f"1.40 (1.20–1.80){mark}"
    text = " ".join(speed.sentences(pandas.DataFrame([made, made])))
    assert ("§ 2 timing(s) were disturbed" in text) == bool(disturbed)
    assert ("others ran" in text and "prunegrid remeasure s" in text) == bool(disturbed)
    assert "weight format" in text


def test_an_untimed_row_shows_nothing():
    empty = {column.name: None for column in schema.COLUMNS} | {"study": "s"}
    assert set(speed.shown(empty).values()) == {""}
    assert speed.sentences(pandas.DataFrame([empty])) == []


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"form": "packed", "values": "int8", "kernel": "avx2"}, "packed int8, avx2"),
        ({"form": "packed", "values": "float32", "kernel": None}, "packed float32, no kernel"),
        ({"form": "dense", "reason": None}, "dense"),
        ({"form": "dense", "reason": "they are quantized"}, "dense: they are quantized"),
    ],
)
def test_a_row_says_how_its_weights_ran(form, words):
    found = speed.columns(record(form=form | {"resident_bytes": 7}))
    assert (found["speed_form"], found["resident_bytes"]) == (words, 7)
    (said,) = speed.sentences(pandas.DataFrame([row(form=form, versus={})])) or [""]
    assert (words in said) == words.startswith("packed")


def packed(name, times, kernel="avx2", **changes):
    form = {"form": "packed", "values": kernel and "int8", "kernel": kernel}
    versus = {"dense": {"decode": record()["versus"]["dense"]["decode"] | {"value": times}}}
    made = row(form=form | {"resident_bytes": 102_000_000}, versus=versus, **changes)
    return made | {"prune": name, "finetune": "none", "method": "wanda", "strategy": "none"}


def test_the_last_line_names_the_fastest_packed_cell():
    dense = row() | {"prune": "dense", "finetune": "none"}
    rows = [dense, packed("a", 1.2), packed("b", 1.9), packed("c", 3.0, disturbed=["others ran"])]
    line = speed.packed_line(pandas.DataFrame(rows))
    assert "b / none" in line and "1.90 (1.20–1.80) times" in line and "102 MB" in line
    assert speed.packed_line(pandas.DataFrame([dense])) is None
    assert speed.packed_line(pandas.DataFrame([dense, rows[-1]])) is None


def test_without_a_kernel_the_last_line_says_what_is_missing():
    rows = [row() | {"prune": "dense", "finetune": "none"}, packed("a", 1.0, kernel=None)]
    line = speed.packed_line(pandas.DataFrame(rows))
    assert "compiler" in line and "docs/how-to/run-packed.md" in line and "\n" not in line


def test_the_untouched_model_keeps_the_speed_of_its_packed_self():
    """As dense weights it is once as fast as itself; packed it is timed beside them."""
    rows = [packed("dense", 1.3) | {"method": "dense"}, row(versus={}) | {"method": "dense"}]
    rows[1] |= {"strategy": "none"}
    found = finished.undisturbed(pandas.DataFrame(rows))["decode_speed_vs_dense"]
    assert list(found) == [1.3, 1.0]


def test_the_untouched_model_with_nothing_packed_is_once_as_fast_as_itself():
    rows = [packed("dense", 0.97) | {"method": "dense"}, packed("dense", 1.3) | {"method": "dense"}]
    rows[0] |= {"speed_form": "packed nothing, avx512"}
    found = finished.undisturbed(pandas.DataFrame(rows))["decode_speed_vs_dense"]
    assert list(found) == [1.0, 1.3]

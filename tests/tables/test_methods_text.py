"""The methods of a table in words: each kind of step with its settings, works and data."""

import re
from types import SimpleNamespace

import pytest

from prunegrid.tables import citations, methods_text

CPU = {"device": "cpu", "compute_dtype": "float32", "versions": {"torch": "2.13.0"}}
LOCAL = {"kind": "local", "name": "local:/home/me/model_x"}


def step(stage, label, settings=(), record=(), **parents):
    """Return the manifest of a step; its key is its label."""
    facts = {"settings": dict(settings), "record": dict(record), "label": label, "key": label}
    known = {role: {"key": key} for role, key in parents.items()}
    return {"stage": stage, "parents": known, **facts, **CPU}


def tables(*steps, **plan):
    """Return tables that were made of some steps."""
    plan = {"bootstrap_seed": 0} | plan
    facts = {"manifest": {"prunegrid": "1.2.3"}, "plan": plan, "long": ()}
    return SimpleNamespace(steps=lambda: list(steps), **facts)


def told(*steps, **plan):
    """Return the text of steps in one line, and what it cites by name."""
    made = tables(*steps, **plan)
    used = citations.cited(made)
    text = " ".join(methods_text.paragraphs(made, used))
    named = {one.name: one.keys for one in used}
    keys = {key for keys in re.findall(r"cite{(.+?)}", text) for key in keys.split(",")}
    assert keys == {key for one in used for key in one.keys}
    return text, named


def test_structured_pruning_has_its_own_criterion_and_correction():
    settings = {"method": "taylor", "pattern": "structured", "sparsity": 0.25, "units": ["mlp"]}
    settings |= {"update": "least_squares", "multiple": 8}
    text, named = told(step("prune", "m > prune cut_25", settings))
    assert "molchanov2019importance" in named["taylor"]
    assert named["least_squares"] == ("kurtic2023ziplm",)
    assert (
        r"cut\_25: taylor~\cite{molchanov2019importance,ma2023llmpruner}, structured, spars" in text
    )
    assert "units mlp, multiple 8" in text


def test_a_mask_is_told_with_its_allocation_update_and_calibration():
    data = step("data", "data c4", record={"source": {"kind": "hf", "name": "hf:allenai/c4@main"}})
    drawn = {"samples": 128, "length": 2048, "split": "train", "join": False, "seed": 3}
    settings = {"method": "wanda", "pattern": "4:8", "sparsity": None, "allocation": "owl"}
    settings |= {"allocation_settings": {"multiple": 5.0}, "update": "sparsegpt", "scope": None}
    calibration = step("calibration", "m > calibrate c", drawn, data="data c4")
    parents = {"calibration": "m > calibrate c"}
    text, named = told(data, calibration, step("prune", "m > prune w", settings, **parents))
    assert named["4:8"] == ("mishra2021accelerating",) and named["owl"] == ("yin2024owl",)
    assert "multiple 5.0; calibrated on 128 windows of 2048 tokens of c4" in text
    assert r"c4~\cite{raffel2020exploring}, split train, seed 3." in text


def test_benchmarks_and_classes_are_told_with_their_data():
    source = {"kind": "hf", "name": "hf:baber/piqa@main"}
    rows = step("rows", "data piqa validation", record={"source": source})
    task = {"task": "piqa", "shots": 5, "split": "validation", "rows": 100}
    asked = step("tasks", "m > ask", {"tasks": [task]}, **{"data.0": "data piqa validation"})
    head = {"split": "validation", "train_rows": 64, "metrics": ["acc"], "items": [{"text": "x"}]}
    classes = step("classification", "m > classes", head, data="data piqa validation")
    text, named = told(rows, asked, classes)
    assert named["lm-evaluation-harness"] == ("biderman2024lessons",)
    assert (
        r"piqa (5 shots, split validation, first 100 rows; piqa validation~\cite{bisk2020" in text
    )
    assert "split validation, train rows 64." in text


def test_places_of_this_machine_and_what_is_unknown_are_not_told():
    model = step("model", "model mine", {"dtype": "bfloat16"}, {"source": LOCAL})
    own = {"metrics": {"my_metric": {"module": "rouge", "path": "/home/me/rouge.py"}}}
    text, named = told(model, step("scores", "m > score test", own))
    assert named["mine"] == named["my_metric"] == ()
    assert "mine was read from a local folder and is stored in bfloat16." in text
    assert r"Metrics of texts: my\_metric." in text
    assert "/home" not in text and "prunegrid 1.2.3" in text


@pytest.mark.parametrize("margins", [(), (None, 0.1)])
def test_the_tests_that_were_declared_are_counted(margins):
    text, _ = told(contrasts=[{"margin": margin} for margin in margins])
    assert ("2 declared" in text and "over 3 tests" in text) == bool(margins)
    assert "seed 0" in text

"""The drawers of rows: digest, lineage, settings, and the commands; for what there is."""

import json
import re

import pytest

from prunegrid.artifacts import dropped
from prunegrid.tables.page.parts import drawers
from tests.helpers.page_world import CELL, cell, facts, step

CONFIG = {"architectures": ["LlamaForCausalLM"]}


def chain(folder, **more):
    model = step(folder, "model", "m0", label="model m")
    data = step(folder, "data", "d0", label="data notes")
    drawn = step(folder, "calibration", "c0", label="m > calibrate c", parents=[model, data])
    settings = {"settings": {"method": "wanda", "note": "<i>"}} | more
    files = {"config.json": CONFIG}
    prune = step(folder, "prune", "p0", files, [model, drawn], "m > prune w50", **settings)
    return model, data, drawn, prune


def drawers_of(part):
    """Return {id: (attributes, content)} of the drawers of rows and the templates of steps."""
    steps = re.findall(r'<template id="(.*?)"(.*?)>(.*?)</template>', part.html, re.DOTALL)
    cells = re.split(
        r'<details class="drawer" id="(.*?)"(.*?)>', part.html.partition("<template")[0]
    )
    cells = zip(cells[1::3], cells[2::3], cells[3::3], strict=True)
    return {name: (attributes, content) for name, attributes, content in [*steps, *cells]}


def made(folder, **more):
    model, data, drawn, prune = chain(folder, **more)
    return cell(model, prune, others=[data, drawn], seed=7)


def test_a_row_has_its_digest_key_and_folder(tmp_path):
    one = made(tmp_path)
    attributes, content = drawers_of(drawers.part(facts([one])))["cell-0"]
    key = json.dumps(["m", "w50", "none", "d", 7], separators=(",", ":"))
    assert f'data-cell="{key.replace(chr(34), "&quot;")}"' in attributes
    assert "f" * 64 in content and one["chain"][-1]["path"] in content
    assert "AutoModelForCausalLM" in content


def test_the_lineage_puts_each_step_right_of_what_it_reads(tmp_path):
    model, data, drawn, prune = chain(tmp_path)
    one = cell(model, prune, others=[])
    one["ancestors"] = [model, data, drawn, prune]
    _, content = drawers_of(drawers.part(facts([one])))["cell-0"]
    columns = re.findall(r"<ul>(.*?)</ul>", content)
    steps = [re.findall(r'data-clone="step-(\w+)"', column) for column in columns]
    assert steps == [["m0", "d0"], ["c0"], ["p0"]]
    assert "reads: download m, calibrate c" in columns[2]


def test_a_step_is_not_named_twice(tmp_path):
    model, data, drawn, prune = chain(tmp_path)
    timed = step(tmp_path, "efficiency", "e0", label="m > prune w50 > efficiency", parents=[prune])
    one = cell(model, prune, others=[])
    one["ancestors"] = [model, data, drawn, prune, timed]
    _, content = drawers_of(drawers.part(facts([one])))["cell-0"]
    does, name = re.search(r"step-e0\"><summary><b>(.*?)</b> (.*?)</summary>", content).groups()
    assert does and name == ""


def test_a_row_names_its_seed(tmp_path):
    _, content = drawers_of(drawers.part(facts([made(tmp_path)])))["cell-0"]
    assert "<summary>m / w50 / none / d / seed 7</summary>" in content


def test_every_step_has_its_settings_and_versions_as_text(tmp_path):
    _, content = drawers_of(drawers.part(facts([made(tmp_path)])))["step-p0"]
    assert "wanda" in content and "torch 2.0" in content
    assert "&lt;i&gt;" in content and "<i>" not in content


def test_the_command_removes_the_folder_and_asks_for_its_manifest(tmp_path):
    folder = tmp_path / "a b"
    _, content = drawers_of(drawers.part(facts([made(folder)])))["cell-0"]
    path = f"'{folder}/prune/p0'".replace("'", "&#x27;")
    assert f"rm -r {path}\n" in content and f"-- {path}/manifest.json" in content


def test_a_row_that_failed_says_why_and_how_to_go_on(tmp_path):
    model = step(tmp_path, "model", "m0")
    gone = {"path": str(tmp_path / "prune/p"), "key": "p", "stage": "prune", "label": "m > prune w"}
    row = {"status": "failed", "reason": "no <space> left"}
    found = drawers_of(drawers.part(facts([cell(model, gone)], [row])))
    _, content = found["cell-0"]
    assert "no &lt;space&gt; left" in content and "prunegrid run s" in content
    assert "not made" in content and "from_pretrained" not in content
    assert "not made" in found["step-p"][1]


def test_dropped_weights_must_be_made_again_first(tmp_path):
    folder = tmp_path / "prune/p0"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"0")
    one = made(tmp_path)
    assert "were dropped" not in drawers_of(drawers.part(facts([one])))["cell-0"][1]
    assert dropped.drop(folder)
    _, content = drawers_of(drawers.part(facts([one])))["cell-0"]
    assert "were dropped" in content and "from_pretrained" in content


def test_a_large_study_leaves_out_settings_then_steps_then_drawers(tmp_path, monkeypatch):
    cells = [made(tmp_path) | {"columns": CELL | {"seed": seed}} for seed in range(4)]
    whole = drawers_of(drawers.part(facts(cells)))
    size = len("".join(whole["cell-0"]))
    monkeypatch.setattr(drawers, "BYTES", int(2.5 * size))
    found = drawers_of(drawers.part(facts(cells)))
    has_steps = {name: 'lineage"' in text for name, (_, text) in found.items() if "cell" in name}
    assert has_steps == {"cell-0": True, "cell-1": True, "cell-2": False}
    assert "Load it" in found["cell-2"][1] and "1 more rows" in found["cell-2"][1]
    assert "wanda" in whole["step-p0"][1] and "wanda" not in found["step-p0"][1]
    assert "torch 2.0" in found["step-p0"][1]


@pytest.mark.parametrize("length", [10, 10_000])
def test_long_settings_are_cut_and_said_to_be(tmp_path, length):
    one = made(tmp_path, settings={"text": "x" * length})
    _, content = drawers_of(drawers.part(facts([one])))["step-p0"]
    assert content.count("x") < drawers.LONGEST + 100
    assert ("manifest.json)" in content) == (length > drawers.LONGEST)

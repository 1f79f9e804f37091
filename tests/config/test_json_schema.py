"""The JSON schema of config files: it passes what the loader passes, and sees slips."""

import json

import jsonschema
import pytest
import yaml

from prunegrid.commands import cli
from prunegrid.common import plugins
from prunegrid.config.json_schema import settings_of
from tests.helpers import ROOT, shipped

SCHEMA = json.loads((ROOT / "config/schema.json").read_text(encoding="utf-8"))
CHECKER = jsonschema.Draft7Validator(SCHEMA)
FILES = [
    *shipped.FILES,
    *sorted((ROOT / "examples").glob("*.yaml")),
    ROOT / "tests/tiny/config.yaml",
]
FIRST = "# yaml-language-server: $schema="


def faults(text):
    """Return the dotted keys at which a config file is wrong."""
    body = yaml.safe_load(text)
    return {".".join(map(str, fault.absolute_path)) for fault in CHECKER.iter_errors(body)}


def test_the_schema_is_one():
    """Editors refuse a schema with an empty choice, or one twice, which the draft only advises."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    choices = list(choices_of(SCHEMA))
    assert len(choices) > 50
    assert all(choice and len(choice) == len(set(choice)) for choice in choices)


def choices_of(node):
    if isinstance(node, dict) and isinstance(node.get("enum"), list):
        yield node["enum"]
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            yield from choices_of(child)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_the_projects_own_files_pass(file):
    assert faults(file.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("file", FILES[:-1], ids=lambda file: str(file.relative_to(ROOT)))
def test_editors_find_the_schema(file):
    line, *_ = file.read_text(encoding="utf-8").splitlines()
    assert line.startswith(FIRST)
    assert (file.parent / line.removeprefix(FIRST)).resolve() == ROOT / "config/schema.json"


def test_a_study_that_init_writes_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init", "--model", "demo", "--data", "demo", "--method", "sparsegpt"]) == 0
    assert faults((tmp_path / "mine.yaml").read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    "text",
    [
        "metrics: {mine: {module: mine/numbers.py, any: 3}, hub: {module: 'hf:f1', columns: {}}}",
        "prune: {a: {method: mine/score.py, power: 3, sparsity: 0.5}}",
        "prune: {shipped: {sparsity: 0.4}}",  # one value of a profile of another file
        "evaluations: {my-summaries: {metrics: [rouge, mine]}}",
        "studies: {a: {dataset: d, grid: {model: [m], prune: [dense, {method: [wanda, sparsegpt], "
        "sparsity: {from: 0.1, to: 0.5, step: 0.1}, nested: true}]}}}",
        "studies: {a: {grid: [{model: m, prune: {method: wanda, units: [[mlp], [mlp, heads]]}}]}}",
        "studies: {a: {kind: census, grid: {model: m}, zeros: within}}",
        "tasks:",
    ],
)
def test_other_right_files_pass(text):
    assert faults(text) == set()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("model: {}", ""),
        ("device: gpu", "device"),
        ("seed: '1'", "seed"),
        ("models: {a: {source: x, taks: causal-lm}}", "models.a"),
        ("datasets: {a: {splits: {test: 3}}}", "datasets.a.splits.test"),
        ("datasets: {a: {mixture: {parts: {b: {wieght: 1}}}}}", "datasets.a.mixture"),
        ("prune: {a: {method: wnada}}", "prune.a.method"),
        ("prune: {a: {method: wanda, nested: true}}", "prune.a"),
        ("prune: {a: {method: sparsegpt, nested: 1}}", "prune.a.nested"),
        ("prune: {a: {sparstiy: 0.5}}", "prune.a"),
        ("prune: {a: {sparsity: 50}}", "prune.a.sparsity"),
        ("prune: {a: {allocation: owl, allocation_settings: {mutliple: 3.0}}}", "prune.a"),
        ("finetune: {a: {strategy: full, rank: 8}}", "finetune.a"),
        ("metrics: {a: {module: rouge, stem: true}}", "metrics.a"),
        ("evaluations: {a: {kind: perplexities}}", "evaluations.a.kind"),
        ("evaluations: {a: {kind: perplexity, splits: [test]}}", "evaluations.a"),
        ("evaluations: {a: {windw: 3}}", "evaluations.a"),
        (
            "evaluations: {a: {kind: texts, baselines: {b: {method: lead, words: x}}}}",
            "evaluations.a",
        ),
        ("studies: {a: {grid: {models: m}}}", "studies.a"),
        ("studies: {a: {kind: census, evaluations: [b]}}", "studies.a"),
        ("studies: {a.b: {title: a dot}}", "studies"),
        ("studies: {a: {contrasts: [{name: c, split: test}]}}", "studies.a"),
        ("claims: {a: {kind: better, factor: 0.5}}", "claims.a.factor"),
    ],
)
def test_a_slip_is_seen_at_its_place(text, place):
    found = faults(text)
    assert found and all(fault.startswith(place) for fault in found)


def test_each_key_and_setting_says_what_it_means():
    bare = [
        f"{name}.{key}"
        for name, one in SCHEMA["definitions"].items()
        for key, body in one["properties"].items()
        if name[0].isupper() and len(body.get("description", "").split()) < 3
    ]
    assert bare == []


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_each_setting_of_a_plugin_says_what_it_means(kind):
    for name, settings in settings_of([kind]).items():
        assert all(len(meaning.split()) > 3 for _, meaning in settings.values()), name


def test_a_setting_has_the_default_of_its_own_plugin():
    rules = SCHEMA["definitions"]["Baseline"]["allOf"]
    own = {rule["if"]["properties"]["method"].get("const"): rule["then"] for rule in rules}
    assert own["lead"]["properties"]["words"]["default"] == 64
    assert "default" not in own["prompt_echo"]["properties"]["words"]

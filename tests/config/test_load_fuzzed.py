"""Configs that are odd, broken or hostile: a valid config or one clear error, and no hang."""

from __future__ import annotations

import contextlib
import copy
import datetime
import json
import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.artifacts import keys
from prunegrid.common.errors import PrunegridError
from prunegrid.common.source_code import LIBRARY
from prunegrid.config.conclusion_checks import require_columns
from prunegrid.config.config_files import Places, read_files
from prunegrid.config.load import NAME, STUDY_NAME, validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.tables import finished
from tests.helpers import shipped
from tests.helpers.fuzzing import fuzz
from tests.helpers.tiny_data import write_tiny_data

ROOT = LIBRARY.parent.parent
ODD = [
    *(None, True, False, 0, -1, 1, 3, 2**70, 0.5, -0.0, 1e-300, math.nan, math.inf, "", " ", "\n"),
    *(
        "0.5",
        "2:4",
        "4:2",
        "0:0",
        "2:",
        "7:3:1",
        "dense",
        "none",
        "../../etc/passwd",
        "/etc/passwd",
    ),
    *(
        "a\nb",
        "a/b",
        "a\0b",
        "\ud800",
        "é",
        "x" * 5000,
        "hf:../..",
        "hf:a/b\n",
        "pypi:x==",
        "random:",
    ),
    *(
        "all[:60%]",
        "all[99999:]",
        "all[:]",
        "all[",
        "train[:-1%]",
        "{document}{document}",
        "{",
        "$x",
    ),
    *([], [[]], {}, {"a": {}}, [None], ["a"] * 3, datetime.date(2024, 1, 1), b"bytes", {1, 2}),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    write_tiny_data(folder)
    return folder


def small() -> dict:
    """Return a small config that holds every section, from the tiny one and the default's parts."""
    default = shipped.config()
    tree = yaml.safe_load((ROOT / "tests/tiny/config.yaml").read_text())
    evaluation = tree["evaluations"]["tiny-texts"]
    evaluation["metrics"] = ["rouge", "length", "tiny-bertscore"]
    tree["metrics"] |= {name: default["metrics"][name] for name in ("rouge", "length")}
    for section, name in (("prune", "dense"), ("finetune", "none")):
        tree[section][name] = default[section][name]
    kept = ("tiny", "recovery", "arms", "census-tiny", "shrunken")
    tree["studies"] = {name: tree["studies"][name] for name in kept}
    scope = {"model": "tiny-llama", "split": "tiny-ppl", "metric": "ppl_*"}
    claim = {"kind": "better", "says": "A.", "source": "B", "scope": scope, "factor": 1.1}
    speed = {"kind": "measure", "says": "C.", "source": "D", "at_least": 1.0, "tolerance": 0.1}
    speed["scope"] = {"model": "*", "metric": "decode_speed_vs_dense"}
    sides = {"a": {"method": ["wanda", "ria"]}, "b": {"pruned": False}, "match": ["finetune"]}
    tree["claims"] = {"better": claim | sides, "faster": speed | sides}
    return tree


TREE = small()


def places(node, keys=()):
    """Return the keys of every node of a tree."""
    found = [keys] if keys else []
    if isinstance(node, (dict, list)):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            found += places(child, (*keys, key))
    return found


PLACES = places(TREE)
values = st.one_of(
    st.sampled_from(ODD),
    st.sampled_from(PLACES).map(lambda keys: copy.deepcopy(at(TREE, keys))),
    st.text(max_size=8),
    st.integers(-3, 2**65),
    st.floats(),
)
changes = st.tuples(
    st.sampled_from(["replace", "delete", "add", "rename", "nest"]),
    st.sampled_from(PLACES),
    st.one_of(
        st.sampled_from(["sparsity", "x", "", "a b", "claims", "../x", 3]), st.text(max_size=4)
    ),
    values,
)


def at(tree, keys):
    for key in keys:
        tree = tree[key]
    return tree


def changed(tree, change):
    """Change one place of a tree; where an earlier change has taken it away, nothing."""
    kind, keys, name, value = change
    try:
        parent = at(tree, keys[:-1])
        old = parent[keys[-1]]
    except (KeyError, IndexError, TypeError):
        return
    if kind == "replace" or not isinstance(parent, dict):
        parent[keys[-1]] = value
    elif kind == "delete":
        del parent[keys[-1]]
    elif kind == "add":
        parent[name] = value
    elif kind == "rename":
        parent[name] = parent.pop(keys[-1])
    else:
        parent[keys[-1]] = {name: old, "again": old}


def graph_of(tree, base):
    """Return the config's graph with all nodes of all studies, or None where it was refused."""
    try:
        config = validate(tree, [], base)
        graph = Graph(config, ROOT)
        for study in config.sections["studies"]:
            graph.plans(study)
            graph.controls(study)
    except PrunegridError as error:
        assert str(error).strip()
        return None
    return graph


def test_the_config_that_is_changed_is_valid(base):
    graph = graph_of(copy.deepcopy(TREE), base)
    assert graph is not None and len(graph.all_nodes()) > 30


@fuzz(520)
@given(st.lists(changes, min_size=1, max_size=3))
def test_a_changed_config_is_valid_or_told_why_not(base, many):
    tree = copy.deepcopy(TREE)
    for change in many:
        changed(tree, change)
    graph = graph_of(tree, base)
    if graph is None:
        return
    with contextlib.suppress(PrunegridError):
        require_columns(graph.config.sections["claims"], finished.facts(), Places([]))
    for section, found in graph.config.sections.items():
        rule = STUDY_NAME if section == "studies" else NAME
        assert all(rule.fullmatch(name) for name in found)
    for node in graph.all_nodes():
        json.dumps(node.params(), allow_nan=False)
        assert len(node.key) == keys.KEY_LENGTH


@fuzz(60)
@given(st.text(max_size=60))
def test_any_text_as_a_file_is_read_or_told(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        tree = read_files([path])
        validate(tree, [path], tmp_path)
    except PrunegridError as error:
        assert "config" in str(error)


def test_a_config_that_unfolds_without_end_is_told(tmp_path):
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    for text, words in (
        (bomb, "unfolds to"),
        ("models: &m {x: *m}\n", "nested in itself"),
        ("models: " + "{a: " * 80 + "1" + "}" * 80, "nested in itself, or more than"),
        ("models: {x: {source: 2024-01-01}}", "put it in quotes"),
        ("prune: {1: {method: wanda}}", "put it in quotes"),
        ("[1, 2]", "expected sections"),
    ):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        with pytest.raises(PrunegridError, match=words):
            read_files([path])


@pytest.mark.parametrize("name", ["x\n", "../x", "a/b", ".x", "-x", "", "x" * 101, "a b", "é"])
def test_a_name_that_would_be_another_path_is_refused(base, name):
    for section in ("models", "datasets", "prune", "finetune", "studies"):
        tree = copy.deepcopy(TREE)
        tree[section][name] = copy.deepcopy(next(iter(tree[section].values())))
        with pytest.raises(PrunegridError, match="a name holds letters"):
            validate(tree, [], base)


@pytest.mark.parametrize("text", ["../notes.jsonl", "/etc/passwd", "a/../../b", "a\\b"])
def test_what_a_source_names_stays_in_its_folder(base, text):
    tree = copy.deepcopy(TREE)
    tree["datasets"]["tiny-notes"] |= {"source": ".", "files": {"all": text}, "format": "jsonl"}
    tree["models"]["tiny-llama"] = {"source": "hf:org/name", "revision": text}
    with pytest.raises(PrunegridError) as caught:
        validate(tree, [], base)
    assert str(caught.value).count("leads out of its folder") == 2


@pytest.mark.parametrize(
    "grid",
    [
        {"model": "tiny-llama", "seed": list(range(200)), "prune": ["dense"] * 200},
        {"model": "tiny-llama", "steps": [[{"prune": ["dense"] * 99}] * 9]},
        {"model": "tiny-llama", "prune": {"method": ["wanda"] * 99, "sparsity": [0.5] * 999}},
        {
            "model": "tiny-llama",
            "iterate": {
                "prune": {"method": "sparsegpt", "calibration": "tiny"},
                "sparsities": {"shape": "linear", "to": 0.6, "steps": 2**65},
                "finetune": "tiny-chain",
            },
        },
    ],
)
def test_a_grid_that_nobody_could_run_is_told_at_once(base, grid):
    tree = copy.deepcopy(TREE)
    tree["studies"]["arms"]["grid"] = grid
    with pytest.raises(PrunegridError, match="unfolds to|less than or equal to 1000"):
        validate(tree, [], base)

"""Keys: what changes them and what does not."""

import textwrap

import pytest

from prunegrid import code_facts, keys


def digest_of(tmp_path, source, name="metric.py"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(source))
    caches = (keys._code_digest, code_facts.facts, keys._closure, keys._imports)
    for cached in caches:
        cached.cache_clear()
    return keys.code_digest([path])


BASE = '''
"""Doc."""
import math

def area(r):
    """Area."""
    return math.pi * r**2
'''


@pytest.mark.parametrize(
    "edited",
    [
        BASE.replace('"""Doc."""', '"""Another doc."""'),
        BASE.replace('    """Area."""\n', ""),
        BASE + "\n# a comment\n",
        BASE.replace("r**2", "(r ** 2)"),
    ],
)
def test_comments_docstrings_and_layout_do_not_change_a_code_digest(tmp_path, edited):
    assert digest_of(tmp_path, edited) == digest_of(tmp_path, BASE)


@pytest.mark.parametrize(
    "edited",
    [
        BASE.replace("r**2", "r**3"),
        BASE.replace("math.pi", "3.0"),
        BASE + "\nX = None\n",
        BASE.replace("def area(r)", "def area(s)"),
    ],
)
def test_any_change_of_code_changes_its_digest(tmp_path, edited):
    assert digest_of(tmp_path, edited) != digest_of(tmp_path, BASE)


def test_constants_none_and_false_differ(tmp_path):
    assert digest_of(tmp_path, "X = None") != digest_of(tmp_path, "X = False")


def test_an_imported_module_counts_and_an_unrelated_one_does_not():
    closure = keys._closure(keys._module_file("prunegrid.artifacts"))
    names = {path.name for path in closure}
    assert "errors.py" in names
    assert "grid.py" not in names


def test_stage_code_does_not_reach_the_config():
    """An edit of the config's validation must rerun nothing."""
    for path in (keys.LIBRARY / "prunegrid/stages").glob("*.py"):
        if path.stem == "__init__":
            continue
        closure = {p.relative_to(keys.LIBRARY).as_posix() for p in keys._closure(path)}
        bad = {p for p in closure if p.startswith("prunegrid/config/")} | (
            closure
            & {f"prunegrid/{name}.py" for name in ("grid", "cells", "graph", "slices", "cli")}
        )
        assert not bad, f"{path.stem} imports {bad}"


def test_an_edit_of_training_reruns_fine_tuning_only():
    for path in (keys.LIBRARY / "prunegrid/stages").glob("*.py"):
        closure = {p.relative_to(keys.LIBRARY).as_posix() for p in keys._closure(path)}
        trains = any(name.startswith("prunegrid/training/") for name in closure)
        assert trains == (path.stem == "finetune"), path.stem


def test_one_method_does_not_reach_another():
    closure = keys._closure(keys._module_file("prunegrid.stages.prune"))
    reached = {path.stem for path in closure if path.parent.name == "pruning"}
    assert not reached & {"wanda", "sparsegpt", "magnitude", "random"}


def test_equal_values_have_equal_digests():
    assert keys.digest({"a": 1, "b": [2]}) == keys.digest({"b": [2], "a": 1})
    assert keys.digest({"a": 1}) != keys.digest({"a": 1.5})


def test_literals_are_read_without_importing(tmp_path):
    path = tmp_path / "m.py"
    path.write_text("import nowhere\nNEEDS: str = 'hessian'\nSETTINGS = {'a': 1}\nX = call()\n")
    assert keys.literals(path) == {"NEEDS": "hessian", "SETTINGS": {"a": 1}}


def test_pins_are_read_from_an_environment_file(tmp_path):
    path = tmp_path / "env.yaml"
    path.write_text(
        "dependencies:\n  - python=3.11\n  - pip\n  - pip:\n      - Huggingface_Hub==1.0  # x\n"
    )
    assert keys.read_pins(path) == {"huggingface-hub": "1.0"}


def test_two_files_of_one_name_both_count(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(f"X = '{folder}'")
    both = [tmp_path / "a/mine.py", tmp_path / "b/mine.py"]
    assert keys.code_digest(both) == keys.code_digest(both[::-1])
    assert keys.code_digest(both) != keys.code_digest(both[:1])


def test_a_file_beside_a_metric_counts(tmp_path):
    helper = tmp_path / "helper.py"
    helper.write_text("X = 1")
    one = digest_of(tmp_path, "from .helper import X")
    helper.write_text("X = 2")
    assert digest_of(tmp_path, "from .helper import X") != one

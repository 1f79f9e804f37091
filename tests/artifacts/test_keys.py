"""Keys: what changes them and what does not."""

import textwrap

import pytest

from prunegrid.artifacts import keys
from prunegrid.common import source_code
from prunegrid.common.definitions import ON_IMPORT
from prunegrid.common.source_code import LIBRARY

CACHES = (keys.digest_of_roots, keys.digest_of, keys.find, keys.named_by, source_code.facts)


def digest_of(tmp_path, source, name="metric.py"):
    path = tmp_path / name
    path.write_text(textwrap.dedent(source))
    forget()
    return keys.code_digest([path])


def forget():
    for cached in CACHES:
        cached.cache_clear()


def reached(*roots):
    """Return {module: names of its definitions} that count with the roots."""
    found = {}
    for path, name in keys.reached(roots):
        module = path.relative_to(LIBRARY / "prunegrid").with_suffix("").as_posix()
        found.setdefault(module.removesuffix("/__init__"), set()).add(name)
    return found


STAGES = sorted(p.stem for p in (LIBRARY / "prunegrid/stages").glob("[!_]*.py"))


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library of its own in a folder; calls clear what was read before."""
    place = tmp_path / "prunegrid"
    files = {
        "stages/prune.py": """
            from prunegrid import settings
            from prunegrid.pruning.masks import lowest
            def run(weights):
                return lowest(weights) * settings.SCALE
        """,
        "pruning/masks.py": """
            import numpy as np
            SHARE = 0.5
            OTHER = 1
            def lowest(weights):
                return np.sort(weights)[: int(SHARE * len(weights))]
            def unused():
                return OTHER
        """,
        "settings.py": "SCALE = 2\nUNUSED = 3\n",
        "pruning/__init__.py": "",
    }
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(textwrap.dedent(text))
    monkeypatch.setattr(source_code, "LIBRARY", tmp_path)
    forget()
    yield place
    forget()


def edit(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def stage_digest():
    forget()
    return keys.code_digest(["prunegrid.stages.prune"])


def test_only_definitions_that_are_reached_count(library):
    before = stage_digest()
    masks = library / "pruning/masks.py"
    for old, new in (("OTHER = 1", "OTHER = 2"), ("return OTHER", "return -OTHER")):
        edit(masks, old, new)
        assert stage_digest() == before
    edit(masks, "SHARE = 0.5", "SHARE = 0.6")
    changed = stage_digest()
    assert changed != before
    edit(library / "settings.py", "SCALE = 2", "SCALE = 3")
    assert stage_digest() not in (before, changed)


def test_moving_and_renaming_modules_changes_nothing(library):
    before = stage_digest()
    (library / "selection").mkdir()
    (library / "pruning/masks.py").rename(library / "selection/thresholds.py")
    (library / "settings.py").rename(library / "constants.py")
    stage = library / "stages/prune.py"
    edit(stage, "prunegrid.pruning.masks", "prunegrid.selection.thresholds")
    edit(stage, "import settings", "import constants")
    edit(stage, "settings.SCALE", "constants.SCALE")
    assert stage_digest() == before


def test_moving_a_definition_to_a_module_of_its_own_changes_nothing(library):
    before = stage_digest()
    masks = library / "pruning/masks.py"
    edit(masks, "SHARE = 0.5\n", "from prunegrid.shares import SHARE\n")
    (library / "shares.py").write_text("SHARE = 0.5\n")
    assert stage_digest() == before


def test_a_name_that_a_package_hands_on_is_followed(library):
    before = stage_digest()
    (library / "pruning/__init__.py").write_text("from prunegrid.pruning.masks import lowest\n")
    edit(library / "stages/prune.py", "prunegrid.pruning.masks import", "prunegrid.pruning import")
    assert stage_digest() == before
    edit(library / "pruning/masks.py", "SHARE = 0.5", "SHARE = 0.6")
    assert stage_digest() != before


def test_another_function_of_the_same_name_changes_the_digest(library):
    """Also where all that both call was reached before."""
    masks = library / "pruning/masks.py"
    edit(masks, "def unused", "def highest(weights):\n    return -lowest(weights)\ndef unused")
    stage = library / "stages/prune.py"
    edit(stage, "import lowest", "import highest, lowest")
    edit(stage, "return lowest(weights)", "highest(weights); return lowest(weights)")
    before = stage_digest()
    edit(
        stage,
        "highest(weights); return lowest(weights)",
        "lowest(weights); return highest(weights)",
    )
    assert stage_digest() != before


def test_statements_run_on_import_count_where_a_module_is_reached(library):
    before = stage_digest()
    edit(library / "settings.py", "SCALE = 2", "import os\nos.x = 1\nSCALE = 2")
    assert stage_digest() != before


def test_a_module_that_is_left_out_counts_as_a_root_alone(library, monkeypatch):
    monkeypatch.setitem(keys.LEFT_OUT, "prunegrid.settings", "a test")
    before = stage_digest()
    edit(library / "settings.py", "SCALE = 2", "SCALE = 3")
    assert stage_digest() == before
    rooted = keys.code_digest(["prunegrid.stages.prune", "prunegrid.settings"])
    edit(library / "settings.py", "SCALE = 3", "SCALE = 4")
    forget()
    assert keys.code_digest(["prunegrid.stages.prune", "prunegrid.settings"]) != rooted


BASE = "import math\n\ndef area(r):\n    return math.pi * r**2\n"


@pytest.mark.parametrize("edited", ["# a comment\n" + BASE, BASE.replace("r**2", "(r ** 2)")])
def test_layout_does_not_change_the_digest_of_a_users_file(tmp_path, edited):
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
def test_any_change_of_a_users_file_changes_its_digest(tmp_path, edited):
    assert digest_of(tmp_path, edited) != digest_of(tmp_path, BASE)


@pytest.mark.parametrize("stage", STAGES)
def test_stage_code_does_not_reach_the_config(stage):
    """An edit of the config's validation must rerun nothing."""
    planning = ("config/", "graph/", "running/", "commands/", "tables/")
    found = reached(f"prunegrid.stages.{stage}:run")
    assert not {module for module in found if module.startswith(planning)}


@pytest.mark.parametrize("stage", STAGES)
def test_an_edit_of_training_reruns_fine_tuning_only(stage):
    trains = any(
        m.startswith("finetuning/training") for m in reached(f"prunegrid.stages.{stage}:run")
    )
    assert trains == (stage == "finetune")


def test_one_method_does_not_reach_another():
    found = reached("prunegrid.stages.prune:run", "prunegrid.pruning.criteria.wanda")
    criteria = {module for module in found if module.startswith("pruning/criteria/")}
    assert criteria == {"pruning/criteria/wanda"}


def test_what_modules_do_on_import_is_known():
    """A module that is imported but not read counts nowhere, so importing it must do nothing."""
    doing = {
        path.relative_to(LIBRARY / "prunegrid").as_posix()
        for path in (LIBRARY / "prunegrid").rglob("*.py")
        if ON_IMPORT in source_code.facts(path).definitions
    }
    started = {"__main__.py", "common/machine.py", "evaluation/peak_memory.py"}
    started |= {"finetuning/processes.py", "models/packed/kernel_build.py"}
    assert doing == started | {"data/sources/hub.py"}


def test_every_reference_to_the_library_is_found():
    """What is not found would count for nothing."""
    for path in (LIBRARY / "prunegrid").rglob("*.py"):
        for reference in source_code.facts(path).references:
            if reference.startswith("prunegrid."):
                assert names_code(reference), f"{path}: {reference}"


def names_code(reference):
    module, _, name = reference.removesuffix(".__file__").rpartition(".")
    found = keys.find(reference)
    if isinstance(found, str):
        return found.startswith("left out")
    whole = source_code.module_file(f"{module}.{name}") is not None
    return whole or len(found) == 1 or source_code.module_file(module) is None


def test_equal_values_have_equal_digests():
    assert keys.digest({"a": 1, "b": [2]}) == keys.digest({"b": [2], "a": 1})
    assert keys.digest({"a": 1}) != keys.digest({"a": 1.5})


def test_literals_are_read_without_importing(tmp_path):
    path = tmp_path / "m.py"
    path.write_text("import nowhere\nNEEDS: str = 'hessian'\nSETTINGS = {'a': 1}\nX = call()\n")
    assert source_code.literals(path) == {"NEEDS": "hessian", "SETTINGS": {"a": 1}}


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


def test_the_works_that_a_file_comes_from_are_in_no_key_unless_code_reads_them(tmp_path):
    base = "def compute(texts):\n    return len(texts)\n"
    cited = 'CITE = ("a2020paper",)\nMEANINGS = {"n": "a number"}\n' + base
    assert digest_of(tmp_path, cited) == digest_of(tmp_path, base)
    reads = cited.replace("len(texts)", "len(CITE)")
    assert digest_of(tmp_path, reads) != digest_of(tmp_path, reads.replace("a2020", "b2020"))

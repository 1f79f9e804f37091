"""Each name that an error offers is a plugin that works, and a wrong name is offered no other."""

import importlib
import inspect

import pytest
import torch

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError
from prunegrid.common.source_code import LIBRARY
from prunegrid.pruning import prune_weight
from prunegrid.pruning.criteria import method_module
from prunegrid.pruning.input_stats import Accumulator
from prunegrid.pruning.patterns import parse_pattern
from tests.helpers import shipped
from tests.helpers.shipped import changed, check, faults

NAMES = [(kind, name) for kind in plugins.KINDS for name in plugins.files(kind)]
# The function of each plugin of a kind.
FUNCTIONS = {
    "pruning method": "prune_linear",
    "criterion of structured pruning": "importance",
    "refine": "refine_mask",
    "update": "update_linear",
    "allocation": "allocate",
    "baseline": "predict",
    "metric": "compute",
}
# {kind: (section, a profile, the key of the name)} by which a config names one.
NAMED = {
    "pruning method": ({"sparsity": 0.5}, "method"),
    "criterion of structured pruning": (
        {"pattern": "structured", "units": ["mlp"], "sparsity": 0.5},
        "method",
    ),
    "refine": ({"method": "magnitude", "pattern": "2:4"}, "refine"),
    "update": ({"method": "magnitude", "pattern": "2:4"}, "update"),
    "allocation": ({"method": "magnitude", "sparsity": 0.5}, "allocation"),
}


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_a_plugin_has_the_function_of_its_kind(kind, name):
    """A file that only declares a constant of that name is no plugin."""
    folder, _ = plugins.KINDS[kind]
    module = importlib.import_module(f"prunegrid.{folder.replace('/', '.')}.{name}")
    wanted = FUNCTIONS.get(kind)
    if kind == "strategy":
        wanted = "tune" if plugins.strategy_facts(name)["TRAINS"] else "transform"
    if (kind, name) == ("strategy", "none"):  # which is no step at all
        return
    if wanted == "importance" and plugins.criterion_facts(name)["UNITS"] == ("blocks",):
        wanted = "importance_of_block"
    function = getattr(module, wanted)
    taken = inspect.signature(function).parameters
    settings = getattr(module, "SETTINGS", {})
    passed = kind in ("baseline", "strategy") or any(
        p.kind == p.VAR_KEYWORD for p in taken.values()
    )
    assert passed or set(settings) <= set(taken)


@pytest.mark.parametrize(("kind", "name"), [one for one in NAMES if one[0] in NAMED])
def test_a_config_takes_each_name(kind, name):
    body, key = NAMED[kind]
    if "units" in body:
        body = body | {"units": [plugins.criterion_facts(name)["UNITS"][0]]}
    raw = shipped.config()
    for calibration in ({}, {"calibration": "c4-128x2048"}):
        tree = changed(raw, "prune", "mine", {**body, key: name, **calibration})
        if needs(kind, name, body) == bool(calibration):
            assert check(tree).profile("prune", "mine")


def needs(kind, name, body):
    """Return whether a pruning step of a plugin needs calibration samples."""
    if kind in plugins.PARTS:
        facts = plugins.part_facts(kind, name)
    else:
        facts = plugins.facts_for(name, body.get("pattern", "unstructured"))
    return facts["NEEDS"] != "nothing"


@pytest.mark.parametrize("kind", NAMED)
def test_a_wrong_name_is_offered_names_that_work(kind):
    body, key = NAMED[kind]
    (found,) = faults(changed(shipped.config(), "prune", "mine", {**body, key: "nonesuch"}))
    offered = found.partition("(known: ")[2].rstrip(")").split(", ")
    assert offered == sorted(plugins.files(kind))


@pytest.mark.parametrize("name", plugins.files("pruning method"))
def test_each_method_prunes_half_of_a_linear(name):
    facts = plugins.method_facts(name)
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 16, generator=draw)
    inputs = torch.randn(64, 16, generator=draw)
    stats = None
    if facts["NEEDS"] != "nothing":
        sums = Accumulator(facts["NEEDS"], 16)
        sums.add(inputs, "test")
        stats = sums.finish()
    more = {"generator": draw} if facts["DRAWS"] else {}
    pattern = parse_pattern("2:4", None)
    pruned, _ = method_module(name).prune_linear(
        weight, stats, pattern, **facts["SETTINGS"], **more
    )
    assert ((pruned.view(8, 4, 4) != 0).sum(2) <= 2).all()


def test_a_constant_alone_makes_no_plugin():
    for kind, name in (("pruning method", "recipe"), ("pruning method", "__init__")):
        assert name not in plugins.files(kind)
    with pytest.raises(PrunegridError, match="there is no pruning method 'recipe'"):
        plugins.method_facts("recipe")


def test_a_loaded_file_prunes_as_the_library_s_own_of_the_same_code(tmp_path):
    source = LIBRARY / "prunegrid/pruning/criteria/magnitude.py"
    (tmp_path / "mine.py").write_bytes(source.read_bytes())
    plugins.load({"pruning method": [str(tmp_path / "mine.py")]})
    weight = torch.arange(32.0).reshape(4, 8).sin()
    own = prune_weight(weight, "mine.py", "2:4")
    assert torch.equal(own, prune_weight(weight, "magnitude", "2:4"))
    assert int((own == 0).sum()) == 16


def test_an_edit_counts_when_a_file_is_loaded_again(tmp_path):
    path = tmp_path / "edited.py"
    for value in (1, 2):
        path.write_text(f"NEEDS = 'nothing'\nVALUE = {value}\n")
        plugins.load({"update": [str(path)]})
        module = importlib.import_module("prunegrid.pruning.updates.edited.py")
        assert value == module.VALUE


def test_a_file_that_fails_on_import_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind\n")
    with pytest.raises(PrunegridError, match="nothing_of_the_kind") as caught:
        plugins.load({"update": [str(tmp_path / "broken.py")]})
    assert caught.value.where == str(tmp_path / "broken.py")

"""What a key sees of code: all that can change a result, and nothing else."""

import ast
import textwrap

import pytest

from prunegrid.common.definitions import ON_IMPORT, definitions

BASE = '''
"""Doc."""
import logging
import numpy as np
from prunegrid.models import blocks
from prunegrid.models.blocks import linears_of

log = logging.getLogger(__name__)
SHARE = 0.5

def pruned(weight, mask):
    """Return the pruned weight."""
    import torch
    if weight.shape != mask.shape:
        raise ValueError(f"{weight.shape} is not {mask.shape}")
    log.info("pruned %s", mask.sum())
    found = [linears_of(block) for block in blocks.find(weight)]
    assert found, "no blocks"
    return torch.where(mask, weight, SHARE) * np.sqrt(2)
'''


def shapes(source):
    """Return {name: (digest, references)} of the definitions that do something."""
    return definitions(ast.parse(textwrap.dedent(source)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Doc."""', '"""Another doc."""'),
        ('    """Return the pruned weight."""\n', ""),
        ("SHARE = 0.5", "# a comment\nSHARE = 0.5"),
        ("SHARE = 0.5", "SHARE: float = 0.5"),
        ("(weight, mask):", "(weight: object, mask) -> object:"),
        ("    found = [", "    found: list = ["),
        ("    found = [", "    found: list\n    found = ["),
        ("np.sqrt(2)", "(np.sqrt(2))"),
        ("is not", "has another shape than"),
        ('(f"{weight.shape} is not {mask.shape}")', "()"),
        ('log.info("pruned %s", mask.sum())', 'log.warning("it is pruned")'),
        ('    log.info("pruned %s", mask.sum())\n', ""),
        (', "no blocks"', ', "there are no blocks"'),
        ("import numpy as np", "import numpy as np\nimport json\nfrom prunegrid.data import rows"),
        ("import logging\n", "import logging\nif TYPE_CHECKING:\n    import json\n"),
    ],
)
def test_what_cannot_change_a_result_is_left_out(old, new):
    assert old in BASE
    assert shapes(BASE.replace(old, new))["pruned"] == shapes(BASE)["pruned"]
    assert shapes(BASE.replace(old, new))["SHARE"] == shapes(BASE)["SHARE"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SHARE)", "-SHARE)"),
        ("sqrt(2)", "sqrt(3)"),
        ("sqrt(2)", "sqrt(2.0)"),
        ("(weight, mask)", "(weight, mask, more)"),
        ("weight.shape != mask.shape", "weight.shape == mask.shape"),
        ("raise ValueError", "raise KeyError"),
        ("assert found", "assert not found"),
        ("found = [", "found = 1; found = ["),
    ],
)
def test_any_change_of_what_is_computed_changes_the_digest(old, new):
    assert old in BASE
    assert shapes(BASE.replace(old, new))["pruned"][0] != shapes(BASE)["pruned"][0]


def test_references_are_full_names_whatever_the_imports_are_called():
    expected = [
        ":SHARE",
        "numpy.sqrt",
        "prunegrid.models.blocks.find",
        "prunegrid.models.blocks.linears_of",
        "torch.where",
    ]
    assert sorted(set(shapes(BASE)["pruned"][1])) == expected
    renamed = BASE.replace("import numpy as np", "import numpy as n").replace("np.sqrt", "n.sqrt")
    renamed = renamed.replace("import blocks\n", "import blocks as b\n").replace(
        "blocks.find", "b.find"
    )
    assert shapes(renamed)["pruned"] == shapes(BASE)["pruned"]
    other = BASE.replace("np.sqrt", "np.cbrt")
    assert shapes(other)["pruned"][1] != shapes(BASE)["pruned"][1]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("X = 1\ndef f(X):\n    return X\n", []),
        ("X = 1\ndef f():\n    X = 2\n    return X\n", []),
        ("X = 1\ndef f():\n    global X\n    X = 2\n", [":X"]),
        ("X = 1\ndef f(a):\n    return [X for X in a]\n", []),
        ("X = 1\ndef f():\n    return [X for X in X]\n", [":X"]),
        ("X = 1\ndef f(a):\n    b = [X for X in a]\n    return b, X\n", [":X"]),
        ("X = 1\ndef f():\n    return lambda X: X\n", []),
        ("X = 1\ndef f():\n    return (lambda X: X)(X)\n", [":X"]),
        ("X = 1\ndef f():\n    def g(X):\n        return X\n    return g\n", []),
        ("X = 1\ndef f(a=X):\n    return a\n", [":X"]),
        ("X = 1\n@X\ndef f():\n    pass\n", [":X"]),
        ("X = 1\ndef f(a: X) -> X:\n    b: X = a\n    return b\n", []),
        ("X = 1\nclass f:\n    def g(self):\n        return X\n", [":X"]),
        ("import a.b\ndef f():\n    return a.b.c\n", ["a.b.c"]),
        ("import a.b as d\ndef f():\n    return d.c\n", ["a.b.c"]),
        ("def f():\n    from a import b\n    return b.c(1)\n", ["a.b.c"]),
        ("def f():\n    from a import b\n    def g():\n        return b\n    return g\n", ["a.b"]),
        ("from . import x\ndef f():\n    return x.y\n", [".x.y"]),
    ],
)
def test_names_are_those_that_python_would_find(source, expected):
    found = shapes(source)["f"][1]
    assert sorted(set(found)) == expected


def test_fields_of_a_record_count_and_hints_of_other_classes_do_not():
    record = "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n"
    assert shapes(record)["A"] != shapes(record.replace("x: int", "y: int"))["A"]
    assert shapes(record)["A"] == shapes(record.replace("x: int", "x: float"))["A"]
    plain = "class A:\n    x = 1\n"
    assert shapes(plain)["A"] == shapes(plain.replace("x =", "x: int ="))["A"]


def test_statements_that_define_nothing_are_one_definition():
    assert ON_IMPORT not in shapes(BASE)
    source = "import a\nX = 1\nX += 2\na.b = X\nA, B = 1, 2\nwith a:\n    import c\n"
    found = shapes(source)
    assert set(found) == {"X", "A", "B", ON_IMPORT}
    assert found[ON_IMPORT][1] == ["a.b", ":X"]
    assert found["X"] != shapes(source.replace("+= 2", "+= 3"))["X"]


def test_constants_of_other_types_differ():
    digests = {shapes(f"X = {value}")["X"][0] for value in ("None", "False", "0", "0.0", "''")}
    assert len(digests) == 5

"""The keys of the studies `demo` and `table3`: `python -m tests.helpers.golden_keys` writes them.

A commit that changes this file makes results anew: it says so in the CHANGELOG.
"""

from __future__ import annotations

import json
import os
from unittest import mock

from prunegrid.common.packed_kernels import VARIABLE
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import with_ancestors
from tests.helpers import ROOT, shipped

GOLDEN = ROOT / "tests/golden/keys.json"
STUDIES = ("demo", "table3")


def keys() -> dict[str, dict[str, str]]:
    """Return {study: {stage and key of each node: its label}}; in float32, by one kernel."""
    with mock.patch.dict(os.environ, {VARIABLE: "plain"}):
        return _keys()


def _keys() -> dict[str, dict[str, str]]:
    config = shipped.check(shipped.config() | {"compute_dtype": "float32"})
    graph = Graph(config, ROOT)
    return {
        study: {f"{node.stage} {node.key}": node.label for node in nodes}
        for study in STUDIES
        for nodes in [sorted(with_ancestors(graph.study_leaves(study)), key=lambda n: n.label)]
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(keys(), indent=1) + "\n", encoding="utf-8")

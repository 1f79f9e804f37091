"""List done, running, failed and missing cells of a study."""

from __future__ import annotations

import argparse
from collections import Counter

from prunegrid.commands import options_of
from prunegrid.commands.progress import cell_states, control_states


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options_of.add_study(parser)
    options_of.add_config(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    graph = options_of.graph(options)
    states, controls = cell_states(graph, options.study), control_states(graph, options.study)
    for name, state, detail in [*states, *controls]:
        print(f"{state:8} {name}{': ' + detail if detail else ''}")
    counts = Counter(state for _, state, _ in states)
    total = ", ".join(f"{counts[s]} {s}" for s in ("done", "running", "failed", "missing"))
    print(f"{options.study}: {total}")
    if controls:
        done = sum(state == "done" for _, state, _ in controls)
        print(f"controls: {done} of {len(controls)} done")
    return 0

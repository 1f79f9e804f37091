"""Run a job's script, and tell the CPU seconds that its imports took (used by run.py).

python imports.py SCRIPT REPORT
"""

from __future__ import annotations

import builtins
import collections
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Clock:
    """Counts the CPU seconds of imports, those of each library by itself.

    Attributes:
        seconds: {library: CPU seconds of its modules, without what they import of others}.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self._libraries: list[str] = []
        self._since = 0.0

    def _switch(self) -> None:
        now = time.process_time()
        if self._libraries:
            self.seconds[self._libraries[-1]] += now - self._since
        self._since = now

    def around(self, act: Callable[..., Any], library: Callable[..., str]) -> Callable[..., Any]:
        """Return the import function `act` with a clock around it."""

        def timed(*arguments: Any, **named: Any) -> Any:
            self._switch()
            self._libraries.append(library(*arguments, **named))
            try:
                return act(*arguments, **named)
            finally:
                self._switch()
                self._libraries.pop()

        return timed


def main(script: str, report: str) -> None:
    """Run the script as Snakemake does, and write {modules, seconds} into the report."""
    clock = Clock()

    def imported(name, globals=None, locals=None, fromlist=(), level=0) -> str:
        whole = (globals or {}).get("__name__", "") if level else name
        return whole.partition(".")[0]

    def by_name(name: str, package: str | None = None) -> str:
        return (package if name.startswith(".") and package else name).partition(".")[0]

    builtins.__import__ = clock.around(builtins.__import__, imported)
    importlib.import_module = clock.around(importlib.import_module, by_name)
    sys.argv = [script]
    scope = {"__name__": "__main__", "__file__": script}
    try:
        exec(compile(Path(script).read_bytes(), script, "exec"), scope)
    finally:
        seconds = dict(clock.seconds)
        loaded = sorted({name.partition(".")[0] for name in sys.modules})
        facts = {"modules": len(sys.modules), "seconds": seconds, "loaded": loaded}
        Path(report).write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

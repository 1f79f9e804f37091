"""Run the checks of one file and write each row as soon as it is there.

    python worker.py FILE ROWS --device cuda:0 --seconds 180

FILE defines CHECKS. ROWS gets one JSON object a line: first {"planned": names}, then {"row": …} for
each row and {"done": name} after each check. `check.py` starts one such process a file: an error on
a GPU can make all later calls of its process fail, so each file gets a process of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "workflow" / "lib")]

from report import NotRun, Row, failed, not_run  # noqa: E402


@dataclass(frozen=True)
class Setting:
    """Where and how the checks run.

    Attributes:
        device: "cuda:0" or "cpu".
        small: sizes for a test instead of the real ones.
        scratch: an empty folder.
        ends: the time on `clock` after which no check begins.
        clock: returns seconds.
    """

    device: str
    small: bool
    scratch: Path
    ends: float = float("inf")
    clock: Callable[[], float] = time.monotonic

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU: times on a CPU have no bounds here."""
        return self.device != "cpu"


@dataclass(frozen=True)
class Check:
    """A name, and a function that yields the rows."""

    name: str
    rows: Callable[[Setting], Iterable[Row]]


def run_checks(checks: Iterable[Check], setting: Setting) -> Iterator[tuple[str, list[Row]]]:
    """Yield (name, rows) of each check; what one of them raises is a row and ends that check."""
    for check in checks:
        rows: list[Row] = []
        if setting.clock() > setting.ends:
            yield check.name, [not_run(check.name, "time")]
            continue
        try:
            for row in check.rows(setting):
                rows.append(row)  # one by one: what came before an error stays
        except NotRun as reason:
            rows.append(not_run(check.name, str(reason)))
        except Exception as error:
            message = f"{type(error).__name__}: {error}".strip().splitlines()[0][:160]
            rows.append(failed(check.name, message, traceback.format_exc()))
        yield check.name, rows


def load(path: Path) -> list[Check]:
    """Return the CHECKS of a file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module.CHECKS


def main() -> None:
    """Run the checks of the file that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, required=True, help="no check begins after them")
    arguments = parser.parse_args()
    ends = time.monotonic() + arguments.seconds
    # The checks use the classes of this very module.
    sys.modules["worker"] = sys.modules["__main__"]
    # Beside the rows: who starts this process removes that folder, even where it kills the process.
    scratch = tempfile.mkdtemp(dir=arguments.rows.parent)
    with arguments.rows.open("w") as out:
        checks = load(arguments.file)
        _write(out, {"planned": [check.name for check in checks]})
        setting = Setting(arguments.device, arguments.small, Path(scratch), ends)
        for name, rows in run_checks(checks, setting):
            for row in rows:
                _write(out, {"row": asdict(row)})
            _write(out, {"done": name})


def _write(out: TextIO, entry: dict) -> None:
    out.write(json.dumps(entry) + "\n")
    out.flush()


if __name__ == "__main__":
    main()

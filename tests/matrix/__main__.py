"""Run the matrix: `python -m tests.matrix [--models PATTERN …] [--steps STEP …] [--write]`.

Exits 1 where a cell has a fault, or where more than a tenth of the cells was not tried.
"""

from __future__ import annotations

import os
import sys

for _name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TORCHDYNAMO_DISABLE"):
    os.environ[_name] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

if __name__ == "__main__" and os.environ.get("PYTHONHASHSEED") != "0":
    # Errors of other libraries print sets; their order must be the same in each run.
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, "-m", "tests.matrix", *sys.argv[1:]])

import argparse  # noqa: E402
import fnmatch  # noqa: E402
import functools  # noqa: E402
import importlib  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

from tests.matrix import page, runner  # noqa: E402
from tests.matrix.chosen import tenth  # noqa: E402
from tests.matrix.columns import COLUMNS  # noqa: E402
from tests.matrix.subjects import read_models  # noqa: E402
from tests.matrix.verdicts import FAULT  # noqa: E402

# Imported before the processes fork, so that each has them at once.
LARGE = ("transformers.modeling_utils", "peft", "bitsandbytes", "accelerate")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the command's options."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--models", nargs="+", metavar="PATTERN", help="names or patterns")
    parser.add_argument("--steps", nargs="+", metavar="STEP", choices=list(COLUMNS))
    parser.add_argument("--tenth", metavar="HASH", help="the tenth that a commit's hash chooses")
    parser.add_argument("--jobs", type=int, default=2, help="models side by side (default 2)")
    parser.add_argument("--reasons", action="store_true", help="print refusals too")
    parser.add_argument(
        "--write", action="store_true", help="write results.json and the page (all models)"
    )
    return parser.parse_args(arguments)


def chosen_models(options: argparse.Namespace) -> list[str]:
    """Return the names of the models to run."""
    names = list(read_models())
    if options.tenth:
        names = tenth(names, options.tenth)
    patterns = [p for text in options.models or ["*"] for p in text.split(",")]
    names = [name for name in names if any(fnmatch.fnmatch(name, p) for p in patterns)]
    if not names:
        sys.exit(f"no model is called {', '.join(patterns)}")
    return names


def main(arguments: list[str] | None = None) -> int:
    """Run what the options say, and return the exit status."""
    options = parse(arguments)
    names, steps = chosen_models(options), options.steps or list(COLUMNS)
    if options.write and (len(names) < len(read_models()) or len(steps) < len(COLUMNS)):
        sys.exit("--write needs all models and all steps: leave the other options out")
    for module in LARGE:
        importlib.import_module(module)
    results = runner.run(names, steps, options.jobs, functools.partial(print, flush=True))
    if options.write:
        page.write_results(results)
        page.PAGE.write_text(page.render(results), encoding="utf-8")
    for name, cells in results.items():
        for step, (verdict, reason) in cells.items():
            if verdict == FAULT or (options.reasons and reason):
                print(f"{verdict.upper()} {name} {step}: {reason}")
    counts = page.count(results)
    print(", ".join(f"{number} {verdict}" for verdict, number in counts.most_common()))
    return int(counts[FAULT] > 0 or page.too_many_untried(results))


if __name__ == "__main__":
    # Scratch folders are below this one, and go with it.
    with tempfile.TemporaryDirectory(prefix="matrix-run-") as _folder:
        tempfile.tempdir = str(Path(_folder))
        sys.exit(main())

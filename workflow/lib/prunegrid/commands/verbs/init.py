"""Write mine.yaml, a study of your own model and data; ask for what no option says."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prunegrid.commands import new_study
from prunegrid.common.errors import PrunegridError

ASKED = {
    "model": "Model (a folder, hf:org/name, a .gguf file, or demo)",
    "data": "Data (.jsonl, .csv, .parquet or .txt, hf:org/name, or demo)",
}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    defaults = new_study.Choices
    parser.add_argument("--model", help="a folder, hf:org/name, a .gguf file, or demo")
    parser.add_argument("--data", help="a file or folder of data, hf:org/name, or demo")
    text = "which column holds what: document=NAME summary=NAME, or text=NAME [label=NAME]"
    parser.add_argument("--columns", nargs="+", default=[], metavar="ROLE=NAME", help=text)
    parser.add_argument("--method", default=defaults.method, help="see `prunegrid list methods`")
    text = '"N:M", unstructured or structured (default: 2:4)'
    parser.add_argument("--pattern", default=defaults.pattern, help=text)
    text = "of pattern unstructured or structured (default: 0.5)"
    parser.add_argument("--sparsity", type=float, default=defaults.sparsity, help=text)
    text = "none, or one of `prunegrid list strategies` (default: lora)"
    parser.add_argument("--finetune", default=defaults.finetune, help=text)
    text = "the file to write (default: mine.yaml); its name is the study's"
    parser.add_argument("--out", type=Path, default=Path("mine.yaml"), help=text)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    chosen = {key: getattr(options, key) for key in ("method", "pattern", "sparsity", "finetune")}
    chosen |= {key: getattr(options, key) or _answer(key) for key in ASKED}
    columns = dict(_pair(text) for text in options.columns)
    study = new_study.write(new_study.Choices(**chosen, out=options.out, columns=columns))
    print(f"wrote {options.out}: the study {study}, checked")
    print(f"next: prunegrid run {study} -c {options.out}")
    print(f"before it, what it takes: prunegrid plan {study} -c {options.out}")
    return 0


def _answer(key: str) -> str:
    """Return what the user types for an option.

    Raises:
        PrunegridError: there is no terminal to ask at, or nothing was typed.
    """
    text = input(f"{ASKED[key]}: ").strip() if sys.stdin.isatty() else ""
    if not text:
        raise PrunegridError(f"no {key} is given", remedy=f"add --{key}; see prunegrid init --help")
    return text


def _pair(text: str) -> tuple[str, str]:
    role, sign, name = text.partition("=")
    if role not in ("document", "summary", "text", "label") or not sign or not name:
        raise PrunegridError(
            f"--columns {text}", expected="document=, summary=, text= or label=NAME"
        )
    return role, name

"""The command `prunegrid`: `prunegrid VERB --help` says what a verb takes."""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from prunegrid import __version__
from prunegrid.common.errors import PrunegridError
from prunegrid.common.logs import log_for_people, redact

VERBS = Path(__file__).with_name("verbs")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    log_for_people()
    options, unknown = parser(words).parse_known_args(words)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return options.run(options)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (PrunegridError, OSError) as error:
        print(f"prunegrid: {redact(str(error))}", file=sys.stderr)
        return 1


class Parser(argparse.ArgumentParser):
    """A parser whose errors name the option nearest to one that it does not have.

    Attributes:
        words: of the command line.
    """

    words: Collection[str] = ()

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit."""
        known = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", self.format_help()))
        given = [word.partition("=")[0] for word in self.words if word.startswith("--")]
        for word in given:
            close = difflib.get_close_matches(word, known, n=1)
            if close and not any(option.startswith(word) for option in known):
                message += f"; did you mean {close[0]}?"
        super().error(message)


def parser(words: Collection[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line; its results have `run`, the command's function.

    Args:
        words: of the command line. Only verbs among them are imported and take their options, since
            some import large libraries. None for all.
    """
    whole = Parser(prog="prunegrid", description=__doc__)
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(dest="command", required=True, metavar="VERB")
    for verb, text in verbs().items():
        one = commands.add_parser(verb, help=text, description=text)
        if words is None or verb in words:
            module = importlib.import_module(f"prunegrid.commands.verbs.{verb.replace('-', '_')}")
            one.words = words or ()
            one.set_defaults(run=module.run, parser=one)
            getattr(module, "options", lambda parser: None)(one)
    return whole


def verbs() -> dict[str, str]:
    """Return {verb: what it does} of all commands, a file each."""
    files = [path for path in sorted(VERBS.glob("*.py")) if path.stem != "__init__"]
    texts = {path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in files}
    return {
        path.stem.replace("_", "-"): text.splitlines()[0].rstrip(".")
        for path, text in texts.items()
    }

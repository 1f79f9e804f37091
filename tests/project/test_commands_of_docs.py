"""Each command in README, docs and config can be given: options, studies and targets exist."""

import argparse
import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser

from prunegrid.commands import cli
from prunegrid.tables.table_names import SUFFIXES
from tests.helpers import ROOT, shipped

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "config/README.md")]
PAGES += [ROOT / "config.yaml", ROOT / "Snakefile"]
PAGES += sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "benchmarks").glob("*/README.md"))
PAGES += [p for folder in ("config", "profiles") for p in sorted((ROOT / folder).rglob("*.yaml"))]
PROGRAMS = ("snakemake", "prunegrid", "make")
# Names that stand for a reader's own.
OWN = {"STUDY", "mine", "my-reports", "big", "x", "packed", "plain"}
EXAMPLES = {path.stem for path in (ROOT / "examples").glob("*.yaml")}
STUDIES = shipped.config()["studies"].keys() | EXAMPLES | OWN


LINE = re.compile(r"^(?:#\s+|\s{4,}|)((?:[A-Z_]+=\S+ )*(?:snakemake|prunegrid|make) .+)$", re.M)


def commands_of(text):
    """Yield the commands of a page: lines of its shell blocks and comments, and inline code.

    Two words of inline code name a command, and need not be a whole one.
    """
    yield from LINE.findall(text)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`]+)`", prose):
        if len(code.split()) > 2:
            yield " ".join(code.split())


def listed():
    """Return (page, command) of all commands that have an argument."""
    found = {}
    for page in PAGES:
        for command in commands_of(page.read_text(encoding="utf-8")):
            words = command.split(" #")[0].split("  ")[0].strip()
            first = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", words)
            is_one = first.split(" ")[0] in PROGRAMS and " " in first and "…" not in first
            if is_one and not re.search(r"[.;] |\.$|^make (sure|it|the)\b", first):
                found[f"{page.relative_to(ROOT)}: {first}"] = first
    return found


COMMANDS = listed()


def parsed(parser, words):
    """Return what a parser makes of words; fail with its own message."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        try:
            return parser.parse_args(words)
        except (SystemExit, argparse.ArgumentError) as error:
            pytest.fail(f"{words}: {told.getvalue() or error}")


def test_the_pages_have_commands():
    programs = [command.split()[0] for command in COMMANDS.values()]
    assert all(programs.count(program) >= 5 for program in PROGRAMS)


@pytest.mark.parametrize("place", [p for p, c in COMMANDS.items() if c.startswith("snakemake")])
def test_snakemake_takes_a_command(place):
    found = parsed(get_argument_parser(), shlex.split(COMMANDS[place])[1:])
    for path in found.configfile or ():
        assert Path(path).suffix in (".yaml", ".json"), f"{path} was to be a target"
    assert not any("results/" in str(value) for value in found.config or ())
    for target in found.targets:
        study, _, suffix = target.removeprefix("results/").partition(".")
        assert study in STUDIES and suffix in SUFFIXES["evaluations"] + SUFFIXES["census"], target
    profile = found.workflow_profile
    assert profile in (None, "none") or (ROOT / profile / "config.yaml").is_file()


@pytest.mark.parametrize("place", [p for p, c in COMMANDS.items() if c.startswith("prunegrid")])
def test_prunegrid_takes_a_command(place):
    command = re.sub(r"[\[\]]", "", COMMANDS[place]).replace('"…"', "reviewed")
    found = parsed(cli.parser(), shlex.split(command)[1:])
    assert getattr(found, "study", None) in {*STUDIES, None}


@pytest.mark.parametrize("place", [p for p, c in COMMANDS.items() if c.startswith("make")])
def test_make_has_the_targets_and_variables(place):
    text = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.+)$", text, re.M)[1].split()
    for word in shlex.split(COMMANDS[place])[1:]:
        name, sign, _ = word.partition("=")
        if sign:
            assert re.search(rf"\b{name}\b", text), word
        else:
            assert word in targets, word

"""Write config/schema.json and the pages of docs/reference that say what the code declares.

    python docs/generate.py [FOLDER]

Nothing in these files is written by hand: change the code, and write them again.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from unicodedata import normalize

from pages import anchor, code, config_keys, page, table

from prunegrid.commands import cli
from prunegrid.common import plugins
from prunegrid.common.source_code import literals
from prunegrid.config.json_schema import schema
from prunegrid.tables import census, citations
from prunegrid.tables import schema as tables

ROOT = Path(__file__).resolve().parents[1]
BETTER = {True: "higher", False: "lower", None: "–"}
NEEDS = {
    "nothing": "nothing",
    "input_norms": "norms of inputs",
    "input_moments": "means and variances of inputs",
    "hessian": "Hessians of inputs",
    "gradients": "gradients",
    "hidden_states": "hidden states",
    "expert_outputs": "outputs of experts",
}
KINDS = {
    "pruning method": "Pruning methods: which weights go (`method` of `prune`)",
    "refine": "Refinements: how a mask is improved (`refine` of `prune`)",
    "update": "Updates: what becomes of the weights that stay (`update` of `prune`)",
    "allocation": "Allocations: how many weights each linear loses (`allocation` of `prune`)",
    "criterion of structured pruning": "Structured pruning: which units go (`method` of `prune`)",
    "strategy": "Strategies: how a model is tuned (`strategy` of `finetune`)",
    "baseline": "Controls: texts that no model wrote (`method` of `baselines`)",
}
FILES = {
    "Key columns": (".parquet", tables.KEYS),
    "Measurements": (".parquet", tables.FACTS),
    "Provenance": (".parquet", tables.PROVENANCE),
    "Every score": (".long.parquet", tables.LONG),
    "Controls": (".controls.parquet", tables.CONTROLS),
    "Single examples": (".examples.parquet", tables.EXAMPLES),
    "Pairs of cells": (".pairs.parquet", tables.PAIRS),
    "Contrasts": (".contrasts.parquet", tables.CONTRASTS),
    "Cliffs": (".cliffs.parquet", tables.CLIFFS),
    "A census": (".parquet", census.COLUMNS),
}
METRICS = """\
`module` of a `metrics` profile is one of these, or [a file of yours](../how-to/metric.md).
[Metrics](../explanations/metrics.md) says what each hides."""
METHODS = """\
Each is one file of the library, by its name. A config may also name
[a file of yours](../how-to/method.md) by its path. What needs norms, Hessians, gradients or outputs
needs a `calibration`."""
COLUMNS = f"""\
Every column of each Parquet file, in version {tables.SCHEMA_VERSION} of the tables.
[The results table](table.md) explains them."""


def files() -> dict[str, str]:
    """Return {path in the project: text} of all files that are written."""
    whole = schema()
    pages = {"config-keys": config_keys(whole), "columns": columns(), "metrics": metrics()}
    pages |= {"methods": methods(), "commands": commands()}
    texts = {f"docs/reference/{name}.md": "\n".join(lines) for name, lines in pages.items()}
    return texts | {"config/schema.json": json.dumps(whole, indent=1, ensure_ascii=False) + "\n"}


def columns() -> Iterator[str]:
    yield from page("Columns of the tables", COLUMNS)
    for title, (suffix, listed) in FILES.items():
        yield from (f"## {title}", "", f"`results/<study>{suffix}`", "")
        rows = [(f"`{one.name}`", one.dtype, one.meaning) for one in listed]
        yield from table(("column", "type", "meaning"), rows)


def metrics() -> Iterator[str]:
    yield from page("Metrics of texts", METRICS)
    listed = {name: (path, literals(path)) for name, path in plugins.files("metric").items()}
    rows = [
        (f"`{column}`", f"`{name}`", facts["MEANINGS"][column], BETTER[said["higher_is_better"]])
        for name, (_, facts) in listed.items()
        for column, said in facts["COLUMNS"].items()
    ]
    yield from table(("column", "module", "range and meaning", "better"), rows)
    yield from ("## Modules", "")
    rows = [
        (f"`{name}`", about(path), reads(facts), works(path))
        for name, (path, facts) in listed.items()
    ]
    yield from table(("module", "what it scores", "reads beside the texts", "source"), rows)
    yield from ("## Settings", "")
    rows = [row for path, _ in listed.values() for row in settings(path)]
    yield from table(("module", "setting", "default", "meaning"), rows)


def reads(facts: dict) -> str:
    """Return what a metric reads beside prediction and reference."""
    return ", ".join([*facts.get("READS", ()), *(["a `model`"] if "NEEDS_MODEL" in facts else [])])


def methods() -> Iterator[str]:
    yield from page("Methods", METHODS)
    for kind, title in KINDS.items():
        found = plugins.files(kind)
        facts = {name: literals(path) for name, path in found.items()}
        more = {
            "needs": {n: NEEDS[f["NEEDS"]] for n, f in facts.items() if "NEEDS" in f},
            "ranks within": {n: f["SCOPE"] for n, f in facts.items() if "SCOPE" in f},
            "units": {n: quoted(f["UNITS"]) for n, f in facts.items() if "UNITS" in f},
            "role": {n: f["ROLE"] for n, f in facts.items() if "ROLE" in f},
            "keys": {n: quoted(f["KEYS"]) for n, f in facts.items() if "KEYS" in f},
            "`task` of models": {n: quoted(f["FITS"]) for n, f in facts.items() if "FITS" in f},
            "source": {name: works(path) for name, path in found.items()},
        }
        more = {head: cells for head, cells in more.items() if any(cells.values())}
        rows = [
            (f"`{name}`", about(path), *(cells.get(name, "") for cells in more.values()))
            for name, path in found.items()
        ]
        heading, text = title.split(": ")
        yield from (f"## {heading}", "", f"{text[0].upper()}{text[1:]}.", "")
        yield from table(("name", "what it is", *more), rows)
        own = [row for path in found.values() for row in settings(path)]
        yield from table(("name", "setting", "default", "meaning"), own) if own else ()


def about(path: Path) -> str:
    """Return the first sentence of a file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).partition("\n\n")[0]
    return re.split(r"(?<=[a-z)|]\.) (?=[A-Z])", " ".join(text.split()))[0]


def settings(path: Path) -> Iterator[tuple[str, ...]]:
    """Yield (plugin, setting, default, meaning) of each setting of a plugin."""
    facts = literals(path)
    for key, default in facts.get("SETTINGS", {}).items():
        yield (f"`{path.stem}`", f"`{key}`", code(default), facts["MEANINGS"][key])


def works(path: Path) -> str:
    """Return the works that a plugin comes from: authors, year and arXiv number."""
    found, known = [], citations.bibliography()
    for key in literals(path).get("CITE", ()):
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", known[key], re.MULTILINE))
        names = [name.partition(",")[0] for name in fields["author"].split(" and ")]
        who = " and ".join(names) if len(names) < 3 else f"{names[0]} et al."
        where = f" (arXiv {fields['eprint']})" if "eprint" in fields else ""
        found.append(f"{who} {fields['year']}{where}")
    text = re.sub("[{}]", "", "; ".join(found))
    return re.sub(r"\\'(\w)", lambda letter: normalize("NFC", f"{letter[1]}\u0301"), text)


def quoted(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def commands() -> Iterator[str]:
    yield from page("Commands", "`--help` behind a command says the same in a terminal.")
    (verbs,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    rows = [(anchor(f"prunegrid {verb}"), one.description) for verb, one in verbs.choices.items()]
    yield from table(("command", "what it does"), rows)
    for verb, one in verbs.choices.items():
        yield from (f"## prunegrid {verb}", "", f"{one.description}.", "")
        given = [option for option in one._actions if option.dest != "help"]
        rows = [(argument(option), option.help or "") for option in given]
        yield from table(("argument", "meaning"), rows) if rows else ()


def argument(option: argparse.Action) -> str:
    """Return an option or argument as it is written."""
    value = option.metavar or option.dest.upper()
    value = "|".join(map(str, option.choices)) if option.choices else value
    forms = {"+": f"{value} …", "*": f"[{value} …]", "?": f"[{value}]", 0: ""}
    value = forms.get(option.nargs, value)
    return quoted(f"{word} {value}".strip() for word in option.option_strings or [""])


def write(folder: Path) -> None:
    """Write all files below the project's folder, or another."""
    for name, text in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if sys.argv[1:] else ROOT)

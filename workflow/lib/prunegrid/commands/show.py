"""What is printed of a study's table: the telling columns, the verdicts, failures and files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas
from rich.console import Console

from prunegrid.commands import terminal_table
from prunegrid.commands.study_sheet import CELL, DISTURBED, of_study
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.common.file_io import read_json
from prunegrid.tables import model_links
from prunegrid.tables.compared import drift, known_values
from prunegrid.tables.markdown import interval, number
from prunegrid.tables.near_dense import WORDS

FILES = {
    "html": "the page: charts, samples, where each number is from",
    "md": "the whole table, for people",
    "png": "its figure",
    "parquet": "every column, for programs",
    "long.parquet": "every score with its interval",
    "examples.md": "what the models wrote",
    "tex": "the table for a paper",
}
FOLDERS_SHOWN = 8


def chosen(
    study: str, results: Path, columns: Sequence[str] = (), sort: str | None = None
) -> list[terminal_table.Field]:
    """Return the columns of a study's table to show, see `terminal_table.Sheet.chosen` and `sort`.

    Raises:
        PrunegridError: there is no such table, or a column is unknown.
    """
    require_table(study, results)
    whole = of_study(results, study)
    if sort:
        whole.sort(sort)
    return whole.chosen(columns)


def print_warning(study: str, results: Path, console: Console) -> None:
    """Print how a study's dense model drifted from its known values; nothing where it did not."""
    manifest = results / f"{study}.manifest.json"
    plan = read_json(manifest).get("plan", {}) if manifest.is_file() else {}
    if plan.get("expected"):
        known = known_values(plan, pandas.read_parquet(results / f"{study}.parquet"))
        if drifted := drift(known):
            console.print(drifted, style="bold", markup=False)


def print_table(fields: Sequence[terminal_table.Field], console: Console, fit: bool = True) -> None:
    """Print columns as a table; `fit` leaves out the last ones where the terminal is narrow."""
    given = fields
    fields = terminal_table.fitted(fields, console.width) if fit else fields
    console.print(terminal_table.table(fields, console.encoding, console.width))
    remarks = []
    if narrow := [one.header for one in given if one not in fields]:
        remarks.append(
            f"no room for {', '.join(narrow)} (a wider window shows them; or --columns names what "
            "to show, or --csv)"
        )
    if any(any(one.marks) for one in fields):
        remarks.append(
            f"{terminal_table.BEST} best, {terminal_table.WORST} worst value of the changed models"
        )
    if any(DISTURBED in text for one in fields for text in one.texts):
        remarks.append(f"{DISTURBED} disturbed timing (prunegrid remeasure)")
    if any(text.endswith(terminal_table.NEAR) for one in fields for text in one.texts):
        remarks.append(f"{terminal_table.NEAR} {WORDS}")
    if any(one.bounds for one in fields):
        remarks.append("(low–high): 95% intervals")
    if remarks:
        text = "; ".join(remarks)
        is_plain = not console.encoding.lower().startswith("utf")
        console.print(terminal_table.in_ascii(text) if is_plain else text, style="dim")


def print_rest(study: str, results: Path, console: Console) -> None:
    """Print the verdicts of a study, its failed cells with their reasons, files and models."""
    text = [*_verdicts(study, results, console.width), *_failures(study, results, console.width)]
    console.print("", *text, sep="\n", markup=False)
    for suffix, what in FILES.items():
        place = results / f"{study}.{suffix}"
        if place.is_file():
            console.print(f"  {place}  ({what})", markup=False, soft_wrap=True)
    for line in _models(study, results):
        console.print(line, markup=False, soft_wrap=True)


def require_table(study: str, results: Path) -> None:
    """Check that a study has a table.

    Raises:
        PrunegridError: it has none; the text says how to make it, or names the nearest study.
    """
    path = results / f"{study}.parquet"
    if path.is_file():
        return
    from prunegrid.commands import cli_config  # slow, and needed here alone

    known = {*cli_config.studies(), *(p.stem for p in results.glob("*.parquet"))}
    known = {name for name in known if "." not in name}
    if study in known:
        raise PrunegridError(
            f"the study '{study}' has no table yet",
            where=str(path),
            remedy=f"make it: prunegrid run {study} (how far it is: prunegrid status {study})",
        )
    hint = f"make the table of a study in a file of yours: prunegrid run {study} -c FILE"
    raise PrunegridError(
        f"there is no study '{study}' and no such table",
        where=str(path),
        remedy=f"{nearest(study, known)}; {hint}",
    )


def _models(study: str, results: Path) -> Iterator[str]:
    """Yield where a study's models lie: the folder of links to them, or else their folders."""
    links = results / model_links.FOLDER / study
    if links.is_dir():
        yield f"  {links}/  (the models, a folder each)"
        return
    frame = pandas.read_parquet(results / f"{study}.parquet")
    if "artifact" not in frame:
        return
    frame = frame.drop_duplicates("artifact").dropna(subset="artifact")
    for row in frame.head(FOLDERS_SHOWN).to_dict("records"):
        yield f"  {row['artifact']}/  (the model {row['prune']} / {row['finetune']})"
    if len(frame) > FOLDERS_SHOWN:
        yield f"  {len(frame) - FOLDERS_SHOWN} more: prunegrid show {study} --columns artifact"


def _failures(study: str, results: Path, width: int) -> Iterator[str]:
    """Yield the number of cells, and a line for each failed one with its reason."""
    frame = pandas.read_parquet(results / f"{study}.parquet").drop_duplicates(CELL)
    status = frame["status"]
    missing = int((status == "missing").sum())
    for row in frame[status == "failed"].to_dict("records"):
        names = (row["model"], row["prune"], row["finetune"])
        title = " / ".join(str(name) for name in names if not pandas.isna(name))
        yield from _wrapped(f"FAILED {title}: {row['reason']}", width)
    text = f"{len(frame)} cells, {int((status == 'failed').sum())} failed"
    yield text + (f", {missing} not reached" if missing else "")


def _verdicts(study: str, results: Path, width: int) -> Iterator[str]:
    """Yield a line for every contrast that the study declared."""
    path = results / f"{study}.contrasts.parquet"
    frame = pandas.read_parquet(path) if path.is_file() else pandas.DataFrame()
    if frame.empty:
        return
    yield "Verdicts (95%, corrected for their number), of the first against the second:"
    for row in frame.to_dict("records"):
        value, low, high = (number(row[name], ".3f") for name in ("value", "low", "high"))
        effect = f", {row['effect']} {interval(value, low, high)}" if value else ""
        sides = " against ".join(_side(row[side]) for side in ("a", "b"))
        text = f"{sides}, {row['split']} {row['metric'] or ''}: {row['verdict']}{effect}"
        yield from _wrapped(f"- {text}", width)
    yield ""


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(40, width), subsequent_indent="  ")


def _side(title: str | None) -> str:
    """Return prune / finetune of a side's title `model / data / prune / finetune`."""
    return " / ".join((title or "?").split(" / ")[2:]) or "?"

"""Making a study's table: rows from manifests, written as Parquet, CSV, Markdown and a plot."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas

from prunegrid import __version__
from prunegrid.artifacts.artifact_folder import MANIFEST, contents, sealed
from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import file_sha256, write_json
from prunegrid.tables import examples, expected
from prunegrid.tables.cliffs import cliff_rows, rising
from prunegrid.tables.contrasts import contrast_rows
from prunegrid.tables.controls import control_rows, flag
from prunegrid.tables.copies import copied_rows
from prunegrid.tables.files import place, sweep, write_parquet
from prunegrid.tables.groups import collect, pair_rows
from prunegrid.tables.headline import is_perplexity
from prunegrid.tables.plot import draw_study, save
from prunegrid.tables.render import render_markdown
from prunegrid.tables.schema import (
    CLIFFS,
    COLUMNS,
    CONTRASTS,
    CONTROLS,
    EXAMPLES,
    LONG,
    PAIRS,
    SCHEMA_VERSION,
    Column,
    unique_key,
)
from prunegrid.tables.table_rows import baseline_rows, cell_rows

log = logging.getLogger("prunegrid")


def aggregate(plan: Mapping[str, Any], folder: Path = Path("results")) -> bool:
    """Write a study's table files below `folder`; return whether all is in it and as expected.

    Args:
        plan: `prunegrid.tables.table_plan.study_plan`.
        folder: where `<study>.parquet` and its companions go.

    Raises:
        ValueError: two cells have the same key columns.
    """
    rows, long, notes = [], [], []
    for cell in plan["cells"]:
        row, entries = cell_rows(plan, cell)
        rows.append(row)
        long += entries
        log.info("%s: %s", _title(row), row["status"] if row["reason"] is None else row["reason"])
    unique_key(rows)
    complete = all(row["status"] == "ok" for row in rows)
    whole = []
    for baseline in plan["baselines"]:
        try:
            long += baseline_rows(plan, baseline)
            whole.append(baseline)
        except PrunegridError as error:
            complete = False
            notes.append(f"control {baseline['baseline']} ({baseline['split']}): {error}")
            log.warning("%s", notes[-1])
    groups = collect(plan, rows)
    compared = control_rows(plan, groups, long)
    wide, tall = typed_frame(rows, COLUMNS), typed_frame(flag(long, compared), LONG)
    pairs = typed_frame(pair_rows(plan, groups), PAIRS)
    faults, same = copied_rows(rows, _perplexities(long))
    for fault in faults:
        complete = False
        log.error("%s", fault)
    contrasts = contrast_rows(plan, rows, tall)
    for contrast in (row for row in contrasts if row["reason"]):
        complete = False
        log.error("%s", contrast["reason"])
    cliffs = cliff_rows(plan, rows, tall)
    controls = typed_frame(compared, CONTROLS)
    scored = examples.collect({**plan, "baselines": whole}, rows)
    singles = typed_frame(examples.example_rows(plan, scored), EXAMPLES)
    known = expected.compare(plan, wide)
    for entry in known:
        if entry["fault"]:
            complete = False
            log.error("%s: %s: %s", entry["cells"], entry["column"], entry["fault"])
    text = render_markdown(
        plan,
        wide,
        tall,
        groups=groups,
        expected=known,
        contrasts=contrasts,
        cliffs=cliffs,
        controls=controls,
        notes=notes,
        doubts=faults + same + rising(cliffs),
    )
    frames = {
        "": wide,
        "long.": tall,
        "pairs.": pairs,
        "contrasts.": typed_frame(contrasts, CONTRASTS),
    }
    frames |= {"controls.": controls, "examples.": singles, "cliffs.": typed_frame(cliffs, CLIFFS)}
    pages = {"md": text, "examples.md": examples.render(plan, scored)}
    figure = functools.cache(lambda: draw_study(plan, wide, tall, frames["cliffs."], groups))
    _write(plan, frames, pages, figure, complete, folder)
    return complete


def _perplexities(long: list[dict]) -> list[str]:
    """Return the names of the columns that hold perplexities."""
    named = (f"{row['split']}_{row['metric']}" for row in long if is_perplexity(row["metric"]))
    return list(dict.fromkeys(named))


def _write(
    plan: Mapping[str, Any],
    frames: Mapping[str, pandas.DataFrame],
    pages: Mapping[str, str],
    figure: Callable[[], Any],
    complete: bool,
    folder: Path,
) -> None:
    """Write the files of a table, and the manifest that holds their digests last."""
    study = plan["study"]
    about = {"study": study, "key": plan["key"], "schema_version": SCHEMA_VERSION}
    about |= {"complete": complete, "prunegrid": __version__}
    writers: dict[str, Callable[[Path], None]] = {
        f"{name}parquet": lambda path, frame=frame: write_parquet(frame, path, about)
        for name, frame in frames.items()
    }
    writers |= {
        name: lambda path, text=text: path.write_text(text, encoding="utf-8")
        for name, text in pages.items()
    }
    writers |= {
        form: lambda path, form=form: save(figure(), path, form, study) for form in ("png", "svg")
    }
    writers["csv"] = lambda path: frames[""].to_csv(path, index=False)
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder, study)
    digests = {}
    for suffix, write in writers.items():
        path = folder / f"{study}.{suffix}"
        place(path, write)
        digests[path.name] = file_sha256(path)
    plan = {key: value for key, value in plan.items() if key != "pins"}
    about |= {"files": digests, "leaves": contents_read(plan), "plan": plan}
    write_json(folder / f"{study}.manifest.json", sealed(about))


def contents_read(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return {manifest: content} of every artifact that rows were read from."""
    refs = [
        ref for cell in plan["cells"] for pair in cell["texts"].values() for ref in pair.values()
    ]
    refs += [
        ref
        for cell in plan["cells"]
        for kind in ("perplexities", "tasks")
        for ref in cell[kind].values()
    ]
    refs += [cell["efficiency"] for cell in plan["cells"] if cell["efficiency"]]
    refs += [baseline["scores"] for baseline in plan["baselines"]]
    return contents(Path(ref["path"], MANIFEST) for ref in refs)


def _title(row: Mapping[str, Any]) -> str:
    return " / ".join(str(row[key]) for key in ("model", "prune", "finetune", "seed"))


def typed_frame(rows: list[dict], columns: tuple[Column, ...]) -> pandas.DataFrame:
    """Return a frame with the schema's columns first, typed, and the measured ones after them."""
    fixed = [column.name for column in columns]
    extra = dict.fromkeys(key for row in rows for key in row if key not in fixed)
    frame = pandas.DataFrame(rows, columns=[*fixed, *extra])
    dtypes = {column.name: column.dtype for column in columns}
    dtypes |= {name: "Int64" if name.endswith("_n") else "Float64" for name in extra}
    return frame.astype(dtypes)

"""The table of a census: one row a bin of a group of weights, counted; its page and its figures.

Groups of a cell are the whole model (`all`), the model `without embeddings`, each `block` (one more
group holds what is in none), and each `kind` of parameter. The counts of a group add up to its
parameters, those of blocks and those of kinds to the model's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas
from tabulate import tabulate

from prunegrid import __version__
from prunegrid.artifacts.artifact_folder import MANIFEST, contents, sealed
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.file_io import file_sha256, write_json
from prunegrid.tables import census_figures
from prunegrid.tables.census_figures import CELL, cell_name
from prunegrid.tables.files import place, sweep, write_parquet
from prunegrid.tables.schema import Column
from prunegrid.tables.table_rows import open_leaves, status_of

log = logging.getLogger("prunegrid")

ALL, REST = "all", "without embeddings"
CENSUS_SCHEMA_VERSION = 1
COLUMNS = (
    Column("study", "string", "name of the study"),
    Column("model", "string", "name of the model profile"),
    Column("prune", "string", "name of the prune profile(s), joined by +; dense"),
    Column("finetune", "string", "name of the fine-tune profile(s), joined by +; none"),
    Column("dataset", "string", "data set that it was tuned on; null without"),
    Column("seed", "Int64", "seed that reached a step of the cell; null where none draws"),
    Column("status", "string", "ok, failed or missing (one row, without counts)"),
    Column("reason", "string", "why it failed; null where it did not"),
    Column("weights_sha256", "string", "digest of every tensor that was read for the counts"),
    Column("artifact", "string", "folder of these weights"),
    Column("weight_precision", "string", "their dtype in the files"),
    Column("group", "string", "all, without embeddings, block, or kind"),
    Column("stack", "string", "list of blocks; null for other groups and what is in no block"),
    Column("block", "Int64", "index in the stack, from 0; null as above"),
    Column("depth", "Float64", "(block + 1/2) / blocks of its stack; null as above"),
    Column("kind", "string", "kind of parameter; null for other groups"),
    Column("bin", "string", "which |w| were counted, as an interval"),
    Column("low", "Float64", "least |w| of the bin (that of the first is not in it)"),
    Column("high", "Float64", "|w| that the bin ends before; null: no end; of zeros 0"),
    Column("count", "Int64", "weights of the group in the bin"),
    Column("parameters", "Int64", "weights of the group"),
    Column("share", "Float64", "count / parameters"),
)


def tabulate_census(plan: Mapping[str, Any], folder: Path = Path("results")) -> bool:
    """Write a census's table files below `folder`; return whether all cells are in it.

    Args:
        plan: `prunegrid.tables.table_plan.study_plan` of a study of kind census.
        folder: where `<study>.parquet` and its companions go.
    """
    rows = [row for cell in plan["cells"] for row in cell_rows(plan, cell)]
    frame = pandas.DataFrame(rows, columns=[column.name for column in COLUMNS])
    frame = frame.astype({column.name: column.dtype for column in COLUMNS})
    failed = frame[frame["status"] != "ok"]
    for row in failed.to_dict("records"):
        log.warning("%s: %s", cell_name(row), row["reason"])
    _write(plan, frame, failed.empty, folder)
    return failed.empty


def cell_rows(plan: Mapping[str, Any], cell: dict[str, Any]) -> list[dict]:
    """Return the rows of one cell; of a failed one a single row that has its reason."""
    base = {"study": plan["study"], **cell["columns"]}
    weights, ref = cell["chain"][-1], cell["census"]
    try:
        manifest = open_leaves(cell, {"census": ref})["census"]
        if manifest["parents"]["weights"]["key"] != weights["key"]:
            raise AttestationError("counted another artifact", where=ref["path"])
    except PrunegridError as error:
        return [base | status_of(error)]
    tensors = pandas.read_parquet(Path(ref["path"], "tensors.parquet"))
    return group_rows(plan, base, weights["path"], manifest["record"]["weights"], tensors)


def group_rows(
    plan: Mapping[str, Any], base: dict, artifact: str, weights: dict, tensors: pandas.DataFrame
) -> list[dict]:
    """Return the rows of a cell whose weights were counted.

    Args:
        plan: edges, zeros, embeddings.
        base: the columns that say which cell.
        artifact: folder of the weights.
        weights: {sha256, precision, …} as measured with the counts.
        tensors: one row a parameter, one column a bin.
    """
    about = {"status": "ok", "reason": None, "weights_sha256": weights["sha256"]}
    about |= {"artifact": artifact, "weight_precision": weights["precision"]}
    found = []
    for group, members in _groups(plan, tensors):
        total = int(members["parameters"].sum())
        for label, low, high, columns in bins(plan):
            number = int(members[columns].to_numpy().sum())
            counted = {"bin": label, "low": low, "high": high, "count": number}
            counted |= {"parameters": total, "share": number / total}
            found.append(base | about | group | counted)
    return found


def bins(plan: Mapping[str, Any]) -> list[tuple[str, float, float | None, list[str]]]:
    """Return (label, low, high, columns of the tensors' counts) of each bin that is shown."""
    edges = plan["edges"]
    found = [("0", 0.0, 0.0, ["bin_0"]), (f"(0, {edges[0]:g})", 0.0, edges[0], ["bin_1"])]
    if plan["zeros"] == "within":
        found = [(f"[0, {edges[0]:g})", 0.0, edges[0], ["bin_0", "bin_1"])]
    for index, low in enumerate(edges):
        high = edges[index + 1] if index + 1 < len(edges) else None
        label = f"[{low:g}, {'inf' if high is None else f'{high:g}'})"
        found.append((label, low, high, [f"bin_{index + 2}"]))
    return found


def _groups(
    plan: Mapping[str, Any], tensors: pandas.DataFrame
) -> Iterator[tuple[dict, pandas.DataFrame]]:
    """Yield (columns that name a group, its tensors)."""
    rest = tensors[tensors["kind"] != "embedding"]
    counted = tensors if plan["embeddings"] else rest
    if plan["embeddings"]:
        yield {"group": ALL}, tensors
    yield {"group": REST}, rest
    inside = counted[counted["stack"].notna()]
    for (stack, block), members in inside.groupby(["stack", "block"], sort=False):
        depth = (block + 0.5) / members["blocks"].iloc[0]
        yield {"group": "block", "stack": stack, "block": int(block), "depth": depth}, members
    outside = counted[counted["stack"].isna()]
    if len(outside):
        yield {"group": "block"}, outside
    for kind, members in counted.groupby("kind"):
        yield {"group": "kind", "kind": kind}, members


def render(plan: Mapping[str, Any], frame: pandas.DataFrame) -> str:
    """Return the table as Markdown: shares by bin of each cell and kind, and what they are of."""
    counted = frame[(frame["status"] == "ok") & (frame["group"] != "block")]
    labels = [label for label, *_ in bins(plan)]
    lines = []
    for _, rows in counted.groupby([*CELL, "group", "kind"], sort=False, dropna=False):
        first = rows.iloc[0]
        part = first["kind"] if first["group"] == "kind" else f"**{first['group']}**"
        shares = [f"{100 * share:.4g}" for share in rows["share"]]
        lines.append([cell_name(first), part, f"{first['parameters']:,}", *shares])
    header = ["model", "weights", "parameters", *(f"{label} %" for label in labels)]
    parts = [f"# {plan['title'] or plan['study']}"]
    parts += [tabulate(lines, header, tablefmt="github", disable_numparse=True)] if lines else []
    digests = frame.dropna(subset="weights_sha256").drop_duplicates(list(CELL))
    parts += [
        "\n".join(
            f"- {cell_name(row)}: {row['weight_precision']}, weights {row['weights_sha256']}"
            for row in digests.to_dict("records")
        ),
        "Shares of |w|: exact counts of the weights that have these digests, no sample, hence no "
        "interval. Parameters alone: buffers are not counted, shared weights once. "
        f"Zeros are counted {plan['zeros'] if plan['zeros'] == 'apart' else 'in the first bin'}.",
    ]
    failed = frame[frame["status"] != "ok"]
    parts += [f"FAILED: {cell_name(row)}: {row['reason']}" for row in failed.to_dict("records")]
    return "\n\n".join(filter(None, parts)) + "\n"


def _write(plan: Mapping[str, Any], frame: pandas.DataFrame, complete: bool, folder: Path) -> None:
    """Write the files of the table, and the manifest that holds their digests last."""
    study = plan["study"]
    about = {"study": study, "key": plan["key"], "schema_version": CENSUS_SCHEMA_VERSION}
    about |= {"complete": complete, "prunegrid": __version__}
    text = render(plan, frame)
    writers: dict[str, Callable[[Path], object]] = {
        "parquet": lambda path: write_parquet(frame, path, about),
        "csv": lambda path: frame.to_csv(path, index=False),
        "md": lambda path: path.write_text(text, encoding="utf-8"),
    }
    for form in ("png", "svg"):
        for name, draw in census_figures.FIGURES.items():
            writers[f"{name}{form}"] = lambda path, form=form, draw=draw: census_figures.save(
                draw, plan, frame, path, form
            )
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder, study)
    digests = {}
    for suffix, write in writers.items():
        path = folder / f"{study}.{suffix}"
        place(path, write)
        digests[path.name] = file_sha256(path)
    leaves = contents(Path(cell["census"]["path"], MANIFEST) for cell in plan["cells"])
    plan = {key: value for key, value in plan.items() if key != "pins"}
    about |= {"files": digests, "leaves": leaves, "plan": plan}
    write_json(folder / f"{study}.manifest.json", sealed(about))

"""The table of a census: one row a bin of a group of weights, counted.

Groups of a cell are the whole model (`all`), the model `without embeddings`, each `block` (one more
group holds what is in none), and each `kind` of parameter. The counts of a group add up to its
parameters, those of blocks and those of kinds to the model's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas

from prunegrid.artifacts.artifact_folder import MANIFEST, contents
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.tables.census_figures import FIGURES, cell_name, save
from prunegrid.tables.files import typed_frame, write_table
from prunegrid.tables.latex import booktabs, escape
from prunegrid.tables.leaves import open_leaves, status_of
from prunegrid.tables.markdown import table
from prunegrid.tables.page import assembly
from prunegrid.tables.page.part import PageFacts
from prunegrid.tables.schema import CELL, LONG, Column, Plan

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


def tabulate_census(plan: Plan, folder: Path = Path("results")) -> bool:
    """Write a census's table files below `folder`; return whether all cells are in it."""
    frame = typed_frame([row for cell in plan["cells"] for row in cell_rows(plan, cell)], COLUMNS)
    failed = frame[frame["status"] != "ok"]
    for row in failed.to_dict("records"):
        log.warning("%s: %s", cell_name(row), row["reason"])
    figures = {
        f"{name}{form}": lambda path, form=form, draw=draw: save(draw, plan, frame, path, form)
        for form in ("png", "svg")
        for name, draw in FIGURES.items()
    }
    facts = {"version": CENSUS_SCHEMA_VERSION, "complete": failed.empty}
    facts["leaves"] = contents(Path(cell["census"]["path"], MANIFEST) for cell in plan["cells"])
    about = PageFacts(plan, frame, typed_frame([], LONG), results=folder)
    pages = {"md": render(plan, frame), "html": assembly.page(about)}
    pages["tex"] = render_latex(plan, frame)
    write_table(plan, {"": frame}, pages, figures, folder=folder, **facts)
    return failed.empty


def cell_rows(plan: Plan, cell: dict[str, Any]) -> list[dict]:
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
    plan: Plan, base: dict, artifact: str, weights: dict, tensors: pandas.DataFrame
) -> list[dict]:
    """Return the rows of a cell whose weights were counted.

    Args:
        base: the columns that say which cell.
        weights: {sha256, precision, …} as measured with the counts.
        tensors: one row a parameter, one column a bin.
    """
    about = {"status": "ok", "reason": None, "weights_sha256": weights["sha256"]}
    about |= {"artifact": artifact, "weight_precision": weights["precision"]}
    rows = []
    for group, members in _groups(plan, tensors):
        total = int(members["parameters"].sum())
        for label, low, high, columns in bins(plan):
            count = int(members[columns].to_numpy().sum())
            counted = {"bin": label, "low": low, "high": high, "count": count}
            counted |= {"parameters": total, "share": count / total}
            rows.append(base | about | group | counted)
    return rows


def bins(plan: Plan) -> list[tuple[str, float, float | None, list[str]]]:
    """Return (label, low, high, columns of the tensors' counts) of each bin that is shown."""
    first, *others = edges = plan["edges"]
    shown = [("0", 0.0, 0.0, ["bin_0"]), (f"(0, {first:g})", 0.0, first, ["bin_1"])]
    if plan["zeros"] == "within":
        shown = [(f"[0, {first:g})", 0.0, first, ["bin_0", "bin_1"])]
    for index, (low, high) in enumerate(zip(edges, [*others, None], strict=True)):
        label = f"[{low:g}, {'inf' if high is None else f'{high:g}'})"
        shown.append((label, low, high, [f"bin_{index + 2}"]))
    return shown


def _groups(plan: Plan, tensors: pandas.DataFrame) -> Iterator[tuple[dict, pandas.DataFrame]]:
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


def render(plan: Plan, frame: pandas.DataFrame) -> str:
    """Return the page: shares by bin of each cell and kind of weights, digests, failures."""
    lines = list(_shares(plan, frame, whole="**{}**"))
    digests = frame.dropna(subset="weights_sha256").drop_duplicates(list(CELL))
    parts = [f"# {plan['title'] or plan['study']}"]
    parts += [table(pandas.DataFrame(lines))] if lines else []
    parts += [
        "\n".join(
            f"- {cell_name(row)}: {row['weight_precision']}, weights {row['weights_sha256']}"
            for row in digests.to_dict("records")
        ),
        _meaning(plan),
    ]
    failed = frame[frame["status"] != "ok"]
    parts += [f"FAILED: {cell_name(row)}: {row['reason']}" for row in failed.to_dict("records")]
    return "\n\n".join(filter(None, parts)) + "\n"


def _shares(plan: Plan, frame: pandas.DataFrame, whole: str = "{}") -> Iterator[dict[str, str]]:
    """Yield {column: text} for each cell and kind of weights.

    Args:
        whole: the form of the name of a group that is no kind.
    """
    counted = frame[(frame["status"] == "ok") & (frame["group"] != "block")]
    for _, rows in counted.groupby([*CELL, "group", "kind"], sort=False, dropna=False):
        first = rows.iloc[0]
        part = first["kind"] if first["group"] == "kind" else whole.format(first["group"])
        line = {"model": cell_name(first), "weights": part}
        line["parameters"] = f"{first['parameters']:,}"
        shares = zip(bins(plan), rows["share"], strict=True)
        yield line | {f"{label} %": f"{100 * share:.4g}" for (label, *_), share in shares}


def _meaning(plan: Plan) -> str:
    """Return in words what was counted."""
    return (
        "Shares of |w|: exact counts of the weights that have these digests, no sample, hence no "
        "interval. Parameters alone: buffers are not counted, shared weights once. "
        f"Zeros are counted {plan['zeros'] if plan['zeros'] == 'apart' else 'in the first bin'}."
    )


def render_latex(plan: Plan, frame: pandas.DataFrame) -> str:
    """Return the table for a paper: shares by bin of each cell and kind of weights."""
    rows = list(_shares(plan, frame))
    heads = list(rows[0]) if rows else ["model"]
    lines = [" & ".join(map(escape, row.values())) + r" \\" for row in rows]
    columns = "".join("l" if name in ("model", "weights") else "r" for name in heads)
    digests = frame.dropna(subset="weights_sha256").drop_duplicates(list(CELL))
    notes = [escape(_meaning(plan))]
    notes += [
        escape(f"{cell_name(row)}: weights {row['weights_sha256'][:12]}.")
        for row in digests.to_dict("records")
    ]
    lost = len(frame[frame["status"] != "ok"])
    notes += [f"{lost} cells were not counted."] if lost else []
    return booktabs(plan, columns, list(map(escape, heads)), lines, notes)

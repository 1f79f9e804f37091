"""Stage `census`: the sizes of a model's weights, counted tensor by tensor from its files.

Parents: weights. Out: `tensors.parquet`, one row a parameter: name, kind, stack, block, blocks,
parameters, and bin_0 … bin_k (see `prunegrid.models.weight_census`).
"""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.models import attestation, checkpoint, weight_census

PACKAGES = ("torch", "transformers", "safetensors", "pyarrow")
BYTES_A_PARAMETER = 0


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return {weights: digest and counts, tensors: how many} after writing the counts.

    Args:
        settings: edges, ascending and above 0.
        parents: {"weights": a plain weights artifact}.

    Raises:
        AttestationError: the weights are not those of the parent's record.
        PrunegridError: the weights are packed, or have an adapter beside them; see
            `prunegrid.models.weight_census.take`.
    """
    folder = parents["weights"]
    checkpoint.require_plain(folder, job.where)
    recorded = file_io.read_json(folder / artifact_folder.MANIFEST)["record"]["weights"]
    census = weight_census.take(folder, settings["edges"])
    attestation.require_same(census.facts, recorded, str(folder))
    pyarrow.parquet.write_table(as_table(census), out / "tensors.parquet")
    return {"weights": census.facts, "tensors": len(census.tensors)}


def as_table(census: weight_census.Census) -> pyarrow.Table:
    """Return a census with a row a tensor and a column a bin."""
    rows = []
    for entry in census.tensors:
        bins = {f"bin_{index}": count for index, count in enumerate(entry["counts"])}
        rows.append({key: entry[key] for key in entry if key != "counts"} | bins)
    names = list(rows[0])
    text = {"name", "kind", "stack"}
    fields = [(n, pyarrow.string() if n in text else pyarrow.int64()) for n in names]
    return pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(fields))

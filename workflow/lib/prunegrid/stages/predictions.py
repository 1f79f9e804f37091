"""Stage `predictions`: summaries that a checkpoint writes for a split, by attested weights.

Parents: weights, data. Out: `predictions.parquet` (`predictions_file.SCHEMA`). The weights are
measured in this process after loading and compared with their manifest before the first token.
"""

from __future__ import annotations

from pathlib import Path

from prunegrid.common import precision
from prunegrid.common.errors import AttestationError
from prunegrid.data import prompts
from prunegrid.data.rows import read_rows
from prunegrid.evaluation import generation, predictions_file
from prunegrid.models import forward, open_checkpoint

DOES = "generate"
RULE = "generate"
PACKAGES = ("any weights", "pandas", "pyarrow")
COMPUTES = True
GROUP = "evaluate"
BYTES_A_PARAMETER = 8
FITS = ("causal-lm",)


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record: weights as measured in memory, counts, shares, seconds, digests."""
    cache, dtype = settings["cache_dequantized"], precision.of_job(job)
    loaded = open_checkpoint.load(
        parents["weights"],
        job.device,
        cache,
        compute_dtype=dtype,
        asked_by="predictions",
        where=job.where,
    )
    rows = read_rows(parents["data"], settings["split"], settings["rows"], job.where)
    positions = forward.max_positions(loaded.model)
    prompter = prompts.Prompter(loaded.tokenizer, settings["prompt"], positions, job.where)
    reserve = settings["max_new_tokens"]
    filled = [prompter.prompt(row["document"], reserve, row["id"]) for row in rows]
    stops, pad = prompts.stop_ids(loaded), prompts.pad_of(loaded)
    predictions, facts = generation.generate(
        loaded.model,
        prompter,
        filled,
        settings,
        stops=stops,
        pad=pad,
        device=job.device,
        seed=job.seed("generation") if settings["do_sample"] else None,
    )
    limit = settings.get("reference_tokens")
    references = [prompter.cut_tokens(row["summary"], limit) for row in rows]
    require_whole(references, rows, limit, job.where)
    counts = predictions_file.write_generated(rows, references, filled, predictions, out)
    return {
        "weights": loaded.record,
        **counts,
        "prompt_sha256": prompts.prompt_sha256([prompt.ids for prompt in filled]),
        "eos_token_ids": stops,
        "pad_token_id": pad,
        **facts,
    }


def require_whole(references: list[str], rows: list[dict], limit: int | None, where: str) -> None:
    """Check that references are the data set's, unless the settings cut them.

    Raises:
        AttestationError: one was changed.
    """
    if limit is not None:
        return
    for reference, row in zip(references, rows, strict=True):
        if reference != row["summary"]:
            raise AttestationError(
                f"the reference of {row['id']} is not the data set's",
                where=where,
                expected="whole references, where reference_tokens does not cut them",
                remedy="a score against a cut reference is another score: please report it",
            )

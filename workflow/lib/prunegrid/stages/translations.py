"""Stage `translations`: translations of a split by an encoder-decoder of attested weights, as text.

Parents: weights, data (documents, and their translations as summaries). Out: `predictions.parquet`
(`predictions_file.SCHEMA`), scored as all predictions are. The weights are measured in this process
after loading and compared with their manifest before the first token.
"""

from __future__ import annotations

from pathlib import Path

from prunegrid.common import precision
from prunegrid.common.errors import PrunegridError
from prunegrid.data import prompts
from prunegrid.data.rows import read_rows
from prunegrid.evaluation import generation, predictions_file, translation
from prunegrid.models import forward, open_checkpoint

DOES = "translate"
RULE = "translate"
PACKAGES = ("any weights", "pandas", "pyarrow", "sentencepiece")
COMPUTES = True
GROUP = "evaluate"
BYTES_A_PARAMETER = 8
FITS = ("seq2seq-lm",)


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record: weights as measured in memory, counts, shares, seconds, digests.

    Args:
        settings: split, rows, languages, prompt, and those of a generation profile.
        parents: {"weights": a weights artifact of an encoder-decoder, "data": a data artifact}.

    Raises:
        PrunegridError: the model is no encoder-decoder, or its generation profile does not fit.
    """
    _require_whole(settings, job.where)
    cache, dtype = settings["cache_dequantized"], precision.of_job(job)
    loaded = open_checkpoint.load(
        parents["weights"],
        job.device,
        cache,
        compute_dtype=dtype,
        asked_by="translations",
        where=job.where,
    )
    rows = read_rows(parents["data"], settings["split"], settings["rows"], job.where)
    positions = forward.max_positions(loaded.model, source=True)
    sources = translation.Sources(loaded.tokenizer, settings, positions, job.where)
    filled = [sources.source(row["document"]) for row in rows]
    stops, pad = prompts.stop_ids(loaded), prompts.pad_of(loaded)
    predictions, facts = generation.generate(
        loaded.model,
        sources,
        filled,
        settings,
        stops=stops,
        pad=pad,
        device=job.device,
        seed=job.seed("generation") if settings["do_sample"] else None,
    )
    references = [row["summary"] for row in rows]
    counts = predictions_file.write_generated(rows, references, filled, predictions, out)
    return {
        "weights": loaded.record,
        **counts,
        "prompt_sha256": prompts.prompt_sha256([sources.forced, [row.ids for row in filled]]),
        "eos_token_ids": stops,
        "pad_token_id": pad,
        **facts,
    }


def _require_whole(settings: dict, where: str) -> None:
    """Check that a generation profile cuts neither references nor translations."""
    for key in ("stop", "reference_tokens"):
        if settings[key]:
            raise PrunegridError(
                f"generation.{key} is {settings[key]!r}",
                where=where,
                expected="whole references, and translations that end by themselves",
                remedy=f"name a generation profile without {key}",
            )

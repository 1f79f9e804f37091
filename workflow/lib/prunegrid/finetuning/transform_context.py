"""The context of a strategy that does not train: its parent, its masks, its record."""

from __future__ import annotations

from pathlib import Path

from prunegrid.models import checkpoint
from prunegrid.models.prunable import Extent
from prunegrid.models.zero_masks import keep_masks


class Context:
    """The inputs of a strategy, and the place of its results.

    Attributes:
        parents: {role: folder}.
        folder: the parent's, a plain one.
        checkpoint: the attested parent, on the device.
        masks: bool [d_out, d_in] by linear, True = kept; {} for a dense parent.
        destination: tokenizer, out, pattern and extent, for the functions that write a checkpoint.
        facts: for the record.
        story: facts by linear, for `transform.json`.
        parts: facts by part of a block, for `transform.json`; {} where there are none.
    """

    def __init__(self, settings: dict, parents: dict[str, Path], out: Path, job) -> None:
        self.settings, self.parents, self.out, self.job = settings, parents, out, job
        self.device, self.where = job.device, job.where
        self.folder = Path(parents["weights"])
        checkpoint.require_plain(self.folder, self.where)
        self.checkpoint = checkpoint.load(self.folder, self.device)
        record, tokenizer = self.checkpoint.record, self.checkpoint.tokenizer
        pattern, extent = record["pattern"], Extent.of(record)
        self.masks = keep_masks(self.checkpoint.model, pattern, extent)
        self.destination = {
            "tokenizer": tokenizer,
            "out": out,
            "pattern": pattern,
            "extent": extent,
        }
        self.facts: dict = {}
        self.story: dict = {}
        self.parts: dict = {}

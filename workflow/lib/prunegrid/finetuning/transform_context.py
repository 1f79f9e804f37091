"""What a strategy that does not train works with: its parent, masks, and what it records."""

from __future__ import annotations

from pathlib import Path

from prunegrid.models import checkpoint
from prunegrid.models.prunable import Extent
from prunegrid.models.zero_masks import keep_masks


class Context:
    """What a strategy works with: the attested parent, its masks, the other parents.

    Attributes:
        checkpoint: the parent, on the device.
        masks: what the strategy is to keep, True = kept; {} for a dense parent.
        extent: what counts as prunable.
        parents: {role: folder}.
        out: the folder to write into.
        facts: what is to be recorded.
        story: by linear, for `transform.json`.
        job: gives the device and how memory is used.
    """

    def __init__(self, settings: dict, parents: dict[str, Path], out: Path, job) -> None:
        self.settings, self.parents, self.out, self.job = settings, parents, out, job
        self.device, self.where = job.device, job.where
        self.folder = Path(parents["weights"])
        checkpoint.require_plain(self.folder, self.where)
        self.checkpoint = checkpoint.load(self.folder, self.device)
        self.extent = Extent.of(self.checkpoint.record)
        pattern = self.checkpoint.record["pattern"]
        self.masks = keep_masks(self.checkpoint.model, pattern, self.extent)
        self.facts: dict = {}
        self.story: dict = {}

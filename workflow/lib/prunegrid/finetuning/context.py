"""What a strategy that trains works with: its parent, masks, examples and store."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from prunegrid.common import file_io, held_weights, timing_guard
from prunegrid.common.errors import PrunegridError
from prunegrid.data import prompts
from prunegrid.finetuning.training import (
    checkpoints,
    dataset,
    learning_rates,
    run_facts,
    token_batches,
)
from prunegrid.models import blocks, checkpoint, forward
from prunegrid.models.prunable import Extent
from prunegrid.models.zero_masks import keep_masks, promised


class Context:
    """What a strategy works with: the attested parent, its masks, the examples, the loop.

    Attributes:
        masks: what the strategy is to keep, True = kept; {} where zeros may fill.
        pruned: the parent's masks, kept or not.
        extent: what counts as prunable.
        holds: whether what adapted linears multiply by is held in memory while they are trained.
    """

    def __init__(self, settings: dict, parents: dict[str, Path], out: Path, job) -> None:
        self.settings, self.out, self.where = settings, out, job.where
        self.device: str = job.device
        self.seed: int = job.seed("finetune")
        self.holds: bool = held_weights.holds(job.memory, job.device, settings["processes"])
        self.folder = Path(parents["weights"])
        checkpoint.require_plain(self.folder, self.where)
        self.checkpoint = checkpoint.load(self.folder, self.device)
        model = self.checkpoint.model
        self.names = list(blocks.prunable(model))
        self.extent = Extent.of(self.checkpoint.record)
        self.pruned = keep_masks(model, self.checkpoint.record["pattern"], self.extent)
        self.masks = self.pruned if promised(settings) != "none" else {}
        self.pad = prompts.pad_of(self.checkpoint)
        self.facts: dict = {}
        self.examples: list[token_batches.Example] = []
        self.dev: list[token_batches.Example] = []
        self._read_examples(Path(parents["data"]), forward.max_positions(model))
        self.store = self._store(job)

    def _read_examples(self, data: Path, positions: int | None) -> None:
        """Read what is learned and, where the settings name a split, what is held out."""
        settings, tokenizer = self.settings, self.checkpoint.tokenizer
        reader = dataset.Reader(data, settings, tokenizer, positions, self.where)
        self.examples, shares = reader.read(settings["split"], settings["rows"])
        self.facts |= shares | reader.facts()
        self.facts |= {"rows": len(self.examples), "pad_token_id": self.pad}
        self.facts["compute_dtype"] = settings["autocast"]
        if settings["dev_split"] is None:
            return
        self.dev, _ = reader.read(settings["dev_split"], settings["dev_rows"])
        learned = dataset.count_learned(self.dev, self.examples, self.where)
        self.facts |= {"dev_rows": len(self.dev), "dev_rows_learned": learned}

    def _store(self, job) -> checkpoints.Store | None:
        """Return where training keeps its state for a job that is run again.

        The scratch folder is that of the artifact's key; the identity guards against a copied one.
        """
        every_s = job.training["checkpoint_every_s"]
        if every_s is None:
            return None
        rows = [[(r.prompt, r.response) for r in group] for group in (self.examples, self.dev)]
        parts = [self.settings, self.seed, self.checkpoint.record["sha256"], rows]
        identity = hashlib.sha256(file_io.canonical_json(parts).encode()).hexdigest()
        return checkpoints.Store(Path(job.scratch) / "training", every_s, identity)

    def targets(self) -> list[str]:
        """Return the names of the linears that get an adapter.

        Raises:
            PrunegridError: a suffix of the settings names none.
        """
        wanted = self.settings["targets"]
        if wanted == "all-linear":
            return self.names
        ends = {name.rpartition(".")[2] for name in self.names}
        unknown = [suffix for suffix in wanted if suffix not in ends]
        if unknown:
            raise PrunegridError(
                f"finetune.targets names {unknown}, which no linear of the blocks ends in",
                where=self.where,
                expected=f"all-linear, or some of {sorted(ends)}",
            )
        return [name for name in self.names if name.rpartition(".")[2] in wanted]

    @contextlib.contextmanager
    def seeded(self) -> Iterator[None]:
        """Draw adapters from this step's seed, leaving the global generator as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            yield

    def train(
        self,
        model: nn.Module,
        masks: dict[str, Tensor] | None = None,
    ) -> run_facts.TrainFacts:
        """Return the facts of training a model on this step's examples (`learning_rates.train`).

        Args:
            masks: bool [d_out, d_in] by linear, True = kept; what is to be zero after each step.
        """
        with timing_guard.running("training"):
            return learning_rates.train(
                model,
                self.examples,
                self.settings,
                pad=self.pad,
                seed=self.seed,
                device=self.device,
                where=self.where,
                dev=self.dev,
                masks=masks or {},
                store=self.store,
            )

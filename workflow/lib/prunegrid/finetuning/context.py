"""The context of a strategy that trains: its parent, masks, examples and store."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import Tensor, nn

from prunegrid.common import file_io, held_weights, timing_guard
from prunegrid.common.errors import PrunegridError
from prunegrid.data import prompts
from prunegrid.finetuning import transform_context
from prunegrid.finetuning.training import checkpoints, dataset, learning_rates
from prunegrid.finetuning.training.run_facts import TrainFacts
from prunegrid.finetuning.training.token_batches import Example
from prunegrid.models import blocks, forward
from prunegrid.models.zero_masks import promised


class Context(transform_context.Context):
    """The inputs of a strategy that trains.

    Attributes:
        pruned: the parent's masks.
        masks: `pruned` if the settings promise to keep zeros, else {}.
        names: of the linears of the blocks.
        holds: keep the weights that adapted linears compute in memory during training.
        examples, dev: the rows to learn, and the held-out rows.
    """

    def __init__(self, settings: dict, parents: dict[str, Path], out: Path, job) -> None:
        super().__init__(settings, parents, out, job)
        self.seed: int = job.seed("finetune")
        self.holds = held_weights.holds(job.memory, job.device, settings["processes"])
        model = self.checkpoint.model
        self.names = list(blocks.prunable(model))
        self.pruned = self.masks
        if promised(settings) == "none":
            self.masks = {}
        self.pad = prompts.pad_of(self.checkpoint)
        self.dev: list[Example] = []
        self._read_examples(Path(parents["data"]), forward.max_positions(model))
        self.store = self._store(job)

    def _read_examples(self, data: Path, positions: int | None) -> None:
        settings, tokenizer = self.settings, self.checkpoint.tokenizer
        reader = dataset.Reader(data, settings, tokenizer, positions, self.where)
        self.examples, facts = reader.read(settings["split"], settings["rows"])
        self.facts |= facts | {"rows": len(self.examples), "pad_token_id": self.pad}
        self.facts["compute_dtype"] = settings["autocast"]
        if settings["dev_split"] is None:
            return
        self.dev, _ = reader.read(settings["dev_split"], settings["dev_rows"])
        learned = dataset.count_learned(self.dev, self.examples, self.where)
        self.facts |= {"dev_rows": len(self.dev), "dev_rows_learned": learned}

    def _store(self, job) -> checkpoints.Store | None:
        """Return the store of training states; its identity guards against a copied scratch."""
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

    def train(self, model: nn.Module, masks: dict[str, Tensor] | None = None) -> TrainFacts:
        """Train a model on this step's examples; return the facts (see `learning_rates.train`)."""
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

"""The context of a strategy that trains: its parent, masks, examples and store."""

from __future__ import annotations

import hashlib
import logging
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from prunegrid.common import file_io, held_weights, timing_guard
from prunegrid.common.errors import PrunegridError, explained
from prunegrid.data import prompts
from prunegrid.finetuning import transform_context
from prunegrid.finetuning.training import (
    checkpoints,
    dataset,
    learning_rates,
    loss,
    objectives,
)
from prunegrid.finetuning.training.objectives import Masking
from prunegrid.finetuning.training.run_facts import TrainFacts
from prunegrid.finetuning.training.token_batches import Example, collate
from prunegrid.models import blocks, forward, linear_use, loading
from prunegrid.models.causality import require_causal
from prunegrid.models.experts import ExpertLinear
from prunegrid.models.label_head import Head, require_first_alone
from prunegrid.models.zero_masks import promised

log = logging.getLogger(__name__)


class Context(transform_context.Context):
    """The inputs of a strategy that trains.

    Attributes:
        pruned: the parent's masks.
        masks: `pruned` if the settings promise to keep zeros, else {}.
        holds: keep the weights that adapted linears compute in memory during training.
        examples, dev: the rows to learn, and the held-out rows.
        task: of the model (see `prunegrid.common.model_family`).
        masking: hides tokens from a masked language model; None of others.
        head: tells the labels of an encoder's rows (`loss_on: label`), and is dropped in the end;
            None where no labels are learned.
    """

    def __init__(self, settings: dict, parents: dict[str, Path], out: Path, job) -> None:
        super().__init__(settings, parents, out, job)
        self.task = loading.kind_of(self.checkpoint.model.config).task
        if self.task == "causal-lm":
            require_causal(self.checkpoint.model, self.where)
        self.seed: int = job.seed("finetune")
        self.holds = held_weights.holds(job.memory, job.device, settings["processes"])
        model = self.checkpoint.model
        self.pruned = self.masks
        if promised(settings) == "none":
            self.masks = {}
        self.pad = prompts.pad_of(self.checkpoint)
        self.eos: int | None = self.checkpoint.tokenizer.eos_token_id
        self.dev: list[Example] = []
        self._read_examples(Path(parents["data"]), forward.max_positions(model))
        self.masking = self.head = None
        if settings["loss_on"] == "label":
            self._set_head(job)
        elif self.task == "masked-lm":
            self._set_masking(job)
        elif self.task == "seq2seq-lm":
            # The encoder reads the prompt and its end.
            for name in ("examples", "dev"):
                rows = [replace(r, prompt=[*r.prompt, self.eos]) for r in getattr(self, name)]
                setattr(self, name, rows)
        self.store = self._store(job)

    def _read_examples(self, data: Path, positions: int | None) -> None:
        settings, tokenizer = self.settings, self.checkpoint.tokenizer
        reader = dataset.Reader(data, settings, tokenizer, positions, self.task, self.where)
        self.examples, facts = reader.read(settings["split"], settings["rows"])
        self.facts |= facts | {"rows": len(self.examples), "pad_token_id": self.pad}
        self.facts["compute_dtype"] = settings["autocast"]
        if reader.labels:
            self.facts["labels"] = reader.labels
        if settings["dev_split"] is None:
            return
        self.dev, _ = reader.read(settings["dev_split"], settings["dev_rows"])
        learned = dataset.count_learned(self.dev, self.examples, self.where)
        self.facts |= {"dev_rows": len(self.dev), "dev_rows_learned": learned}

    def _set_masking(self, job) -> None:
        """Set the masking, and hide tokens of the held-out rows once for all evaluations."""
        vocabulary = forward.embedding_rows(self.checkpoint.model)
        tokenizer, loss_on = self.checkpoint.tokenizer, self.settings["loss_on"]
        seed = job.seed("masking")
        self.masking = Masking.of(tokenizer, vocabulary, loss_on, seed, self.where)
        for rows in (self.examples, self.dev):
            self.masking.require_tokens(rows, self.where)
        self.dev = self.masking.hide(self.dev, "development rows")

    def _set_head(self, job) -> None:
        """Set the head of the labels that are learned.

        Raises:
            PrunegridError: transformers has none for the model, or it reads more than one token.
        """
        model = self.checkpoint.model
        self.head = Head(model, len(self.facts["labels"]), job.seed("head"))
        row = torch.tensor(self.examples[0].prompt, device=self.device)
        with torch.no_grad():
            states = objectives.states_of(model, model.forward, [row], self.pad)
            require_first_alone(self.head, states)

    def first_rows(self, count: int) -> list[Example]:
        """Return the first rows to learn, with the same tokens hidden in each call."""
        rows = self.examples[:count]
        return rows if self.masking is None else self.masking.hide(rows, "first rows")

    def as_one_sequence(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return the context in which a model of any task is run on this step's rows."""
        base = forward.inner(model)
        return objectives.as_one_sequence(base, self.task, self.eos, self.pad, self.head)

    def _require_runs(self, model: nn.Module) -> None:
        """Check that a model can be trained on rows like the first: some want a length of theirs.

        Raises:
            PrunegridError: its forward pass in training ends in an error.
        """
        fails = PrunegridError(
            f"{type(forward.inner(model)).__name__} cannot be trained on these rows",
            where=self.where,
            expected="a model that takes rows of any length",
            remedy="use another model",
        )
        inputs, labels = collate(self.first_rows(1), self.pad, "response", self.device)
        devices = [self.device] if self.device.startswith("cuda") else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices), explained(fails):
            loss.summed_loss(model.train(), inputs, labels)
        model.eval()

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

        Of `all-linear`, those that no adapter can stand in for are left out and recorded; fused
        experts are no linears that could have one.

        Raises:
            PrunegridError: a suffix of the settings names none, or one that can have no adapter; or
                no linear can.
        """
        model, wanted = self.checkpoint.model, self.settings["targets"]
        every = blocks.prunable(model)
        linears = {n: m for n, m in every.items() if not isinstance(m, ExpertLinear)}
        barred = linear_use.irreplaceable(model, linears, training=True)
        if wanted == "all-linear":
            names = [name for name in linears if name not in barred]
            if barred:
                self.facts["targets_left_out"] = barred
                log.info("%s: no adapter on %s", self.where, linear_use.listing(barred))
            if names:
                return names
            wanted = sorted({name.rpartition(".")[2] for name in linears})
        ends = {name.rpartition(".")[2] for name in linears}
        unknown = [suffix for suffix in wanted if suffix not in ends]
        if unknown:
            raise PrunegridError(
                f"finetune.targets names {unknown}, which no linear of the blocks ends in",
                where=self.where,
                expected=f"all-linear, or some of {sorted(ends)}",
            )
        names = [name for name in linears if name.rpartition(".")[2] in wanted]
        useless = {name: barred[name] for name in names if name in barred}
        if useless:
            raise PrunegridError(
                f"no adapter can stand in for {linear_use.listing(useless)}",
                where=self.where,
                expected=f"some of {sorted(ends - {n.rpartition('.')[2] for n in barred})}",
                remedy="name those in finetune.targets, or use another strategy",
            )
        return names

    def train(self, model: nn.Module, masks: dict[str, Tensor] | None = None) -> TrainFacts:
        """Train a model on this step's examples; return the facts (see `learning_rates.train`)."""
        base = forward.inner(model)
        with (
            timing_guard.running("training"),
            self.as_one_sequence(model),
            objectives.having(base, self.head),
        ):
            self._require_runs(model)
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
                masking=self.masking,
                store=self.store,
            )

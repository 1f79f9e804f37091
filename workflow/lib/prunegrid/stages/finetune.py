"""Stage `finetune`: trains a checkpoint on the summaries of a data set, keeping its zeros.

Parents: weights (a plain folder), data. Out: a plain folder or one in parts (packed weights, an
adapter beside its base), and `finetune.json`: losses, learning rates and development losses by
step, the learning rates that were tried, tokens, shares cut, settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from prunegrid import artifacts, blocks, checkpoint, clock, forward, prompts, training
from prunegrid.errors import PrunegridError
from prunegrid.extent import Extent
from prunegrid.kept import keep_masks, promised, require_kept
from prunegrid.rows import read_rows

log = logging.getLogger(__name__)


class Context:
    """What a strategy works with: the attested parent, its masks, the examples, the loop.

    Attributes:
        masks: what the strategy is to keep, True = kept; {} where sparsity is free.
        pruned: the parent's masks, kept or not.
        extent: what counts as prunable.
    """

    def __init__(self, settings: dict, parents: dict[str, Path], out: Path, job) -> None:
        self.settings, self.out, self.where = settings, out, job.where
        self.device: str = job.device
        self.seed: int = job.seed("finetune")
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
        self.examples: list[training.Example] = []
        self.dev: list[training.Example] = []
        self._read_examples(Path(parents["data"]), forward.max_positions(model))
        self.store = self._store(job)

    def _read_examples(self, data: Path, positions: int | None) -> None:
        """Read the rows to learn from and, where the settings name a split, those held out."""
        settings = self.settings
        prompter = prompts.Prompter(
            self.checkpoint.tokenizer, settings["prompt"], positions, self.where
        )
        rows = read_rows(data, settings["split"], settings["rows"], self.where)
        self.examples, shares = self._tokenized(rows, prompter)
        self.facts |= shares | {
            "rows": len(rows),
            "prompt_sha256": prompts.prompt_sha256(settings["prompt"]),
            "pad_token_id": self.pad,
        }
        if settings["dev_split"] is None:
            return
        rows = read_rows(data, settings["dev_split"], settings["dev_rows"], self.where)
        self.dev, _ = self._tokenized(rows, prompter)
        learned = {tuple(row.prompt) for row in self.examples}
        known = sum(tuple(row.prompt) in learned for row in self.dev)
        if known:
            log.warning(
                "%s: %d of %d development rows are learned too", self.where, known, len(rows)
            )
        self.facts |= {"dev_rows": len(rows), "dev_rows_learned": known}

    def _tokenized(
        self, rows: list[dict], prompter: prompts.Prompter
    ) -> tuple[list[training.Example], dict]:
        """Return rows as examples, and the shares of them that were cut."""
        examples, words, context, summaries = [], 0, 0, 0
        for row in rows:
            limit = self.settings.get("max_summary_tokens")
            response, cut = prompter.response(row["summary"], limit)
            prompt = prompter.prompt(row["document"], len(response), row["id"])
            examples.append(training.Example(prompt.ids, response))
            words, context = words + prompt.cut_words, context + prompt.cut_context
            summaries += cut
        return examples, {
            "share_cut_words": words / len(rows),
            "share_cut_context": context / len(rows),
            "share_cut_summaries": summaries / len(rows),
        }

    def _store(self, job) -> training.Store | None:
        """Return where training keeps its state for a job that is run again.

        The scratch folder is that of the artifact's key; the identity guards against a copied one.
        """
        every_s = job.training["checkpoint_every_s"]
        if every_s is None:
            return None
        rows = [[(r.prompt, r.response) for r in group] for group in (self.examples, self.dev)]
        parts = [self.settings, self.seed, self.checkpoint.record["sha256"], rows]
        identity = hashlib.sha256(artifacts.canonical_json(parts).encode()).hexdigest()
        return training.Store(Path(job.scratch) / "training", every_s, identity)

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
        after_step: Callable[[], None] | None = None,
        before_clip: Callable[[], None] | None = None,
    ) -> training.TrainFacts:
        """Return the facts of training `model` on this step's examples (see `training.train`)."""
        with clock.running("training"):
            return training.train(
                model,
                self.examples,
                self.settings,
                pad=self.pad,
                seed=self.seed,
                device=self.device,
                where=self.where,
                dev=self.dev,
                after_step=after_step,
                before_clip=before_clip,
                store=self.store,
            )


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {"weights": WEIGHTS RECORD, "train": facts} of the weights written."""
    context = Context(settings, parents, out, job)
    strategy = importlib.import_module(f"prunegrid.finetuning.{settings['strategy']}")
    facts, saved = strategy.tune(context, settings)
    record = saved.record
    context.facts |= require_kept(context.pruned, saved, settings, job.where)
    story = context.facts | facts.curves() | {"tries": facts.tries, "settings": settings}
    artifacts.write_json(out / "finetune.json", story)
    log.info("%s: loss %.4f → %.4f", job.where, facts.losses[0], facts.losses[-1])
    return {"weights": record, "train": _summary(story, facts)}


def _summary(story: dict, facts: training.TrainFacts) -> dict:
    """Return what the manifest tells of training: the story without its curves, and the times."""
    skipped = ("losses", "rates", "dev_losses", "tries", "settings")
    return {name: value for name, value in story.items() if name not in skipped} | {
        "first_loss": facts.losses[0],
        "last_loss": facts.losses[-1],
        "first_dev_loss": facts.dev_losses[0][1] if facts.dev_losses else None,
        "runs": len(facts.tries) or 1,
        "train_seconds": facts.seconds,
        "dev_seconds": facts.dev_seconds,
        "tokens_per_second": facts.tokens / facts.seconds if facts.seconds else None,
        "peak_memory_bytes": facts.peak_memory_bytes,
        "resumed_at": facts.resumed_at,
    }

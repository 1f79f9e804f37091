"""Stage `finetune`: trains a checkpoint on the summaries of a data set, keeping its zeros.

Parents: weights (a plain folder), data. Out: a plain folder or one in parts (packed weights, an
adapter beside its base), and `finetune.json`: losses, tokens, steps, shares cut, settings.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from prunegrid import artifacts, blocks, checkpoint, prompts, training
from prunegrid.errors import PrunegridError
from prunegrid.kept import keep_masks, promised, require_kept
from prunegrid.rows import read_rows

log = logging.getLogger(__name__)


class Context:
    """What a strategy works with: the attested parent, its masks, the examples, the loop.

    Attributes:
        masks: what the strategy is to keep, True = kept; {} where sparsity is free.
        pruned: the parent's masks, kept or not.
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
        self.pruned = keep_masks(model, self.checkpoint.record["pattern"])
        self.masks = self.pruned if promised(settings) != "none" else {}
        self.pad = prompts.pad_of(self.checkpoint)
        self.facts: dict = {}
        self.examples = self._examples(Path(parents["data"]), prompts.max_positions(model))

    def _examples(self, data: Path, positions: int | None) -> list[training.Example]:
        settings = self.settings
        prompter = prompts.Prompter(
            self.checkpoint.tokenizer, settings["prompt"], positions, self.where
        )
        rows = read_rows(data, settings["split"], settings["rows"], self.where)
        examples, words, context, summaries = [], 0, 0, 0
        for row in rows:
            response, cut = prompter.response(row["summary"], settings.get("max_summary_tokens"))
            prompt = prompter.prompt(row["document"], len(response), row["id"])
            examples.append(training.Example(prompt.ids, response))
            words, context = words + prompt.cut_words, context + prompt.cut_context
            summaries += cut
        self.facts |= {
            "rows": len(rows),
            "share_cut_words": words / len(rows),
            "share_cut_context": context / len(rows),
            "share_cut_summaries": summaries / len(rows),
            "prompt_sha256": prompts.prompt_sha256(settings["prompt"]),
            "pad_token_id": self.pad,
        }
        return examples

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
        return training.train(
            model,
            self.examples,
            self.settings,
            pad=self.pad,
            seed=self.seed,
            device=self.device,
            where=self.where,
            after_step=after_step,
            before_clip=before_clip,
        )


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {"weights": WEIGHTS RECORD, "train": facts} of the weights written."""
    context = Context(settings, parents, out, job)
    strategy = importlib.import_module(f"prunegrid.finetuning.{settings['strategy']}")
    facts, saved = strategy.tune(context, settings)
    record = saved.record
    context.facts |= require_kept(context.pruned, saved, settings, job.where)
    story = context.facts | {
        "steps": len(facts.losses),
        "tokens": facts.tokens,
        "scored_tokens": facts.scored_tokens,
        "losses": facts.losses,
        "settings": settings,
    }
    artifacts.write_json(out / "finetune.json", story)
    log.info("%s: loss %.4f → %.4f", job.where, facts.losses[0], facts.losses[-1])
    timing = {
        "train_seconds": facts.seconds,
        "tokens_per_second": facts.tokens / facts.seconds if facts.seconds else None,
        "peak_memory_bytes": facts.peak_memory_bytes,
    }
    skipped = ("losses", "settings")
    train = {name: value for name, value in story.items() if name not in skipped}
    train |= {"first_loss": facts.losses[0], "last_loss": facts.losses[-1], **timing}
    return {"weights": record, "train": train}

"""Runs of benchmarks: the harness' own evaluation of a model that is in memory already."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lm_eval.api.task
import lm_eval.utils
from jinja2 import BaseLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment
from lm_eval.api.registry import get_metric, metric_registry
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tqdm.auto import tqdm

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.evaluation.harness import shared_contexts
from prunegrid.evaluation.harness.task_definitions import Benchmark
from prunegrid.evaluation.harness.task_scores import (
    RESAMPLES,
    SEED,
    metric_name,
    require_metrics,
)
from prunegrid.models import caches
from prunegrid.models.padding import sees_padding

log = logging.getLogger(__name__)

# What the harness raises where a definition does not fit: a generation without room, too.
_FAULTS = (LookupError, TypeError, ValueError, AttributeError, TemplateError, AssertionError)
# The name of a column, and not a template.
_COLUMN = re.compile(r"[A-Za-z_]\w*$")


class Model(HFLM):
    """The harness' model over one in memory.

    The harness cuts a prompt beyond the model's positions at its beginning, and only warns.

    Attributes:
        requests: pairs of a context and a continuation that were scored.
        cut: how many contexts were cut, of those and of texts that were generated.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int) -> None:
        super().__init__(
            pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size
        )
        self.requests = self.cut = 0

    def loglikelihood(self, requests: list, disable_tqdm: bool = False) -> list:
        """Score pairs, with a progress bar on a terminal only."""
        return super().loglikelihood(requests, disable_tqdm=not sys.stderr.isatty())

    def generate_until(self, requests: list, disable_tqdm: bool = False) -> list:
        """Generate texts, with a progress bar on a terminal only; one by one if pads are seen."""
        if sees_padding(self.model, self.tokenizer.pad_token_id, "left", writing=True):
            self.batch_size_per_gpu = 1
        return super().generate_until(requests, disable_tqdm=not sys.stderr.isatty())

    def tok_batch_encode(
        self, strings: list[str], padding_side: str = "left", left_truncate_len: Any = None, **named
    ) -> Any:
        """Encode the prompts of a batch of texts, of which the last tokens are kept."""
        if left_truncate_len:
            _, mask = super().tok_batch_encode(strings, padding_side, **named)
            self.cut += int((mask.sum(1) > left_truncate_len).sum())
        return super().tok_batch_encode(strings, padding_side, left_truncate_len, **named)

    def pair(self, prompt: str, text: str) -> tuple[list[int], list[int]]:
        """Return the tokens of a prompt, and those of a text behind it, as pairs are scored."""
        return self._encode_pair(prompt, text)

    def _loglikelihood_tokens(self, requests: list, **named: Any) -> list:
        self.requests += len(requests)
        self.cut += sum(
            len(context) + len(ids) > self.max_length + 1 for _, context, ids in requests
        )
        shared = self._shared(requests, named)
        rest = [request for place, request in enumerate(requests) if place not in shared]
        others = iter(super()._loglikelihood_tokens(rest, **named) if rest else ())
        return [shared.get(place) or next(others) for place in range(len(requests))]

    def _shared(self, requests: list, named: dict[str, Any]) -> dict[int, shared_contexts.Answer]:
        """Return {place: answer} of requests whose context is read once for all its options."""
        found: dict[int, shared_contexts.Answer] = {}
        batches = list(shared_contexts.batches(requests, self.max_length, self.batch_size_per_gpu))
        quiet = named.get("disable_tqdm", False)
        for batch in tqdm(batches, disable=quiet, desc="Running contexts"):
            items = [[requests[place] for place in item] for item in batch]
            if not found and not caches.are_right(self.model, 2):
                return {}  # some cannot go on from what they keep
            answers = shared_contexts.answers(self.model, items)
            if not found:
                own = super()._loglikelihood_tokens(items[0], **(named | {"disable_tqdm": True}))
                if answers is None or not shared_contexts.agree(self.model, answers[0], own):
                    log.info("contexts are read once for each option: the cache cannot be shared")
                    return {}
            for item, scored in zip(batch, answers or (), strict=True):
                found |= zip(item, scored, strict=True)
        return found


def run(
    model: Any, tokenizer: Any, benchmark: Benchmark, batch_size: int
) -> tuple[dict[str, Any], Model, dict[str, Any]]:
    """Return (the harness' results with all samples, the model that answered, aggregations).

    Aggregations make one score of all items: {metric: function}; {} of a group of tasks.

    Args:
        model: a causal language model in eval mode, on its device.
        batch_size: fixed: it changes bytes.

    Raises:
        PrunegridError: the definition does not fit the data.
    """
    with _plain_errors(benchmark):
        tasks = _load(benchmark)
        answering = Model(model, tokenizer, batch_size)
        results = evaluate(
            lm=answering,
            task_dict=tasks,
            limit=benchmark.settings["rows"],
            bootstrap_iters=RESAMPLES,
            log_samples=True,
        )
    own = tasks["tasks"].get(benchmark.settings["task"])
    return results, answering, {} if own is None else own.aggregation()


def rehearse(benchmark: Benchmark) -> None:
    """Check, without a model, that a definition fits its data: the first row of each task.

    The metrics of a group are known only once it has run.

    Raises:
        PrunegridError: it does not, or the task has no such metric.
    """
    name = benchmark.settings["task"]
    with _plain_errors(benchmark):
        tasks = _load(benchmark)["tasks"]
        for task in tasks.values():
            task.build_all_requests(limit=1)
    if name in tasks:
        config = tasks[name].config
        filters = [each["name"] for each in config.filter_list or [{"name": "none"}]]
        known = [metric_name(m, f) for m in tasks[name].aggregation() for f in filters]
        require_metrics(benchmark.settings["metrics"], known, name, benchmark.where)


@contextmanager
def _plain_errors(benchmark: Benchmark) -> Iterator[None]:
    """Turn errors of the harness into a sentence."""
    try:
        yield
    except _FAULTS as error:
        name = benchmark.settings["task"]
        raise PrunegridError(
            f"the harness cannot make '{name}' of these rows ({type(error).__name__}: {error})",
            where=benchmark.where,
            expected="the columns of the task's own data set",
            remedy="compare the data set's columns with the task's definition",
        ) from error


def _load(benchmark: Benchmark) -> dict[str, Any]:
    """Return the harness' tasks of a definition and its rows."""
    # It would start a pool of processes for standard errors, and warns of our own overlays.
    os.environ["DISABLE_MULTIPROC"] = "1"
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    confine()
    _forget_modules()
    folders = [str(folder) for folder in benchmark.definitions]
    manager = TaskManager(include_path=folders, include_defaults=False)
    loaded = manager.load([benchmark.settings["task"]])
    for task in loaded["tasks"].values():
        _require_columns(task, benchmark.where)
        task.set_fewshot_seed(seed=SEED)
    return loaded


def _forget_modules() -> None:
    """Make the harness read the code of its tasks anew.

    Some tasks' modules draw from a generator of their own when rows are read: kept, a task would
    have other choices after another one in the same process.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("lm_eval.tasks.") and hasattr(module, "__mtime__"):
            del sys.modules[name]


def confine() -> None:
    """Keep the harness from running code that a definition names.

    It renders templates in Jinja's plain environment, where a template reaches any module, and
    takes a metric that it does not know for a script to load, from a path or the hub.
    """
    if not isinstance(lm_eval.utils.env, SandboxedEnvironment):
        language = SandboxedEnvironment(
            loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True
        )
        language.filters |= lm_eval.utils.env.filters
        lm_eval.utils.env = language
    lm_eval.api.task.get_metric = _own_metric


def _own_metric(name: str, fetched: bool = False) -> Any:
    """Return the harness' function of a metric that is its own; LookupError for any other."""
    if fetched or name not in metric_registry:
        raise LookupError(f"the metric {name!r} is code from elsewhere")
    return get_metric(name)


def _require_columns(task: Any, where: str) -> None:
    """Check that the columns that a definition names by themselves are there.

    The harness takes the name of a missing one for the text itself.
    """
    for key in ("doc_to_text", "doc_to_target", "doc_to_choice"):
        named = getattr(task.config, key)
        if isinstance(named, str) and _COLUMN.match(named) and named not in task.features:
            raise PrunegridError(
                f"there is no column {named!r}, which is {key} of '{task.config.task}'",
                where=where,
                remedy=nearest(named, task.features),
            )

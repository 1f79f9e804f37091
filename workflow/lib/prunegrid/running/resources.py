"""The memory and time that a step asks for, estimated from the model's size before it runs.

Memory is a fixed part (Python, torch, transformers) and bytes a parameter: weights as loaded (4
bytes in float32), a copy while they are written or hashed, gradients, two moments in full
fine-tuning (12 more), activations of a training batch. Factors are measured on SmolLM2-135M in
float32 with short documents, rounded up; long documents and large batches need more, so each retry
asks for half as much again. A fine-tuning strategy declares its own: MEMORY, COPY (each copy of the
trained weights that early stopping and learning rates keep) and HELD (adapters with
`memory.adapted`). Time is that of `prunegrid.running.costs` with a margin, and twice and three
times it on a retry. `prunegrid estimates` compares both with finished runs.
"""

from __future__ import annotations

import contextlib
import errno
import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prunegrid.artifacts.artifact_folder import read_sealed
from prunegrid.common import held_weights, local_files, plugins
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.graph.nodes import WEIGHTS, WEIGHTS_MADE, Node, lineage
from prunegrid.graph.stage_facts import stage_facts, stages
from prunegrid.running import costs, model_size
from prunegrid.running.costs import Step

FIXED_MB = 600
FIXED_TIMED_MB = 800  # two processes import at once
# Parameters that a model of unknown size is taken to have.
UNKNOWN = 10**9
HUB_DATA = 700
SCORING_MB = 200  # imports of metrics by a model
SMALLEST_MB = min(mb for mb in (stage_facts(s).memory_mb for s in stages()) if mb is not None)
# A timed model shares its process with the untouched model, whose parameters count too, and with
# that model in the same format. Dequantized weights may be kept, and plain ones are written for
# sizes on disk. A packed model is a third one, of float32 values without a zero at most.
TIMED = {None: 5.0, "float32": 5.0, "int8_values": 5.0, "bfloat16": 5.5, "nf4": 6.2, "int8": 6.2}
TIMED_CACHE, TIMED_SIZES, TIMED_PACKED = 2.8, 4.0, 4.2
# Of logits over all tokens of whole passes: as computed, and in float32.
LOGITS = 2 * 4 * 49_152
# Blocks that a stage takes by block (`memory.model`): one, its Hessians and their factors (2.7 to
# 5.6 blocks in all), and the weights outside of blocks (1 to 5, small models more).
BLOCKS = 12
# Transformers are about 128 times as wide as they have layers, and a block has about 12 weights a
# squared width (Kaplan et al. 2020, equation 2.1): 32 layers at 7e9, 71 at 7e10.
ASPECT, BLOCK_WEIGHTS = 128, 12
# Bytes a parameter more if units are removed: gradients, and the smaller model beside the full one.
STRUCTURED = 8
# Bytes a parameter beyond a strategy's MEMORY if it tunes pruned weights: masks, bits and factors.
MASKED = {"full": 5, "seq2seq": 5}
# Activations of a training step, in bytes a token of its batch: so many times the parameters to the
# power of 2/3, as a transformer's layers times width go with that.
ACTIVATIONS = 10.3
# Logits of the development rows, over a vocabulary of 49,152.
DEVELOPMENT_MB = 700
# Minutes of any step, more for a download. Other steps may take MARGIN times their estimate in
# float32: a node may be slower than the CPU that estimates are made for.
DOWNLOADS = ("model", "data", "rows", "cloze", "mixture")
LEAST_MINUTES, DOWNLOAD_MINUTES, MARGIN = 20, 240, 14


def memory_mb(node: Node, attempt: int = 1) -> int:
    """Return the megabytes that a step is estimated to need.

    Raises:
        FileNotFoundError: the weights that it reads do not exist yet, so their size is unknown.
    """
    return int(memory(step_of(node)) * (1 + (attempt - 1) / 2))


def minutes(node: Node, attempt: int = 1) -> int:
    """Return the minutes after which a scheduler may end a step, more on each retry.

    Raises:
        FileNotFoundError: as of `memory_mb`.
    """
    return time_limit(step_of(node)) * attempt


def time_limit(step: Step) -> int:
    """Return the minutes that a step is given."""
    if step.stage in DOWNLOADS:
        return DOWNLOAD_MINUTES
    longest = costs.seconds(replace(step, compute_dtype="float32"))
    return LEAST_MINUTES * step.turns + int(MARGIN * longest / 60)


def memory(step: Step) -> float:
    """Return the megabytes that a step is estimated to need."""
    facts = stage_facts(step.stage)
    if step.parameters is None and facts.memory_mb is not None:
        of_hub = step.stage == "data" and step.settings.get("source", {}).get("kind") == "hf"
        return float(HUB_DATA if of_hub else facts.memory_mb)
    parameters = UNKNOWN if step.parameters is None else step.parameters
    if _by_block(step):
        return FIXED_MB + _blocks_bytes(step, parameters) / 1e6
    if step.stage in ("finetune", "transform"):
        strategy = plugins.strategy_facts(step.settings["strategy"])
        needed = strategy["MEMORY"] + strategy["COPY"] * _copies(step.settings)
        needed += MASKED.get(step.kind, 0) if step.pruned else 0
        if held_weights.holds(step.memory, step.device, step.settings.get("processes", 1)):
            needed += strategy["HELD"]
        if strategy["TRAINS"]:
            activations = costs.batch_tokens(step) * ACTIVATIONS * parameters ** (2 / 3)
            needed += activations / max(parameters, 1)
    elif facts.measures_memory:
        return FIXED_TIMED_MB + _timed_bytes(step, parameters) / 1e6
    else:
        needed = facts.bytes_a_parameter
        caches = step.stage == "predictions" and step.settings.get("cache_dequantized")
        needed += 4 if caches and step.precision in ("nf4", "int8") else 0
        needed += STRUCTURED if step.settings.get("pattern") == "structured" else 0
    fixed = FIXED_MB + (DEVELOPMENT_MB if step.settings.get("dev_split") else 0)
    fixed += SCORING_MB if facts.metrics else 0
    # Each process of a fine-tuning loads the model before it is shared out.
    return (fixed + parameters * needed / 1e6) * step.settings.get("processes", 1)


def _timed_bytes(step: Step, parameters: int) -> float:
    """Return the bytes that the models of a timing take together."""
    settings, needed = step.settings, TIMED[step.precision]
    if step.precision in ("nf4", "int8"):
        needed += TIMED_CACHE if settings["cache_dequantized"] else 0
        needed += TIMED_SIZES if settings["sizes"] else 0
    elif settings["packed"]:
        needed += TIMED_PACKED
    tokens = settings["batch_size"] * settings["prompt_tokens"]
    return parameters * needed + (LOGITS * tokens if step.stage == "passes" else 0)


def _by_block(step: Step) -> bool:
    structured = step.settings.get("pattern") == "structured"
    by_block = (step.memory or {}).get("model") == "by-block"
    return by_block and stage_facts(step.stage).by_block and not structured


def _blocks_bytes(step: Step, parameters: int) -> float:
    """Return the bytes of a model by block: its share of blocks, and hidden states not on disk."""
    layers = max((parameters / (BLOCK_WEIGHTS * ASPECT**2)) ** (1 / 3), 1.0)
    blocks = min(4 * BLOCKS / layers, stage_facts(step.stage).bytes_a_parameter) * parameters
    if step.memory["activations"] == "disk":
        return blocks
    tokens = step.samples or step.settings.get("samples", 0) * step.settings.get("length", 0)
    return blocks + 2 * 4 * tokens * ASPECT * layers  # a block's inputs and its outputs


def read_parameters(node: Node) -> int | None:
    """Return the parameters of weights from their manifest; None if it is damaged.

    Raises:
        FileNotFoundError: the weights do not exist.
    """
    count = _record(node.manifest).get("weights", {}).get("parameters")
    return count if isinstance(count, int) else None


def likely_parameters(node: Node) -> int | None:
    """Return the parameters of weights that may not exist yet; None if unknown.

    They are those of the weights that they are made of (structured pruning leaves fewer), and of a
    model what its source tells (`model_size`).
    """
    for made in lineage(node):
        if Path(made.manifest).exists() and (count := read_parameters(made)) is not None:
            return count
    return model_size.parameters_of(made.settings["source"], made.label)


def step_of(node: Node, parameters: Callable[[Node], int | None] = read_parameters) -> Step:
    """Return the facts that decide a node's costs; `parameters` counts those of given weights."""
    weights = [parent for parent in node.parents.values() if parent.stage in WEIGHTS]
    counts = [parameters(parent) for parent in weights]
    count = None if not counts or None in counts else sum(counts)
    if node.stage == "model":
        count = likely_parameters(node)
    drawn = node.parents.get("calibration")
    data = node.parents.get("data")
    return Step(
        node.stage,
        node.settings,
        count,
        drawn.settings["samples"] * drawn.settings["length"] if drawn else 0,
        known_rows(data) if data else None,
        any(made.stage == "prune" for parent in weights for made in lineage(parent)),
        node.device,
        node.threads * node.settings.get("processes", 1),
        node.memory,
        _precision(node.parents.get("weights")),
        node.compute_dtype,
    )


def planned_step(node: Node) -> tuple[Step, bool]:
    """Return the facts of a step that may not have run, and whether its size is known.

    Weights of unknown size are taken to have UNKNOWN parameters.
    """
    step = step_of(node, likely_parameters)
    reads = node.stage == "model" or any(p.stage in WEIGHTS for p in node.parents.values())
    if step.parameters is None and reads:
        return replace(step, parameters=UNKNOWN), False
    return step, True


def _precision(weights: Node | None) -> str | None:
    """Return the precision that the step before gave to weights; None if it gave none."""
    made = weights is not None and weights.stage in WEIGHTS_MADE
    return costs.precision_of(weights.settings) if made else None


def space(node: Mapping[str, Any], parents: Mapping[str, Mapping]) -> int:
    """Return the bytes that a step's artifact is estimated to take.

    Args:
        node: `Node.params()`.
        parents: {role: manifest}.
    """
    read = [manifest for manifest in parents.values() if manifest["stage"] in WEIGHTS]
    weights = [m["record"]["weights"] for m in read if "weights" in m["record"]]
    count = sum(record["parameters"] for record in weights) if weights else None
    half = any(record.get("precision") in ("bfloat16", "float16") for record in weights)
    return costs.disk_bytes(Step(node["stage"], node["settings"], count), 2 if half else 4)


def rows_of(record: Mapping[str, Any]) -> dict[str, int]:
    """Return {split: rows} of a data artifact's record."""
    splits = record.get("splits") or {}
    return {name: facts["rows"] for name, facts in splits.items() if "rows" in facts}


def known_rows(data: Node) -> dict[str, int]:
    """Return {split: rows} of a data set, as far as known: of one that is not read yet, about."""
    if Path(data.manifest).exists():
        return rows_of(_record(data.manifest))
    return _likely_rows(data)


@functools.cache
def _likely_rows(data: Node) -> dict[str, int]:
    """Return {split: about its rows} as its local files and the slices of its splits tell."""
    # Steps import this module, and read no config.
    from prunegrid.config import local_data
    from prunegrid.config.sources import rows_taken, split_read

    source, splits = data.settings.get("source") or {}, data.settings.get("splits") or {}
    files, taken = {}, {}
    if source.get("kind") == "local":
        with contextlib.suppress(PrunegridError, OSError):  # told by the step that reads them
            files = local_files.of_data(source, "")
    for name, expression in splits.items():
        paths = files.get(split_read(expression) or "", [])
        rows = local_data.likely_rows(paths, data.settings.get("format"))
        taken[name] = rows_taken(expression, rows)
    return {name: rows for name, rows in taken.items() if rows is not None}


# An artifact of a key does not change, so each is read once.
@functools.cache
def _record(manifest: str) -> dict[str, Any]:
    """Return an artifact's record; {} if the manifest is damaged.

    An estimate does without it: the job that reads the artifact names it and stops, and no other.
    """
    try:
        record = read_sealed(Path(manifest)).get("record")
    except AttestationError:
        if not Path(manifest).exists():
            # Snakemake asks again once the file of this name is made.
            raise FileNotFoundError(errno.ENOENT, "not made yet", manifest) from None
        record = None
    return record if isinstance(record, dict) else {}


def _copies(settings: dict) -> int:
    """Return how many copies of its trained weights a fine-tuning keeps beside the model.

    The start and the best of several learning rates; the best by development loss.
    """
    return 2 * bool(settings.get("learning_rates")) + bool(settings.get("evaluate_every"))

"""The columns of the tables, versioned; docs/reference/columns.md lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas

SCHEMA_VERSION = 7
Plan = Mapping[str, Any]  # `prunegrid.tables.table_plan.study_plan`
Row = Mapping[str, Any]  # of a table, by column


@dataclass(frozen=True)
class Column:
    """A column: pandas dtype, and what it says."""

    name: str
    dtype: str
    meaning: str


CELL = ("model", "prune", "finetune", "dataset", "seed")  # the columns that tell cells apart


def cell_key(row: Row) -> tuple:
    """Return the values of `CELL` in a row, None for nulls."""
    return tuple(None if pandas.isna(row[name]) else row[name] for name in CELL)


def cell_title(row: Row, columns: Sequence[str] = CELL) -> str:
    """Return the name of a row's cell: its values of some columns without nulls."""
    known = ((name, row[name]) for name in columns if not pandas.isna(row[name]))
    return " / ".join(f"seed {value}" if name == "seed" else str(value) for name, value in known)


def _ratio(name: str, meaning: str) -> tuple[Column, ...]:
    """Return the columns of a ratio of speeds and of its interval."""
    return (
        Column(name, "Float64", meaning),
        Column(f"{name}_low", "Float64", "lower end of its 99.9% interval"),
        Column(f"{name}_high", "Float64", "upper end of it, over pairs of turns"),
    )


_VS_DENSE = "times as fast as the untouched model, in turns"
_SAME_FORMAT = "the same to it in this weight format; null where both have one"

KEYS = (
    Column("study", "string", "name of the study"),
    Column("model", "string", "name of the model profile"),
    Column("prune", "string", "name of the prune profile(s), joined by +"),
    Column("method", "string", "pruning method of the last prune step; dense"),
    Column("pattern", "string", "unstructured, N:M (N kept of M) or structured; null for dense"),
    Column("units", "string", "what structured pruning removes, such as mlp or blocks; or null"),
    Column("sparsity_target", "Float64", "asked fraction of zeros, or removed; null for dense"),
    Column("calibration", "string", "names of the calibration profiles, joined by +; null without"),
    Column("scope", "string", "row, layer or model: weights ranked together; null without"),
    Column("allocation", "string", "how linears share the sparsity; null without"),
    Column("refine", "string", "how the criterion's mask was improved; null where it was not"),
    Column("update", "string", "what was done to the weights that stay, beside the method's own"),
    Column("propagation", "string", "whose inputs the method saw; dense is an approximation"),
    Column("exclude", "string", "patterns of linears left dense, by the last pruning; or null"),
    Column("finetune", "string", "name of the fine-tune profile(s), joined by +"),
    Column("strategy", "string", "their strategies, joined by +; none"),
    Column("arm", "string", "arms of an iterated grid that it is a point of, joined by +; or null"),
    Column("loss_on", "string", "what the last of them learned: response, all or label; or null"),
    Column("tuned_on_tasks", "string", "evaluated tasks whose own data set was tuned on; or null"),
    Column("dataset", "string", "data set that it was tuned and evaluated on"),
    Column("generation", "string", "generation profile(s), joined by +; null without texts"),
    Column("weight_precision", "string", "float32, bfloat16, nf4 or int8, as loaded"),
    Column("seed", "Int64", "seed that reached a step of the cell; null where none draws"),
)
FACTS = (
    Column("status", "string", "ok, failed, or missing: not reached yet"),
    Column("reason", "string", "why it failed; null where it did not"),
    Column("weights_sha256", "string", "digest of every tensor that generation used"),
    Column("artifact", "string", "folder of the evaluated weights"),
    Column("adapter", "string", "none, unmerged or merged"),
    Column("sparsity_prunable", "Float64", "measured zeros among prunable base weights"),
    Column("nm_valid", "boolean", "every group keeps at most N of M; null without N:M"),
    Column("sparsity_effective", "Float64", "measured zeros of base + adapter"),
    Column("prunable_share", "Float64", "of the blocks' matrix weights: prunable, not left dense"),
    Column("excluded_share", "Float64", "of them: left dense by `exclude`"),
    Column("router_share", "Float64", "of them: routers of experts, which stay dense"),
    Column("uncalled_share", "Float64", "of them: left dense, as no sample reached them"),
    Column("removed_prunable", "Float64", "prunable weights of the dense model that are gone"),
    Column("removed_total", "Float64", "the same of all its parameters; adapters count as there"),
    Column("zeros_promised", "string", "that tuning keeps: all, base (not base + adapter), none"),
    Column("zeros_filled", "Int64", "pruned places that tuning left non-zero in base + adapter"),
    Column("zeros_revived", "Int64", "pruned places that later prunings brought back; or null"),
    Column("dead_weights_beyond", "Int64", "of dead inputs, taken beyond the count; null unpruned"),
    Column("experts_unreached", "Int64", "matrices of experts that no calibration token reached"),
    Column("experts_few", "Int64", "those reached by fewer tokens than they have inputs"),
    Column("merge_loss_before", "Float64", "tuning rows' loss of base + adapter, if merged"),
    Column("merge_loss_after", "Float64", "the same once merged (and quantized again)"),
    Column("sparsity_model", "Float64", "measured zeros among all parameters"),
    Column("parameters", "Int64", "counted; packed 4-bit once, tied once, adapters included"),
    Column("nonzero_parameters", "Int64", "counted"),
    Column("file_bytes", "Int64", "bytes of the weight files that generation loads"),
    Column("references_cut", "Int64", "references that were cut before scoring, all splits"),
    Column("contexts_cut", "Int64", "prompts that were cut to fit the positions, all scores"),
    Column("learned_share", "Float64", "of scored texts that it was tuned or calibrated on, most"),
    Column("learning_rate", "Float64", "of the last fine-tuning; where several were tried, chosen"),
    Column("train_runs", "Int64", "learning rates tried in all tunings; costs are of the chosen"),
    Column(
        "compute_dtype", "string", "precision(s) of tuning's products, joined by +; null untuned"
    ),
    Column("train_steps", "Int64", "optimizer steps, all fine-tunings"),
    Column("train_tokens", "Int64", "tokens seen in fine-tuning, all steps"),
    Column("train_seconds", "Float64", "fine-tuning alone, all steps"),
    Column("train_peak_memory_bytes", "Int64", "the largest of all fine-tunings, loading included"),
    Column("dev_loss", "Float64", "of the last fine-tuning's weights, nats a token; null without"),
    Column("generate_seconds", "Float64", "generation alone, all splits"),
    Column("prefill_tokens_per_second", "Float64", "median over turns of the prompt's tokens"),
    Column("decode_tokens_per_second", "Float64", "median over turns of the new tokens"),
    Column("peak_memory_bytes", "Int64", "of a process that loads and runs these weights alone"),
    *_ratio("prefill_speed_vs_dense", _VS_DENSE),
    Column("prefill_speed_verdict", "string", "faster, slower, not distinguishable; or null"),
    *_ratio("decode_speed_vs_dense", _VS_DENSE),
    Column("decode_speed_verdict", "string", "faster, slower, not distinguishable; or null"),
    *_ratio("prefill_speed_vs_dense_same_format", _SAME_FORMAT),
    *_ratio("decode_speed_vs_dense_same_format", _SAME_FORMAT),
    Column("speed_form", "string", "how the weights ran: dense, or packed with values and kernel"),
    Column("resident_bytes", "Int64", "of the tensors of a model that ran packed; null else"),
    Column("speed_pairs", "Int64", "pairs of turns that the ratios rest on; or null"),
    Column("speed_disturbed", "string", "why the speeds are not to be believed; null if they are"),
    Column("speed_alone", "string", "machine: no job of the run beside it; share: of a node"),
    Column("turn_seconds", "Float64", "clock of one turn (prompt and new tokens), median"),
    Column("turn_cpu_seconds", "Float64", "CPU time of one turn, all threads, median"),
    Column("sparse_kernel_linears", "Int64", "linears that ran in 2:4 kernels; null without CUDA"),
    Column("sparse_kernel_prefill_tokens_per_second", "Float64", "with them; null where none ran"),
    Column("sparse_kernel_decode_tokens_per_second", "Float64", "with them; null where none ran"),
    Column("energy_joules_estimate", "Float64", "one repetition; an estimate, not to be ranked on"),
    Column("energy_method", "string", "rapl-packages, nvml-device, or none (then no number)"),
    Column("bytes_dense_float32", "Int64", "the whole checkpoint written in float32"),
    Column("bytes_dense_bfloat16", "Int64", "the same in bfloat16"),
    Column("bytes_nf4", "Int64", "prunable weights in NF4, the rest as stored"),
    Column("bytes_int8", "Int64", "prunable weights in int8, the rest as stored"),
    Column("bytes_packed", "Int64", "without its zeros, bit for bit, in the stored dtype"),
    Column("bytes_packed_bfloat16", "Int64", "without its zeros in bfloat16"),
    Column("bytes_gzip", "Int64", "the stored file, compressed by gzip; null where not timed so"),
    Column("bytes_entropy_bound", "Int64", "least for places and values, in the stored dtype"),
)
PROVENANCE = (
    Column("threads", "Int64", "torch's threads"),
    Column("device", "string", "where generation ran"),
    Column("dtype", "string", "dtype of the stored weights"),
    Column("evaluation_dtype", "string", "what the evaluation's products were computed in"),
    Column("data_sha256", "string", "content of the data artifact"),
    Column("prompt_sha256", "string", "tokens of all prompts of texts that were asked"),
    Column("predictions_sha256", "string", "content of the prediction artifacts"),
    Column("answers_sha256", "string", "all log-likelihoods that tasks were answered with"),
    Column("heads_sha256", "string", "heads that were tuned on the weights; null without"),
    Column("versions", "string", "JSON: installed packages of the generating job"),
    Column("lineage", "string", "JSON: stage and key of each step, the model first"),
    Column("adopted", "string", "JSON: steps kept under changed code or versions, and why"),
    Column("other_token_ids", "string", "stages whose tokenizer gave other ids; or null"),
)
COLUMNS = KEYS + FACTS + PROVENANCE

# What several tables say in the same words.
_SCORE = (
    Column("low", "Float64", "2.5% of a seeded bootstrap over items; null without"),
    Column("high", "Float64", "97.5% of it"),
    Column("n", "Int64", "items"),
    Column("higher_is_better", "boolean", "direction; null where neither is"),
)
_FLAGGED = Column("flagged", "boolean", "a gaming control beats its best cell; null if none could")
_SIDES = (
    Column("seeds_a", "Int64", "cells of one side, one a seed"),
    Column("seeds_b", "Int64", "cells of the other"),
    Column("value_a", "Float64", "mean over seeds (perplexity: geometric)"),
    Column("value_b", "Float64", "the same of the other"),
    Column("spread_a", "Float64", "standard deviation over seeds; null for one"),
    Column("spread_b", "Float64", "the same of the other"),
    Column("effect", "string", "difference: a - b; ratio: a / b (perplexity)"),
)

LONG = (
    Column("study", "string", "name of the study"),
    Column("kind", "string", "cell, or a control's role: baseline, oracle or gaming"),
    Column("name", "string", "model / prune / finetune, or the control's name"),
    *KEYS[1:],
    Column("split", "string", "split; of perplexity the evaluation, of a benchmark the task"),
    Column("metric", "string", "name of the metric's column"),
    Column("value", "Float64", "mean over items (perplexity: exp of the mean loss)"),
    *_SCORE,
    Column("stderr", "Float64", "of a task, by the harness"),
    Column("shots", "Int64", "examples that a task's prompt shows; null where not a task"),
    Column("task_version", "string", "version of the task's definition; null where not a task"),
    Column("harness", "string", "what ran it, with its version; null where not a task"),
    Column("chance", "Float64", "score of a uniform guess (perplexity: vocabulary); null: unknown"),
    Column("majority", "Float64", "score of always the commonest answer; null where there is none"),
    Column("at_chance", "boolean", "not distinguishable from the better of both; null without"),
    Column("near_dense", "boolean", "perplexity overlaps dense's: unranked by distance; or null"),
    Column("contexts_cut", "Int64", "prompts that were cut to fit the positions; or null"),
    Column("learned_share", "Float64", "of its texts that the cell was tuned or calibrated on"),
    _FLAGGED,
)

CONTROLS = (
    Column("study", "string", "name of the study"),
    Column("role", "string", "baseline, oracle or gaming"),
    Column("name", "string", "the control's name"),
    Column("dataset", "string", "data set of the documents"),
    Column("split", "string", "split"),
    Column("metric", "string", "name of the metric's column"),
    Column("value", "Float64", "mean over items"),
    *_SCORE,
    Column("best", "string", "model / prune / finetune of the best cell, all its seeds together"),
    Column("best_value", "Float64", "its mean over seeds and the items of both"),
    Column("difference", "Float64", "control - best cell over the items of both"),
    Column("difference_low", "Float64", "2.5% of a seeded paired bootstrap over items"),
    Column("difference_high", "Float64", "97.5% of it"),
    Column("beats", "boolean", "better than the best cell, and the paired interval holds no 0"),
    _FLAGGED,
)

EXAMPLES = (
    Column("study", "string", "name of the study"),
    Column("kind", "string", "cell, or a control's role: baseline, oracle or gaming"),
    Column("name", "string", "model / prune / finetune, or the control's name"),
    Column("dataset", "string", "data set of the documents"),
    Column("seed", "Int64", "seed of the cell"),
    Column("split", "string", "split"),
    Column("id", "string", "id of the document"),
    Column("label", "string", "first fault by the metric labels; none; null without that metric"),
)

PAIRS = (
    Column("study", "string", "name of the study"),
    Column("model", "string", "name of the model profile"),
    Column("dataset", "string", "data set that both were tuned and evaluated on"),
    Column("split", "string", "split, or the evaluation's name for perplexity"),
    Column("metric", "string", "name of the metric's column"),
    Column("a", "string", "prune / finetune of one side, all its seeds together"),
    Column("b", "string", "prune / finetune of the other"),
    Column("n", "Int64", "items (documents or windows) that both were scored on"),
    *_SIDES,
    Column("value", "Float64", "the effect"),
    Column("low", "Float64", "2.5% of a seeded paired bootstrap over items"),
    Column("high", "Float64", "97.5% of it"),
)

CONTRASTS = (
    Column("study", "string", "name of the study"),
    Column("contrast", "string", "its name in the config"),
    Column("verdict", "string", "better, worse, non-inferior, not distinguishable at this n, …"),
    Column("reason", "string", "why there is no verdict; null where there is one"),
    Column("a", "string", "model / data / prune / finetune of one side"),
    Column("b", "string", "the same of the other"),
    Column("split", "string", "split, or the evaluation's name for perplexity"),
    Column("metric", "string", "name of the metric's column"),
    Column("n", "Int64", "items that both were scored on"),
    Column("items", "Int64", "items that there are"),
    *_SIDES,
    Column("value", "Float64", "the effect over the n items, seeds averaged"),
    Column("low", "Float64", "lower end of its 95% bootstrap interval over items"),
    Column("high", "Float64", "upper end of it"),
    Column("standardized", "Float64", "effect (log of a ratio) / paired standard deviation"),
    Column("detectable", "Float64", "smallest effect that n would have shown (80% power, 5%)"),
    Column("p", "Float64", "two-sided, paired sign flips over items"),
    Column("p_holm", "Float64", "Holm's, over all declared tests of the study"),
    Column("margin", "Float64", "of non-inferiority, as the config has it; null without"),
    Column("p_margin", "Float64", "twice the one-sided p that a is worse by the margin or more"),
    Column("p_margin_holm", "Float64", "Holm's, over all declared tests of the study"),
    Column("non_inferior", "boolean", "a is worse by less than the margin; null without one"),
    Column("at_chance", "string", "sides not distinguishable from chance: none, a, b, both"),
    Column("near_dense", "string", "sides that a distance does not rank; null where it is none"),
    Column("precision", "string", "how the sides differ in compute precision; null where alike"),
)

CLIFFS = (
    Column("study", "string", "name of the study"),
    Column("model", "string", "name of the model profile"),
    Column("dataset", "string", "data set of the cells"),
    Column("method", "string", "pruning method of the line"),
    Column("finetune", "string", "name of the fine-tune profile(s) of the line"),
    Column("split", "string", "evaluation, task or split"),
    Column("metric", "string", "name of the metric's column"),
    Column("margin", "Float64", "of non-inferiority, set beforehand; of a perplexity its share"),
    Column("prune", "string", "name of the prune profile(s); dense is the line's beginning"),
    Column("sparsity_target", "Float64", "asked fraction of zeros; 0 for dense"),
    Column("sparsity", "Float64", "measured zeros among prunable weights, base + adapter"),
    Column("n", "Int64", "items that both were scored on"),
    Column("score", "Float64", "of the cells"),
    Column("score_dense", "Float64", "of the dense cells on the same items"),
    Column("effect", "string", "difference: pruned - dense; ratio: pruned / dense (perplexity)"),
    Column("value", "Float64", "the effect over the n items, seeds averaged"),
    Column("low", "Float64", "lower end of its 95% bootstrap interval over items"),
    Column("high", "Float64", "upper end of it"),
    Column("p_margin", "Float64", "twice the one-sided p that it is worse by the margin or more"),
    Column("at_chance", "boolean", "it is not distinguishable from chance"),
    Column("non_inferior", "boolean", "worse by less than the margin, and not at chance"),
    Column("better", "boolean", "its interval lies wholly on the better side of dense"),
    Column("held", "boolean", "non-inferior, as are all lower sparsities of the line"),
    Column("cliff", "boolean", "the highest sparsity that is held; one of each line and score"),
    Column("reason", "string", "why it could not be compared; null where it was"),
)

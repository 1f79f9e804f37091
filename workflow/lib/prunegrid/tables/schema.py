"""The schema of the results table: one row a cell. Documented in docs/table.md; versioned."""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Column:
    """A column: pandas dtype, and what it says."""

    name: str
    dtype: str
    meaning: str


KEYS = (
    Column("study", "string", "name of the study"),
    Column("model", "string", "name of the model profile"),
    Column("prune", "string", "name of the prune profile(s), joined by +"),
    Column("method", "string", "pruning method of the last prune step; dense"),
    Column("pattern", "string", "unstructured or N:M (N kept of M); null for dense"),
    Column("sparsity_target", "Float64", "asked fraction of zeros; null for dense"),
    Column("calibration", "string", "names of the calibration profiles, joined by +; null without"),
    Column("scope", "string", "row, layer or model: weights ranked together; null without"),
    Column("allocation", "string", "how linears share the sparsity; null without"),
    Column("update", "string", "what was done to the weights that stay, beside the method's own"),
    Column("propagation", "string", "whose inputs the method saw; dense is an approximation"),
    Column("finetune", "string", "name of the fine-tune profile(s), joined by +"),
    Column("dataset", "string", "data set that it was tuned and evaluated on"),
    Column("generation", "string", "name of the generation profile"),
    Column("weight_precision", "string", "float32, bfloat16, nf4 or int8, as loaded"),
    Column("seed", "Int64", "seed that reached a step of the cell; null where none draws"),
)
FACTS = (
    Column("status", "string", "ok, or failed"),
    Column("reason", "string", "why it failed; null where it did not"),
    Column("weights_sha256", "string", "digest of every tensor that generation used"),
    Column("artifact", "string", "folder of the evaluated weights"),
    Column("adapter", "string", "none, unmerged or merged"),
    Column("sparsity_prunable", "Float64", "measured zeros among prunable base weights"),
    Column("nm_valid", "boolean", "every group keeps at most N of M; null without N:M"),
    Column("sparsity_effective", "Float64", "measured zeros of base + adapter"),
    Column("zeros_promised", "string", "that tuning keeps: all, base (not base + adapter), none"),
    Column("zeros_filled", "Int64", "pruned places that tuning left non-zero in base + adapter"),
    Column("merge_loss_before", "Float64", "tuning rows' loss of base + adapter, if merged"),
    Column("merge_loss_after", "Float64", "the same once merged (and quantized again)"),
    Column("sparsity_model", "Float64", "measured zeros among all parameters"),
    Column("parameters", "Int64", "counted; packed 4-bit once, tied once, adapters included"),
    Column("nonzero_parameters", "Int64", "counted"),
    Column("file_bytes", "Int64", "bytes of the weight files that generation loads"),
    Column("train_tokens", "Int64", "tokens seen in fine-tuning, all steps"),
    Column("train_seconds", "Float64", "fine-tuning alone, all steps"),
    Column("generate_seconds", "Float64", "generation alone, all splits"),
    Column("prefill_tokens_per_second", "Float64", "median over repetitions"),
    Column("decode_tokens_per_second", "Float64", "median over repetitions"),
    Column("peak_memory_bytes", "Int64", "of the efficiency run, a fresh process"),
)
PROVENANCE = (
    Column("threads", "Int64", "torch's threads"),
    Column("device", "string", "where generation ran"),
    Column("dtype", "string", "dtype of the stored weights"),
    Column("data_sha256", "string", "content of the data artifact"),
    Column("prompt_sha256", "string", "prompt template and its cuts"),
    Column("predictions_sha256", "string", "content of the prediction artifacts"),
    Column("versions", "string", "JSON: installed packages of the generating job"),
    Column("lineage", "string", "JSON: stage and key of each step, the model first"),
)
COLUMNS = KEYS + FACTS + PROVENANCE

LONG = (
    Column("study", "string", "name of the study"),
    Column("kind", "string", "cell or baseline"),
    Column("name", "string", "model / prune / finetune, or the baseline's name"),
    *KEYS[1:],
    Column("split", "string", "split, or the evaluation's name for perplexity"),
    Column("metric", "string", "name of the metric's column"),
    Column("value", "Float64", "mean over items (perplexity: exp of the mean loss)"),
    Column("low", "Float64", "2.5% of a seeded bootstrap over items; null for corpus metrics"),
    Column("high", "Float64", "97.5% of it"),
    Column("n", "Int64", "items"),
    Column("higher_is_better", "boolean", "direction; null where neither is"),
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
    Column("seeds_a", "Int64", "cells of one side, one a seed"),
    Column("seeds_b", "Int64", "cells of the other"),
    Column("value_a", "Float64", "mean over seeds (perplexity: geometric)"),
    Column("value_b", "Float64", "the same of the other"),
    Column("spread_a", "Float64", "standard deviation over seeds; null for one"),
    Column("spread_b", "Float64", "the same of the other"),
    Column("effect", "string", "difference: a - b; ratio: a / b (perplexity)"),
    Column("value", "Float64", "the effect"),
    Column("low", "Float64", "2.5% of a seeded paired bootstrap over items"),
    Column("high", "Float64", "97.5% of it"),
)


def unique_key(rows: list[dict]) -> None:
    """Check that no two rows share their key columns.

    Raises:
        ValueError: two do.
    """
    seen: set[tuple] = set()
    for row in rows:
        key = tuple(row.get(column.name) for column in KEYS)
        if key in seen:
            raise ValueError(f"two rows have the key {key}")
        seen.add(key)

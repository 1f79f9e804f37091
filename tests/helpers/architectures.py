"""Small models of every supported architecture, and where their blocks and linears are.

Nothing here asks the library: what it finds is compared with this table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import transformers
from torch import Tensor, nn

SMALL = {"vocab_size": 64, "max_position_embeddings": 64, "hidden_size": 16}
HEADS = {**SMALL, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32}
GQA = {**HEADS, "num_key_value_heads": 2}
OPT = {**SMALL, "num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 32}
GPT2 = {"vocab_size": 64, "n_positions": 64, "n_embd": 16, "n_layer": 3, "n_head": 4}
T5 = {
    **{"vocab_size": 64, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_heads": 4, "num_layers": 3},
    **{"num_decoder_layers": 2, "decoder_start_token_id": 1},
}
M2M100 = {
    **{"vocab_size": 64, "d_model": 16, "max_position_embeddings": 64},
    **{"encoder_layers": 3, "encoder_attention_heads": 4, "encoder_ffn_dim": 32},
    **{"decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48},
}
DEBERTA = {
    **{**HEADS, "relative_attention": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm"},
    **{"share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
}
DEBERTA_XLARGE = {**DEBERTA, "share_att_key": False, "conv_kernel_size": 3, "conv_act": "gelu"}


@dataclass(frozen=True)
class Architecture:
    """One architecture: how a small model of it is made, and where its linears are.

    Attributes:
        auto: name of transformers' auto class.
        kind: its model_type.
        config: of the small model.
        stacks: module name of each list of blocks → linears a block.
        outside: endings of linears that belong to no block.
        depths: blocks of each stack.
        own_head: whether the head is no embedding although the config can only say that it is.
    """

    auto: str
    kind: str
    config: dict
    stacks: dict[str, int]
    outside: tuple[str, ...] = ()
    depths: tuple[int, ...] = (3, 2)
    own_head: bool = False

    def names(self) -> dict[str, int]:
        """Return block name → how many linears it has, in the order in which they run."""
        return {
            f"{stack}.{index}": count
            for (stack, count), depth in zip(self.stacks.items(), self.depths, strict=False)
            for index in range(depth)
        }


CAUSAL, SEQ2SEQ = "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"
MASKED, HEADLESS = "AutoModelForMaskedLM", "AutoModel"
CLASSIFIER = "AutoModelForSequenceClassification"
LAYERS = "model.layers"

ARCHITECTURES = {
    "opt-125m": Architecture(
        CAUSAL, "opt", {**OPT, "word_embed_proj_dim": 16}, {"model.decoder.layers": 6}, ("lm_head",)
    ),
    "opt-350m": Architecture(
        CAUSAL,
        "opt",
        {**OPT, "word_embed_proj_dim": 8, "do_layer_norm_before": False},
        {"model.decoder.layers": 6},
        ("lm_head", "project_in", "project_out"),
    ),
    "gpt2": Architecture(CAUSAL, "gpt2", GPT2, {"transformer.h": 4}, ("lm_head",)),
    "gpt-neox": Architecture(CAUSAL, "gpt_neox", HEADS, {"gpt_neox.layers": 4}, ("lm_head",)),
    "llama": Architecture(
        CAUSAL, "llama", {**GQA, "tie_word_embeddings": True}, {LAYERS: 7}, ("lm_head",)
    ),
    "qwen2": Architecture(
        CAUSAL,
        "qwen2",
        {**GQA, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
        {LAYERS: 7},
        ("lm_head",),
    ),
    "qwen3": Architecture(CAUSAL, "qwen3", {**GQA, "head_dim": 4}, {LAYERS: 7}, ("lm_head",)),
    "olmo": Architecture(CAUSAL, "olmo", GQA, {LAYERS: 7}, ("lm_head",)),
    "olmo2": Architecture(CAUSAL, "olmo2", GQA, {LAYERS: 7}, ("lm_head",)),
    "bert": Architecture(
        MASKED, "bert", HEADS, {"bert.encoder.layer": 6}, ("transform.dense", "decoder")
    ),
    "minilm": Architecture(HEADLESS, "bert", HEADS, {"encoder.layer": 6}, ("pooler.dense",)),
    "bert-classifier": Architecture(
        CLASSIFIER, "bert", HEADS, {"bert.encoder.layer": 6}, ("pooler.dense", "classifier")
    ),
    "roberta": Architecture(
        MASKED, "roberta", HEADS, {"roberta.encoder.layer": 6}, ("lm_head.dense", "decoder")
    ),
    "deberta-v3": Architecture(HEADLESS, "deberta-v2", DEBERTA, {"encoder.layer": 6}),
    "deberta-v3-masked": Architecture(
        MASKED, "deberta-v2", DEBERTA, {"deberta.encoder.layer": 6}, ("transform.dense", "decoder")
    ),
    "deberta-v2-xlarge": Architecture(HEADLESS, "deberta-v2", DEBERTA_XLARGE, {"encoder.layer": 8}),
    "t5": Architecture(SEQ2SEQ, "t5", T5, {"encoder.block": 6, "decoder.block": 10}, ("lm_head",)),
    "t5-v1.1": Architecture(
        SEQ2SEQ,
        "t5",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        {"encoder.block": 7, "decoder.block": 11},
        ("lm_head",),
        own_head=True,
    ),
    "m2m100": Architecture(
        SEQ2SEQ,
        "m2m_100",
        M2M100,
        {"model.encoder.layers": 6, "model.decoder.layers": 10},
        ("lm_head",),
    ),
}
UNTIED = {"gpt-neox", "qwen2", "qwen3", "olmo", "olmo2", "minilm", "bert-classifier"}
UNTIED |= {"deberta-v3", "deberta-v2-xlarge"}


def build(name: str, seed: int = 0) -> nn.Module:
    """A random model with noise on biases and norms, which hide faults when they are 0 and 1."""
    made = ARCHITECTURES[name]
    config = transformers.AutoConfig.for_model(made.kind, pad_token_id=1, **made.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, made.auto).from_config(config)
        with torch.no_grad():
            if made.own_head:
                model.lm_head.weight = nn.Parameter(torch.randn_like(model.lm_head.weight))
                del model.all_tied_weights_keys["lm_head.weight"]
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def own_forward(model: nn.Module, window: Tensor):
    """Return what the model gives for one window [length], as its documentation calls it."""
    if not model.config.is_encoder_decoder:
        return model(input_ids=window[None])
    shifted = window.roll(1)
    shifted[0] = model.config.decoder_start_token_id
    return model(input_ids=window[None], decoder_input_ids=shifted[None], use_cache=False)


def linears_inside(model: nn.Module, name: str) -> dict[str, dict[str, nn.Module]]:
    """Return block → full name → linear, by the table and the classes of the modules."""
    every = {
        key: module
        for key, module in model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }
    return {
        block: {key: module for key, module in every.items() if key.startswith(f"{block}.")}
        for block in ARCHITECTURES[name].names()
    }


def flat(groups: dict[str, dict[str, nn.Module]]) -> dict[str, nn.Module]:
    """Return all linears by full name."""
    return {name: module for group in groups.values() for name, module in group.items()}


def by_output(module: nn.Module) -> Tensor:
    """Return a weight as [d_out, d_in]."""
    weight = module.weight.detach()
    return weight.t() if type(module).__name__ == "Conv1D" else weight


def ties(model: nn.Module) -> set[frozenset[str]]:
    """Return the groups of names that share one parameter."""
    groups: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), set()).add(name)
    return {frozenset(names) for names in groups.values() if len(names) > 1}


def inputs_of(
    model: nn.Module, linears: dict[str, nn.Module], tokens: Tensor
) -> dict[str, list[Tensor]]:
    """Return what every linear is given in the model's own forward of all windows, flattened."""
    given: dict[str, list[Tensor]] = {name: [] for name in linears}
    handles = [
        module.register_forward_pre_hook(
            lambda _m, args, name=name: given[name].append(args[0].flatten(0, -2))
        )
        for name, module in linears.items()
    ]
    for window in tokens:
        own_forward(model, window)
    for handle in handles:
        handle.remove()
    return given

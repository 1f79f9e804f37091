"""Small models whose blocks hold more than linears that are called once, and what that is.

Nothing here asks the library: the endings of names say which matrices are routers, in no linear, or
never called; all other matrices of blocks are weights of linears, of fused experts many in one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import transformers
from torch import nn

ROLES = {"vocab_size": 64, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
SIZES = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "max_position_embeddings": 64, "intermediate_size": 48},
}
CAUSAL, MASKED, SEQ2SEQ = "CausalLM", "MaskedLM", "Seq2SeqLM"


@dataclass(frozen=True)
class Odd:
    """One model.

    Attributes:
        task: ending of the name of transformers' auto class.
        kind: its model_type.
        config: of the small model.
        stacks: names of the lists of blocks.
        routers, others: endings of parameter names.
        uncalled: endings of names of linears.
        arrays: endings of parameters of two sides and more that are no matrices.
    """

    task: str
    kind: str
    config: dict
    stacks: tuple[str, ...] = ("model.layers",)
    routers: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    uncalled: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()


ENCODER = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"intermediate_size": 48, "max_position_embeddings": 64},
}
MAMBA = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "intermediate_size": 64},
    "time_step_rank": 8,
}
ODD = {
    "qwen2-moe": Odd(
        CAUSAL,
        "qwen2_moe",
        {**SIZES, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
         "shared_expert_intermediate_size": 40},
        routers=("mlp.gate.weight", "shared_expert_gate.weight"),
    ),
    "granite-moe": Odd(
        CAUSAL, "granitemoe", {**SIZES, "num_local_experts": 5, "num_experts_per_tok": 2},
        routers=("router.weight",),
    ),
    "dbrx": Odd(
        CAUSAL,
        "dbrx",
        {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64,
         "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
         "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2}},
        stacks=("transformer.blocks",),
        routers=("router.layer.weight",),
        others=("mlp.w1", "mlp.v1", "mlp.w2"),
    ),
    "switch": Odd(
        SEQ2SEQ,
        "switch_transformers",
        {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_heads": 4, "num_layers": 2,
         "num_decoder_layers": 2, "num_experts": 3, "num_sparse_encoder_layers": 1,
         "num_sparse_decoder_layers": 1, "decoder_start_token_id": 0},
        stacks=("encoder.block", "decoder.block"),
        routers=("router.classifier.weight",),
    ),
    "recurrent-gemma": Odd(
        CAUSAL,
        "recurrent_gemma",
        {**SIZES, "num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 32},
        others=("input_gate_weight", "recurrent_gate_weight"),
        arrays=("input_gate_bias", "recurrent_gate_bias", "conv_1d.weight"),
    ),
    "convbert": Odd(
        MASKED, "convbert", {**ENCODER, "hidden_size": 64, "embedding_size": 64},
        stacks=("convbert.encoder.layer",),
        others=("pointwise.weight",),
        arrays=("depthwise.weight", "conv_attn_layer.bias"),
    ),
    "falcon-mamba": Odd(
        CAUSAL, "falcon_mamba", MAMBA, stacks=("backbone.layers",),
        uncalled=("mixer.dt_proj",), arrays=("A_log", "conv1d.weight"),
    ),
    "led": Odd(
        SEQ2SEQ,
        "led",
        {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
         "attention_window": 8, "max_encoder_position_embeddings": 64,
         "max_decoder_position_embeddings": 64, "decoder_start_token_id": 0},
        stacks=("led.encoder.layers", "led.decoder.layers"),
        uncalled=("query_global", "key_global", "value_global"),
    ),
    "zamba2": Odd(
        CAUSAL,
        "zamba2",
        {**SIZES, "num_hidden_layers": 4, "mamba_d_state": 8, "mamba_d_conv": 4,
         "mamba_expand": 2, "chunk_size": 8, "num_mem_blocks": 1,
         "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]},
        arrays=("conv1d.weight",),
    ),
}  # fmt: skip


def build(name: str) -> nn.Module:
    """Return a model with random weights, in eval mode."""
    odd = ODD[name]
    config = transformers.AutoConfig.for_model(odd.kind, **ROLES, **odd.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"AutoModelFor{odd.task}").from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def kinds(name: str, model: nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """Return {linears, routers, others, uncalled}: full parameter name → matrix, each once."""
    odd, found = ODD[name], {kind: {} for kind in ("linears", "routers", "others", "uncalled")}
    tables = {f"{path}.weight" for path, m in model.named_modules() if isinstance(m, nn.Embedding)}
    uncalled = tuple(f"{end}.weight" for end in odd.uncalled)
    for full, weight in model.named_parameters():
        inside = full.startswith(tuple(f"{stack}." for stack in odd.stacks))
        if not inside or weight.dim() < 2 or full in tables or full.endswith(odd.arrays):
            continue
        ends = {"routers": odd.routers, "others": odd.others, "uncalled": uncalled}
        kind = next((k for k, end in ends.items() if end and full.endswith(end)), "linears")
        found[kind][full] = weight
    return found

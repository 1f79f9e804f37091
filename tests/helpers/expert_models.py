"""Small mixtures of experts, and what each expert is given, by a loop over experts in plain torch.

Nothing here asks the library what an expert is: the tensors' names stand in a table, and the loop
takes the routing that the model's own router gives.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

EXPERTS = 4
TENSORS = ("gate_up_proj", "down_proj")
COMMON = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "num_experts_per_tok": 2,
    "attention_dropout": 0.0,
}  # fmt: skip
LATENT = {
    "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8, "v_head_dim": 8, "n_group": 1, "topk_group": 1,
}  # fmt: skip
# Model type → its settings; `COMMON` is added.
MODELS = {
    "mixtral": {"num_local_experts": EXPERTS},
    "qwen3_moe": {"num_experts": EXPERTS, "moe_intermediate_size": 24, "head_dim": 8},
    "olmoe": {"num_experts": EXPERTS},
    "deepseek_v3": {
        **LATENT, "n_routed_experts": EXPERTS, "moe_intermediate_size": 24, "n_shared_experts": 1,
        "first_k_dense_replace": 1,
    },
    "gpt_oss": {"num_local_experts": EXPERTS, "head_dim": 8, "sliding_window": 16},
    "qwen2_moe": {
        "num_experts": EXPERTS, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24,
    },
}  # fmt: skip
# Those that store each expert's matrices as [d_in, d_out].
FLIPPED = {"gpt_oss"}


def build(kind: str, **changes) -> nn.Module:
    """Return a small model with random weights; biases and norms are drawn too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **(COMMON | MODELS[kind] | changes))
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.06 * torch.randn_like(parameter)
    return model.eval()


def windows(samples: int = 4, length: int = 24) -> Tensor:
    """Return calibration windows, int64 [samples, length]."""
    return torch.randint(2, 64, (samples, length), generator=torch.Generator().manual_seed(0))


def holders(model: nn.Module) -> dict[str, nn.Module]:
    """Return name → module of the fused experts."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(getattr(module, TENSORS[0], None), nn.Parameter)
    }


def leave_unreached(model: nn.Module) -> None:
    """Change the routers so that of four experts, of which each token has one, two get none."""
    direction = torch.randn(32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in model.parameters():
            if tuple(parameter.shape) == (EXPERTS,):
                parameter.zero_()
            if tuple(parameter.shape) == (EXPERTS, 32):
                for expert, share in enumerate((1.0, -1.0, 0.0, 0.0)):
                    parameter[expert] = share * direction


def weights(model: nn.Module, kind: str) -> dict[str, Tensor]:
    """Return name → weight [d_out, d_in] of every expert's matrices, as views."""
    found = {}
    for name, holder in holders(model).items():
        for tensor in TENSORS:
            for expert, stored in enumerate(getattr(holder, tensor).detach()):
                found[f"{name}.{tensor}.{expert}"] = stored.t() if kind in FLIPPED else stored
    return found


@contextlib.contextmanager
def recording(model: nn.Module, kind: str) -> Iterator[dict[str, list[Tensor]]]:
    """Run experts in a loop of this file's own, inside the context; give what each matrix is given.

    Yields:
        name → inputs [tokens, d_in] of each pass, in float64; empty lists where there were none.
    """
    given: dict[str, list[Tensor]] = {name: [] for name in weights(model, kind)}
    found = holders(model)
    for name, holder in found.items():
        holder.forward = _loop(holder, kind, name, given)
    try:
        yield given
    finally:
        for holder in found.values():
            del holder.forward


def expert_output(holder: nn.Module, kind: str, expert: int, hidden: Tensor) -> Tensor:
    """Return what one expert gives hidden states [tokens, d], before it is weighted."""
    *_, output = _steps(holder, kind, expert, hidden)
    return output


def _steps(holder: nn.Module, kind: str, expert: int, flow: Tensor) -> Iterator[Tensor]:
    """Yield what each matrix of an expert is given, then the expert's output."""
    for tensor in TENSORS:
        yield flow
        stored = getattr(holder, tensor)[expert]
        flow = flow @ (stored if kind in FLIPPED else stored.T)
        if kind == "gpt_oss":
            flow = flow + getattr(holder, f"{tensor}_bias")[expert]
        if tensor == TENSORS[0]:
            flow = _gated(holder, kind, flow)
    yield flow


def _gated(holder: nn.Module, kind: str, flow: Tensor) -> Tensor:
    """Return what gate and up in one, [tokens, 2 d], give: [tokens, d]."""
    if kind == "gpt_oss":
        gate, up = flow[:, ::2].clamp(max=7.0), flow[:, 1::2].clamp(-7.0, 7.0)
        return (up + 1) * gate * torch.sigmoid(1.702 * gate)
    gate, up = flow.chunk(2, dim=1)
    return torch.nn.functional.silu(gate) * up


def _loop(holder: nn.Module, kind: str, name: str, given: dict[str, list[Tensor]]):
    def forward(hidden: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
        total = torch.zeros_like(hidden)
        for expert in range(EXPERTS):
            tokens, place = torch.where(chosen == expert)
            if not len(tokens):
                continue
            *inputs, flow = _steps(holder, kind, expert, hidden[tokens])
            for tensor, value in zip(TENSORS, inputs, strict=True):
                given[f"{name}.{tensor}.{expert}"].append(value.double())
            total[tokens] += flow * shares[tokens, place, None]
        return total

    return forward


def inputs_of(model: nn.Module, kind: str, tokens: Tensor) -> dict[str, Tensor]:
    """Return name → what each expert's matrix is given over all windows, [tokens, d_in] float64.

    The model's outputs under the loop of this file must be the model's own.
    """
    with torch.no_grad():
        own = [model(window[None], use_cache=False).logits for window in tokens]
        with recording(model, kind) as given:
            for window, logits in zip(tokens, own, strict=True):
                looped = model(window[None], use_cache=False).logits
                assert torch.allclose(looped, logits, atol=1e-4)
    widths = {name: weight.shape[1] for name, weight in weights(model, kind).items()}
    empty = {name: torch.zeros(0, width, dtype=torch.float64) for name, width in widths.items()}
    return {name: torch.cat([empty[name], *parts]) for name, parts in given.items()}

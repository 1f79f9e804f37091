"""The oracle of NF4 and int8: codes read from the files, and dequantized in plain torch."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from tests.matrix import oracle
from tests.matrix.checks import require

NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
BLOCK = 64
# Double quantization keeps a block's scale to about 1%.
SCALE_TOLERANCE = 0.03
# Half a step, and what bitsandbytes' float16 makes of the weight and of its row's scale:
# each up to 127 · 2⁻¹¹ steps.
INT8_STEPS = 0.5 + 2 * 127 * 2**-11


def read_packed(folder: Path) -> dict[str, Tensor]:
    """Return linear → dequantized weight [d_out, d_in] of a packed model's files."""
    files = oracle.read_files(folder)
    found = {}
    for name, value in files.items():
        if not name.endswith(".weight"):
            continue
        linear = name.removesuffix(".weight")
        if f"{linear}.SCB" in files:
            found[linear] = value.float() * files[f"{linear}.SCB"].float()[:, None] / 127
        elif f"{name}.absmax" in files:
            found[linear] = _nf4(files, name, value)
    return found


def _nf4(files: dict[str, Tensor], name: str, value: Tensor) -> Tensor:
    """Return one NF4 weight: two codes a byte, a scale for 64 weights, itself in 8 bits."""
    state = json.loads(files[f"{name}.quant_state.bitsandbytes__nf4"].numpy().tobytes())
    scale = files[f"{name}.absmax"]
    if scale.dtype == torch.uint8:
        nested = files[f"{name}.nested_absmax"].repeat_interleave(state["nested_blocksize"])
        table = files[f"{name}.nested_quant_map"]
        scale = table[scale.long()] * nested[: len(scale)] + state["nested_offset"]
    codes = torch.stack([value.reshape(-1) >> 4, value.reshape(-1) & 15], 1).reshape(-1).long()
    count = state["shape"][0] * state["shape"][1]
    scales = scale.float().repeat_interleave(state["blocksize"])[:count]
    return (torch.tensor(NF4)[codes[:count]] * scales).reshape(state["shape"])


def require_nf4(name: str, plain: Tensor, packed: Tensor) -> None:
    """Check that each weight has the nearest NF4 code under its block's scale; zeros stay zero."""
    require(bool((packed[plain == 0] == 0).all()), f"{name}: NF4 fills zeros")
    table = torch.tensor(NF4, dtype=torch.float64)
    flat, other = plain.double().reshape(-1), packed.double().reshape(-1)
    for start in range(0, len(flat), BLOCK):
        block, codes = flat[start : start + BLOCK], other[start : start + BLOCK]
        largest = block.abs().max()
        if largest == 0:
            continue
        nearest = table[(block[:, None] / largest - table).abs().argmin(1)] * largest
        # A midpoint between two codes may go either way under the rounded scale.
        spread = (codes - block).abs() - (nearest - block).abs()
        require(
            bool((spread <= SCALE_TOLERANCE * largest).all()),
            f"{name}: a weight is not at its nearest NF4 code",
        )


def require_int8(name: str, plain: Tensor, packed: Tensor) -> None:
    """Check that each weight is at its nearest of 255 steps of its row's largest weight."""
    require(bool((packed[plain == 0] == 0).all()), f"{name}: int8 fills zeros")
    step = plain.abs().amax(1, keepdim=True) / 127
    require(
        bool(((packed - plain).abs() <= INT8_STEPS * step).all()),
        f"{name}: a weight is not at its nearest int8 code",
    )


def read_adapter(folder: Path) -> dict[str, Tensor]:
    """Return linear → (α/r) B A, [d_out, d_in], of an adapter's folder."""
    facts = json.loads((folder / "adapter_config.json").read_text())
    files = oracle.read_files(folder)
    scale, found = facts["lora_alpha"] / facts["r"], {}
    for name, value in files.items():
        if name.endswith(".lora_A.weight"):
            linear = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            other = files[name.replace(".lora_A.", ".lora_B.")]
            found[linear] = scale * (other.double() @ value.double()).float()
    return found

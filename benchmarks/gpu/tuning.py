"""A LoRA and a QLoRA step under the mask: its time to a plain step's, its zeros, its loss."""

from __future__ import annotations

import functools
import importlib.util
import statistics
from collections.abc import Callable, Iterator

import smollm
import torch
from report import NotRun, Row, judged
from torch import Tensor, nn
from worker import Check, Setting

from prunegrid.common.determinism import settle_torch
from prunegrid.models.blocks import prunable
from prunegrid.models.zero_masks import count_filled, keep_masks
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.recipe import Recipe

ADAPTER = {"rank": 16, "alpha": 32, "dropout": 0.0}
BATCH, STEPS, ROUNDS = 4, 5, 4
# As a finetune step's, without what only its stage reads.
TRAINING = {
    "epochs": 1,
    "max_steps": None,
    "token_budget": None,
    "batch_size": BATCH,
    "accumulate": 1,
    "learning_rate": 1e-3,
    "learning_rates": None,
    "schedule": "constant",
    "warmup_steps": 0,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "evaluate_every": None,
    "patience": None,
    "loss_on": "all",
    "gradient_checkpointing": False,
}
# Per token and weight a plain step multiplies twice (forward, gradient of the input), a masked one
# three times (the product's gradient too): 1.5, and some passes over the weights.
MOST = 2.0


def lora(setting: Setting) -> Iterator[Row]:
    """Yield the rows of LoRA over float32 weights."""
    _require("peft")
    settle_torch(1)
    base, masks = _pruned(setting)
    copies = {"masked": base, "plain": smollm.build(setting.small)}
    yield from _rows(
        "LoRA", {n: model.to(setting.device) for n, model in copies.items()}, masks, setting
    )


def qlora(setting: Setting) -> Iterator[Row]:
    """Yield the rows of LoRA over NF4 weights."""
    _require("peft", "bitsandbytes")
    from prunegrid.models import quantized

    settle_torch(1)
    base, masks = _pruned(setting)
    folder = setting.scratch / "base"
    base.save_pretrained(folder)
    del base
    models = {
        n: quantized.quantize(folder, setting.device, "nf4", True) for n in ("masked", "plain")
    }
    yield from _rows("QLoRA", models, masks, setting)


def _require(*packages: str) -> None:
    """Check that packages are installed.

    Raises:
        NotRun: one is not.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise NotRun(f"{package} is not installed")


def _pruned(setting: Setting) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return the model pruned to 2:4 by magnitude, on the CPU, and its masks (True = kept)."""
    model = smollm.build(setting.small)
    prune_model(model, Recipe("magnitude", "2:4"))
    return model, keep_masks(model, "2:4")


def _rows(
    name: str, models: dict[str, nn.Module], masks: dict[str, Tensor], setting: Setting
) -> Iterator[Row]:
    """Yield the rows of one kind of base weights.

    Args:
        models: "masked" and "plain": the base that gets an adapter under the mask, or without.
        masks: bool [d_out, d_in] by linear, True = kept.
    """
    from prunegrid.models import masked_lora

    autocast = setting.on_gpu and torch.cuda.get_device_capability() >= (8, 0)
    steps: dict[str, Callable] = {}
    for kind, base in models.items():
        torch.manual_seed(smollm.SEED)
        under = masks if kind == "masked" else {}
        models[kind] = masked_lora.wrap(base, list(prunable(base)), under, ADAPTER)
        steps[kind] = _trainer(models[kind], autocast, setting)
    seconds: dict[str, list[float]] = {kind: [] for kind in steps}
    losses = []
    for turn in range(ROUNDS):
        for kind in sorted(steps, reverse=turn % 2 == 1):
            facts = steps[kind]()
            if kind == "masked":
                losses += facts.losses
            if turn:  # the first round loads libraries
                seconds[kind].append(facts.seconds / facts.steps)
    middle = {kind: statistics.median(found) for kind, found in seconds.items()}
    most = MOST if setting.on_gpu else None
    facts = {"seconds": seconds, "autocast": autocast}
    ratio = middle["masked"] / middle["plain"]
    yield judged(f"masked {name}: step, to a plain one", ratio, high=most, form="{:.2f}", **facts)
    filled = _filled(models["masked"], masks)
    yield judged(f"masked {name}: pruned weights that it filled", filled, 0, 0, form="{:.0f}")
    fall = losses[-1] / losses[0]
    yield judged(f"masked {name}: loss, last step to first", fall, high=0.999, losses=losses)


def _trainer(model: nn.Module, autocast: bool, setting: Setting) -> Callable:
    """Return a function that trains some steps and returns their facts."""
    from prunegrid.finetuning.training import learning_rates, token_batches

    length = 32 if setting.small else 512
    rows = smollm.draw(model.config.vocab_size, BATCH * STEPS, length, seed=3).tolist()
    return functools.partial(
        learning_rates.train,
        model,
        [token_batches.Example([], row) for row in rows],
        TRAINING | {"autocast": "bfloat16" if autocast else "float32"},
        pad=0,
        seed=0,
        device=setting.device,
        where="gpu-check",
    )


@torch.no_grad()
def _filled(model: nn.Module, masks: dict[str, Tensor]) -> int:
    """Return how many pruned weights are not zero any more in base and adapter together."""
    from prunegrid.models import masked_lora

    def weights() -> Iterator[tuple[str, Tensor, Tensor]]:
        for name, layer in masked_lora.layers(model).items():
            base = layer.base_weight().float()
            yield name, base, base + layer.delta().float()

    return max(count_filled(masks, weights()))


CHECKS = [Check("masked LoRA", lora), Check("masked QLoRA", qlora)]

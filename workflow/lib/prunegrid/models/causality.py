"""Whether a model's tokens see those after them: then it cannot predict the next one."""

from __future__ import annotations

import torch
from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.forward import device_of, embedding_rows, forward_parameters, inner

LENGTH, KEPT = 12, 8
# As a share of the largest logit. In bfloat16 batches of other shapes round otherwise (experts').
EXACT, ROUNDED = 1e-3, 0.05


def require_causal(model: nn.Module, where: str) -> None:
    """Check that logits depend on the tokens before them alone, on one row with two ends.

    In float32 also that they do not depend on how many tokens follow.

    Raises:
        PrunegridError: they do.
    """
    vocabulary = embedding_rows(model)
    row = [(7 * i + 5) % (vocabulary - 1) for i in range(LENGTH)]
    other = [(token + 3) % (vocabulary - 1) for token in row[KEPT:]]
    options = {"use_cache": False} if "use_cache" in forward_parameters(model) else {}
    training = model.training
    model.eval()
    with torch.no_grad():
        whole, changed, alone = (
            model(input_ids=torch.tensor([ids], device=device_of(model)), **options)
            .logits[0, :KEPT]
            .float()
            for ids in (row, [*row[:KEPT], *other], row[:KEPT])
        )
    model.train(training)
    exact = inner(model).dtype == torch.float32
    limit = (EXACT if exact else ROUNDED) * float(whole.abs().max())
    for logits in (changed, alone) if exact else (changed,):
        if not float((whole - logits).abs().max()) <= limit:
            raise PrunegridError(
                f"what {type(inner(model)).__name__} says of a token depends on those after it",
                where=where,
                expected="a causal language model, whose tokens see those before them alone",
                remedy="use another model, or name its task if it is another",
            )

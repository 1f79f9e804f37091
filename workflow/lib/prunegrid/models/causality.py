"""Whether a model's tokens see those after them: then it cannot predict the next one."""

from __future__ import annotations

import torch
from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.forward import device_of, forward_parameters, inner

LENGTH, KEPT = 12, 8
# As a share of the largest logit; a token that is seen moves them by a hundredth and more.
SHARE = 1e-3


def require_causal(model: nn.Module, where: str) -> None:
    """Check that logits do not depend on the tokens after theirs: on one row with two ends.

    Raises:
        PrunegridError: they do.
    """
    vocabulary = inner(model).get_input_embeddings().weight.shape[0]
    rows = [[(7 * i + 5) % (vocabulary - 1) for i in range(LENGTH)] for _ in range(2)]
    rows[1][KEPT:] = [(token + 3) % (vocabulary - 1) for token in rows[1][KEPT:]]
    inputs = {"use_cache": False} if "use_cache" in forward_parameters(model) else {}
    training = model.training
    model.eval()
    with torch.no_grad():
        one, other = (
            model(input_ids=torch.tensor([row], device=device_of(model)), **inputs).logits[0, :KEPT]
            for row in rows
        )
    model.train(training)
    if not float((one - other).abs().max()) <= SHARE * float(one.abs().max()):
        raise PrunegridError(
            f"the tokens of {type(inner(model)).__name__} see those after them",
            where=where,
            expected="a causal language model, whose tokens see those before them alone",
            remedy="name the model's task in its profile, or use another model",
        )

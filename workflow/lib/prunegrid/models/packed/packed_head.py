"""The head of a model in narrow values, with the input embedding that is tied to it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from prunegrid.models.packed.packed_matrix import PackedMatrix


class Head(NamedTuple):
    """The linear that gives logits.

    Attributes:
        name: its full name.
        linear: the module.
        embedding: full name of the input embedding that holds the same weight; None if none does.
    """

    name: str
    linear: nn.Linear
    embedding: str | None


def find(model: nn.Module) -> Head | None:
    """Return the head that can be packed; None where there is none.

    A weight that others hold as well as the head can be packed if the one other is a plain
    embedding in one place.
    """
    linear = model.get_output_embeddings()
    if type(linear) is not nn.Linear:
        return None
    places = list(model.named_modules(remove_duplicate=False))
    holders = [
        (name, module)
        for name, module in places
        if any(held is linear.weight for held in module.parameters(recurse=False))
    ]
    names = [name for name, module in holders if module is linear]
    others = [(name, module) for name, module in holders if module is not linear]
    if len(names) != 1 or len(others) > 1:
        return None
    for name, module in others:
        if type(module) is not nn.Embedding or module.max_norm is not None:
            return None
        return Head(names[0], linear, name)
    return Head(names[0], linear, None)


class PackedEmbedding(nn.Module):
    """Rows of a packed weight by their number, for inference on a CPU; in the place of Embedding.

    Attributes:
        matrix: the weight [num_embeddings, embedding_dim], which the head multiplies by.
    """

    def __init__(self, matrix: PackedMatrix) -> None:
        super().__init__()
        self.matrix = matrix
        self.num_embeddings, self.embedding_dim = matrix.rows, matrix.columns

    @property
    def weight(self) -> Tensor:
        """The dense weight, as its file has it: made anew each time, so a change of it is lost."""
        return self.stored()

    def stored(self) -> Tensor:
        """Return the dense weight in its stored dtype."""
        return self.matrix.dense()

    def forward(self, ids: Tensor) -> Tensor:
        """Return float32 [..., embedding_dim] of ids [...]."""
        return self.matrix.taken(ids.reshape(-1)).reshape(*ids.shape, self.embedding_dim)

    def _save_to_state_dict(self, destination, prefix: str, keep_vars: bool) -> None:
        """Give the dense weight, so that a saved model is one of plain transformers."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.stored()

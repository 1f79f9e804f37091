"""Whether a model's lists of modules can be its blocks."""

from __future__ import annotations

from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.forward import is_encoder_decoder


def require_understood(model: nn.Module, lists: dict[str, nn.ModuleList]) -> None:
    """Check that the number of block lists fits the model's kind, and no block is used twice."""
    where = type(model).__name__
    if not lists:
        raise PrunegridError(
            f"no blocks can be found; its lists of modules are {_listing(model) or 'none'}",
            where=where,
            expected="a ModuleList that repeats one class of block with linears inside",
            remedy="use a transformer of the transformers library",
        )
    two = is_encoder_decoder(model)
    if len(lists) > 1 + two:
        sizes = ", ".join(f"{name} ({len(blocks)} blocks)" for name, blocks in lists.items())
        raise PrunegridError(
            f"{len(lists)} lists of blocks were found: {sizes}",
            where=where,
            expected="an encoder's and a decoder's" if two else "one, as it is no encoder-decoder",
            remedy="this architecture is not supported",
        )
    modules = [module for blocks in lists.values() for module in blocks]
    if len({id(module) for module in modules}) < len(modules):
        raise PrunegridError(
            "one block is used more than once",
            where=f"{where}.{', '.join(lists)}",
            expected="blocks with weights of their own",
            remedy="this architecture is not supported",
        )


def _listing(model: nn.Module) -> str:
    return ", ".join(
        f"{name} ({', '.join(sorted({type(child).__name__ for child in module}))})"
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
    )

"""Kinds of models (the class of transformers that each needs), and how a folder is read.

KINDS is the only table of this program that knows kinds of models: transformers' auto class, and
the task that a profile names. It does not say how a kind is pruned.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunegrid.artifacts import token_probe
from prunegrid.common import model_family, timing_guard
from prunegrid.common.errors import PrunegridError
from prunegrid.common.gc_pause import importing
from prunegrid.common.model_family import TITLES
from prunegrid.models import bounded_tokenizer, forward


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Attributes:
        task: its name in profiles; None for a kind that no profile can name.
        auto: its auto class in transformers.
        endings: of class names in `architectures` that transformers does not know (any more);
            () fits any class.
        title: its name in errors.
    """

    task: str | None
    auto: str
    endings: tuple[str, ...]
    title: str


KINDS = (
    Kind(
        "causal-lm",
        "AutoModelForCausalLM",
        ("ForCausalLM", "LMHeadModel"),
        TITLES["causal-lm"],
    ),
    Kind(
        "seq2seq-lm",
        "AutoModelForSeq2SeqLM",
        ("ForConditionalGeneration", "ForSeq2SeqLM", "WithLMHeadModel"),
        TITLES["seq2seq-lm"],
    ),
    Kind("masked-lm", "AutoModelForMaskedLM", ("ForMaskedLM",), TITLES["masked-lm"]),
    Kind(
        None, "AutoModelForSequenceClassification", ("ForSequenceClassification",), "a classifier"
    ),
    Kind("encoder", "AutoModel", (), TITLES["encoder"]),
)
TASKS = tuple(kind.task for kind in KINDS if kind.task)


def of_task(task: str) -> Kind:
    """Return the kind that a profile's task names."""
    return next(kind for kind in KINDS if kind.task == task)


def is_of(kind: Kind, architectures: Iterable[str], config: Any) -> bool:
    """Return whether a config's model, of one of the class names, is of the kind.

    Args:
        architectures: class names; none fits every kind that has a class for the config.
        config: of transformers.
    """
    mapping, names = auto_class(kind)._model_mapping, list(architectures)
    if type(config) not in mapping:
        return False
    # An encoder-decoder (BART) is among the masked language models too, as it fills gaps.
    if kind.task == "masked-lm" and getattr(config, "is_encoder_decoder", False):
        return False
    known = mapping[type(config)]
    classes = {c.__name__ for c in (known if isinstance(known, (list, tuple)) else (known,))}
    return (
        not names
        or not kind.endings
        or any(name in classes or name.endswith(kind.endings) for name in names)
    )


def import_models() -> None:
    """Import what every config and model of transformers needs (two thirds of a step's start)."""
    with importing("transformers.modeling_utils"):
        from transformers import AutoTokenizer, PreTrainedModel  # noqa: F401


def read_config(folder: Path):
    """Return transformers' config of a folder."""
    import_models()
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # In eval mode RWKV divides weights in place by powers of two, for float16's sake: it would be
    # saved so, and divided again. Without it the model computes the same.
    if getattr(config, "rescale_every", 0):
        config.rescale_every = 0
    return config


def auto_class(kind: Kind):
    """Return transformers' auto class of a kind, with its `from_config` and `from_pretrained`."""
    import_models()
    import transformers

    return getattr(transformers, kind.auto)


def kind_of(config) -> Kind:
    """Return the first kind that fits a config.

    A config without `architectures` counts as a causal language model.
    """
    names = config.architectures or ["ForCausalLM"]
    return next((kind for kind in KINDS if is_of(kind, names, config)), KINDS[-1])


def require_task(config, task: str, where: str) -> None:
    """Check that a model of transformers' config can have a task.

    Raises:
        PrunegridError: it computes something else.
    """
    reason = model_family.misfit(config.to_dict(), task)
    if reason:
        raise PrunegridError(reason, where=where)


def require_fit(folder: Path, modules: str, name: str, where: str) -> str:
    """Return the task of a weights artifact, after checking that a strategy or a stage fits it.

    Args:
        folder: plain, or in parts.
        modules, name: see `model_family.unfit`.

    Raises:
        PrunegridError: it does not fit.
    """
    base = Path(folder) / "base"
    task = kind_of(read_config(base if base.is_dir() else folder)).task
    reason = model_family.unfit(modules, name, task)
    if reason:
        raise PrunegridError(reason, where=where)
    return task


def skeleton(folder: Path) -> nn.Module:
    """Return the model of a folder's config without its weights, on the meta device."""
    config = read_config(folder)
    with torch.device("meta"):
        return auto_class(kind_of(config)).from_config(config, trust_remote_code=False)


def read_model(folder: Path, **options: Any) -> nn.Module:
    """Return the model of a folder of config and safetensors, in eval mode, with its head.

    Args:
        options: of `from_pretrained`, for packed weights; without any it is on the CPU.

    Raises:
        PrunegridError: tensors are missing from the files, or of another shape than the config's.
    """
    timing_guard.require_stopped("weights are read", str(folder))
    config = read_config(folder)
    # No remote code and no pickle: the model computes with what the safetensors hold.
    model, loading = auto_class(kind_of(config)).from_pretrained(
        folder,
        config=config,
        dtype="auto",
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        **options,
    )
    require_all_tensors(loading, folder)
    return model.eval()


def require_all_tensors(loading: Mapping[str, Any], folder: Path) -> None:
    """Check what `from_pretrained` says of a loading (`output_loading_info`).

    Raises:
        PrunegridError: tensors are missing from the files, too many, or of another shape.
    """
    for fault in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if loading.get(fault):
            raise PrunegridError(
                f"{fault.replace('_', ' ')}: {sorted(map(str, loading[fault]))[:3]}",
                where=str(folder),
                expected="exactly the tensors that its config.json describes",
                remedy="the folder is incomplete or of another model: make or download it again",
            )


def compute_in(model: nn.Module, dtype: str) -> nn.Module:
    """Widen the floating-point tensors of a model in place; return it.

    Nothing is narrowed. Packed weights stay packed: a forward pass dequantizes them to the dtype of
    its input.

    Args:
        dtype: "float32" or "bfloat16".
    """
    for tensor in (*model.parameters(), *model.buffers()):
        wider = widened(tensor.data, dtype)
        if wider.dtype != tensor.dtype:
            tensor.data = wider
    return model


@contextlib.contextmanager
def computing_in(model: nn.Module, dtype: str) -> Iterator[None]:
    """Widen frozen weights inside the context, and give them their own values back after it."""
    before = {t: t.data for t in (*model.parameters(), *model.buffers())}
    compute_in(model, dtype)
    try:
        yield
    finally:
        for tensor, data in before.items():
            tensor.data = data


def widened(tensor: torch.Tensor, dtype: str) -> torch.Tensor:
    """Return a tensor in a wider dtype; the tensor itself if it is as wide or holds no floats."""
    wanted = getattr(torch, dtype)
    narrower = tensor.is_floating_point() and tensor.dtype.itemsize < wanted.itemsize
    return tensor.to(wanted) if narrower else tensor


def read_tokenizer(folder: Path, model: nn.Module):
    """Return the folder's tokenizer, which refuses tokens that the model has no row for.

    None is returned where the folder holds none. One that gives other token ids than it did when
    the model was imported is told (`token_probe`).
    """
    from transformers import AutoTokenizer

    if not (Path(folder) / "tokenizer_config.json").exists():
        return None
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    # Saved again, it must be the same file: without the options by which it was loaded.
    for trace in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(trace, None)
    token_probe.compare(tokenizer, Path(folder))
    return bounded_tokenizer.bounded(tokenizer, forward.embedding_rows(model), str(folder))

"""Tokenizers of GGUF files, which hold a vocabulary and merges, and of the rest only a name.

`tokenizer.ggml.pre` names the rules that cut a text before merges are made. transformers builds
the tokenizer, knows the rules of some names, and takes GPT-2's for every other without a word. So
a name that is not known is refused here, and what transformers leaves out is put in its place.

The rules are those of llama.cpp (`src/llama-vocab.cpp`), in the form of the tokenizer.json of the
models that have these names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.data.sources import model_folder

BYTES = "gpt2"  # the kind of vocabulary whose rules have names
KEY = "tokenizer.ggml.pre"

REMEDY = "use the model's own folder, with its tokenizer.json, in place of the file"
# Digits, white space, marks, capitals, contractions, and letters that NFC puts together.
PROBE = (
    "In  2024:\n\n  12 o'clock, it'LL x²  3,141.59!\tNaïve e\u0301te\u0301 日本 ٣٤ (a_b)\r\n 007 "
    "BigBig \u1112\u1161"
)

_DIGITS = ("digits",)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")
_DEEPSEEK_3 = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


class Rules(NamedTuple):
    """What a name stands for.

    Attributes:
        splits: patterns that cut a text one after the other; `digits` and none at all are followed
            by GPT-2's, and None leaves those of transformers.
        composed: whether the text is put into Unicode's NFC first.
        whole_words: whether a word of the vocabulary is one token, whatever the merges make of it.
        begins: whether a text begins with BOS where the file does not say.
    """

    splits: tuple[str, ...] | None = None
    composed: bool = False
    whole_words: bool = False
    begins: bool = False


_LLAMA_3 = Rules(whole_words=True, begins=True)
RULES = {
    **dict.fromkeys(("gpt-2", "phi-2"), Rules(())),
    **dict.fromkeys(("mpt", "olmo"), Rules((), composed=True)),
    **dict.fromkeys(("smollm", "starcoder", "refact"), Rules(_DIGITS)),
    "command-r": Rules(_DIGITS, composed=True),
    "deepseek-coder": Rules(_DEEPSEEK_CODER),
    "deepseek-v3": Rules(_DEEPSEEK_3),
    "qwen2": Rules(composed=True),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1"), _LLAMA_3),
    **dict.fromkeys(("pixtral", "midm-2.0", "lfm2", "tekken"), _LLAMA_3),
}


def load(path: Path, where: str) -> tuple[Any, str]:
    """Return (tokenizer, note on what was rebuilt) of a `.gguf` file.

    Raises:
        PrunegridError: it cannot be read, or the rules of its splits are not known.
    """
    from gguf import GGUFReader
    from transformers.integrations.gguf import gguf_tokenizer_mapping

    fields = GGUFReader(path).fields
    kind, name = (_value(fields, key) for key in ("tokenizer.ggml.model", KEY))
    own = gguf_tokenizer_mapping.GGUF_PRE_TOKENIZER_SPLITS
    if kind == BYTES and name not in {*RULES, *own}:
        shown = "missing" if name is None else f"{name!r}, whose rules are not known"
        raise PrunegridError(
            f"the name of the file's pre-tokenizer ({KEY}) is {shown}",
            where=where,
            expected=f"a name such as {nearest(str(name), {*RULES, *own})}",
            remedy=REMEDY,
        )
    tokenizer = model_folder.read_tokenizer(path.parent, where, gguf_file=path.name)
    if kind != BYTES:
        return tokenizer, f"tokenizer rebuilt from its vocabulary ({kind})"
    rules = RULES.get(name, Rules())
    _apply(rules, tokenizer)
    if rules.begins and _value(fields, "tokenizer.ggml.add_bos_token") is None:
        tokenizer.add_bos_token = True
    note = f"tokenizer rebuilt from its vocabulary and the splits of {name}"
    return _plain(tokenizer), note


def require_kept(tokenizer: Any, folder: Path, where: str) -> None:
    """Check that a tokenizer is read again from a folder as it was saved.

    transformers takes the class of some architectures' tokenizers, with the rules of that class,
    whatever tokenizer.json says.

    Raises:
        PrunegridError: it is another.
    """
    again = model_folder.read_tokenizer(folder, where)
    if again(PROBE)["input_ids"] != tokenizer(PROBE)["input_ids"]:
        raise PrunegridError(
            "transformers has other rules for the tokenizer of this architecture than the file has",
            where=where,
            remedy=REMEDY,
        )


def _value(fields: dict[str, Any], key: str) -> Any:
    return fields[key].contents() if key in fields else None


def _plain(tokenizer: Any) -> Any:
    """Return a tokenizer without a class of its own, whose rules would come back when it is read.

    Template, length and roles stay; the rest is in the backend.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        chat_template=tokenizer.chat_template,
        model_max_length=tokenizer.model_max_length,
        clean_up_tokenization_spaces=False,
        **tokenizer.special_tokens_map,
    )


def _apply(rules: Rules, tokenizer: Any) -> None:
    """Put rules in the place of those that a tokenizer was built with."""
    from tokenizers import Regex, normalizers, pre_tokenizers

    backend = tokenizer.backend_tokenizer
    if rules.composed:
        backend.normalizer = normalizers.NFC()
    if rules.whole_words:
        backend.model.ignore_merges = True
    if rules.splits is None:
        return
    plain = rules.splits in ((), _DIGITS)
    steps = [pre_tokenizers.Digits(individual_digits=True)] if rules.splits == _DIGITS else []
    if not plain:
        steps = [pre_tokenizers.Split(Regex(rule), "isolated") for rule in rules.splits]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=plain))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)

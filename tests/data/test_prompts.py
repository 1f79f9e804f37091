"""Prompts: cut where they say, EOS learned only after whole summaries, a pad that is never EOS."""

from __future__ import annotations

import datetime

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from prunegrid.common.errors import PrunegridError
from prunegrid.data import prompts
from prunegrid.data.sources.tiny import byte_tokenizer

TEMPLATE = "text : {document} summary :"


def tokenizer(**roles):
    entries = ["<pad>", "</s>", "<unk>", "text", "summary", ":", "END"]
    entries += [f"w{i}" for i in range(40)]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(entries)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    roles = {"eos_token": "</s>", "unk_token": "<unk>"} | roles
    return PreTrainedTokenizerFast(tokenizer_object=inner, **roles)


def prompter(positions=64, tok=None, **changes):
    settings = {"template": TEMPLATE, "chat": False, "max_words": None, "max_tokens": None}
    return prompts.Prompter(tok or tokenizer(), settings | changes, positions, "config: data.x")


def words(count, start=0):
    return " ".join(f"w{i % 40}" for i in range(start, start + count))


@pytest.mark.parametrize(
    "text,limit,expected",
    [
        ("a  b\n\nc d", 3, "a  b\n\nc"),
        ("a b", 2, "a b"),
        ("a b \n", 2, "a b \n"),
        ("a b", 5, "a b"),
        ("a b", None, "a b"),
        ("  a b", 1, "  a"),
    ],
)
def test_cut_words(text, limit, expected):
    assert prompts.cut_words(text, limit) == expected


def test_whole_document():
    made = prompter().prompt(words(5), 10, "row")
    assert made.ids == prompter().tokenizer(f"text : {words(5)} summary :")["input_ids"]
    assert not made.cut


def test_cut_by_words_then_by_context():
    made = prompter(max_words=20).prompt(words(30), 10, "row")
    assert len(made.ids) == 24 and made.cut_words and not made.cut_context
    made = prompter(positions=30, max_words=25).prompt(words(30), 10, "row")
    assert len(made.ids) == 20 and made.cut_words and made.cut_context
    # The document's end is cut, the template stays whole.
    assert prompter().tokenizer.decode(made.ids) == f"text : {words(16)} summary :"


def test_legacy_cut_by_tokens():
    made = prompter(max_tokens=4).prompt(words(9), 10, "row")
    assert len(made.ids) == 8 and made.cut_words


def test_no_limit():
    assert len(prompter(positions=None).prompt(words(500), 10, "row").ids) == 504


def test_template_without_room():
    with pytest.raises(PrunegridError, match="no room for the document of row"):
        prompter(positions=12).prompt(words(30), 10, "row")


def test_empty_document():
    with pytest.raises(PrunegridError, match="document of r7 is empty"):
        prompter().prompt(" \n", 10, "r7")


@pytest.mark.parametrize("template", ["no slot", "{document} {document}"])
def test_template_needs_one_slot(template):
    with pytest.raises(PrunegridError, match="expected once"):
        prompter(template=template)


def test_braces_are_text():
    made = prompter(template="{text} {document} {}").prompt("w1 {document} {0}", 5, "row")
    assert len(made.ids) == 5


def test_eos_only_after_a_whole_summary():
    plain = prompter()
    ids, cut = plain.response("w1 w2 w3", None)
    assert ids[-1] == 1 and len(ids) == 4 and not cut
    ids, cut = plain.response("w1 w2 w3", 2)
    assert len(ids) == 2 and 1 not in ids and cut
    ids, cut = plain.response(words(100), None)
    assert len(ids) == 31 and 1 not in ids and cut


def test_end_stands_before_eos():
    ids, cut = prompter(end=" END").response("w1", None)
    assert prompter().tokenizer.convert_ids_to_tokens(ids) == ["w1", "END", "</s>"]
    assert not cut


def test_chat():
    tok = tokenizer()
    with pytest.raises(PrunegridError, match="no chat template"):
        prompter(tok=tok, chat=True)
    tok.chat_template = (
        "{% for m in messages %}w1 {{ m.content }} {% endfor %}"
        "{% if add_generation_prompt %}w2{% endif %}"
    )
    made = prompter(tok=tok, chat=True).prompt("w9", 5, "row")
    assert tok.decode(made.ids) == "w1 text : w9 summary : w2"


def with_template(text):
    """A tokenizer that puts special tokens around every text, as Llama's and T5's do."""
    made = tokenizer(bos_token="<s>")
    made.add_special_tokens({"bos_token": "<s>"})
    pairs = [(token, made.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=text, special_tokens=pairs
    )
    return made


def test_a_bos_comes_first_and_once():
    tok = with_template("<s> $A")
    made = prompter(tok=tok)
    ids = made.prompt(words(5), 10, "row").ids
    assert ids[0] == tok.bos_token_id and ids.count(tok.bos_token_id) == 1
    assert tok.bos_token_id not in made.response("w1 w2", None)[0]
    # A chat template writes its own, and no second one is put before it.
    tok.chat_template = "<s> {{ messages[0]['content'] }}"
    ids = prompter(tok=tok, chat=True).prompt(words(5), 10, "row").ids
    assert ids.count(tok.bos_token_id) == 1


def test_a_tokenizer_that_ends_texts_does_not_end_the_prompt():
    tok = with_template("<s> $A </s>")
    ids = prompter(tok=tok).prompt(words(5), 10, "row").ids
    assert ids[0] == tok.bos_token_id
    assert tok.eos_token_id not in ids


def test_no_eos():
    with pytest.raises(PrunegridError, match="no end-of-sequence token"):
        prompter(tok=tokenizer(eos_token=None))


def test_pad_is_the_tokenizers_own():
    assert prompts.pad_token_id(tokenizer(pad_token="<pad>"), 47, [1]) == 0


def test_pad_is_never_a_stop_token():
    tok = tokenizer(pad_token="</s>")
    tok.add_special_tokens({"additional_special_tokens": ["<turn>", "<spare>"]})
    tok.chat_template = "<turn>{{ messages }}"
    spare = tok.convert_tokens_to_ids("<spare>")
    assert prompts.pad_token_id(tok, 64, [1]) == spare
    # Where the model has no row for it, the unknown token serves.
    assert prompts.pad_token_id(tok, 47, [1]) == 2
    assert prompts.pad_token_id(tok, 64, [1, spare]) == 2


def test_pad_without_any_special_token_left():
    tok = tokenizer(unk_token=None, bos_token="</s>")
    assert prompts.pad_token_id(tok, 47, [1]) == 0
    assert prompts.pad_token_id(tok, 47, [0, 1]) == 2


def test_pad_ignores_tokens_that_are_not_special():
    tok = tokenizer()
    tok.add_tokens([AddedToken("<word>", special=False)])
    assert prompts.pad_token_id(tok, 64, [1]) == 2


def test_prompt_digest():
    asked = [[3, 4], [5]]
    assert prompts.prompt_sha256(asked) == prompts.prompt_sha256([[3, 4], [5]])
    assert len({prompts.prompt_sha256(other) for other in (asked, asked[::-1], [[3, 4, 5]])}) == 3


class Tomorrow(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2031, 5, 6, 7, 8, 9)


@pytest.mark.parametrize(
    "template",
    [
        "{{ strftime_now('%d %b %Y') }} {{ messages[0]['content'] }}",
        "{% if date_string is not defined %}{% set date_string = strftime_now('%Y-%m-%d %H:%M') %}"
        "{% endif %}{{ date_string }} {{ messages[0].content }}",
        "{%- macro today() -%}{{ strftime_now('%A %j') }}{%- endmacro -%}"
        "{{ today() }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% set clock = strftime_now %}{{ clock('%B') }}{{ messages[0].content }}",
    ],
)
def test_the_clock_of_a_chat_template_stands_still(monkeypatch, template):
    tok = byte_tokenizer(512, add_bos=False, encoder=False, chat_template=template)
    asked = {"now": prompter(tok=tok, chat=True).prompt("w1", 5, "row").ids}
    for name, date in (("unset", None), ("usual", "2024-07-26"), ("other", "2023-01-02")):
        asked[name] = prompter(tok=tok, chat=True, chat_date=date).prompt("w1", 5, "row").ids
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    assert prompter(tok=tok, chat=True).prompt("w1", 5, "row").ids == asked["now"]
    assert asked["now"] == asked["unset"] == asked["usual"] != asked["other"]


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ [1, 2] | random }} {{ messages[0].content }}", "draws at random"),
        ("{{ lipsum(n=1) }} {{ messages[0].content }}", "draws at random"),
        ("{{ raise_exception('a system turn is needed') }}", "a system turn is needed"),
        ("{{ messages[1].content }}", "cannot be filled"),
        ("{% if %}", "cannot be filled"),
    ],
)
def test_a_chat_template_that_draws_or_refuses_is_told_before_any_row(template, fault):
    tok = byte_tokenizer(512, add_bos=False, encoder=False, chat_template=template)
    with pytest.raises(PrunegridError, match=f"{fault}.*chat: false"):
        prompter(tok=tok, chat=True)


@pytest.mark.parametrize(
    ("text", "limit", "kept"),
    [
        ("ab\u00e9cd", 3, "ab"),  # two bytes, of which the limit keeps one
        ("ab\u65e5\u672c", 6, "ab\u65e5"),
        ("ab\U0001f600", 5, "ab"),
        ("abe\u0301\u0323cd", 3, "ab"),  # a letter and the marks on it
        ("ab\u0915\u093f", 5, "ab"),
        ("ab\U0001f469\u200d\U0001f467 c", 9, "ab"),
        ("ab\U0001f44d\U0001f3fd c", 6, "ab"),
        ("abcd", 3, "abc"),
        ("ab\u00e9\u00e9", 4, "ab\u00e9"),
    ],
)
def test_no_cut_halves_a_character(text, limit, kept):
    tok = byte_tokenizer(512, add_bos=False, encoder=False)
    own = prompter(tok=tok, positions=None, template="{document}", max_tokens=limit)
    assert own.cut_tokens(text, limit) == kept
    assert tok.decode(own.prompt(text, 0, "row").ids) == kept
    ids, cut = own.response(text, limit)
    assert tok.decode(ids) == kept and cut
    fitted = prompter(tok=tok, positions=limit, template="{document}").prompt(text, 0, "row")
    assert tok.decode(fitted.ids) == kept and fitted.cut_context

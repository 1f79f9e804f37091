"""Small benchmarks in the columns of real ones, made up; and a random model that can be asked."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_NOUNS = ["cup", "lamp", "rope", "door", "nail", "tray", "fork", "sponge", "ladder", "bucket"]
_VERBS = ["clean", "mend", "paint", "lift", "store", "dry", "fold", "move"]


def _phrase(draw: random.Random) -> str:
    return f"{draw.choice(_VERBS)} the {draw.choice(_NOUNS)} with a {draw.choice(_NOUNS)}"


def piqa(count: int, seed: int = 0) -> list[dict]:
    """Return rows {goal, sol1, sol2, label}."""
    draw = random.Random(seed)
    return [
        {
            "goal": f"{_phrase(draw)} ({number})",
            "sol1": _phrase(draw),
            "sol2": _phrase(draw),
            "label": draw.randrange(2),
        }
        for number in range(count)
    ]


def openbookqa(count: int, seed: int = 0) -> list[dict]:
    """Return rows {question_stem, choices: {text, label}, answerKey}."""
    draw = random.Random(seed)
    return [
        {
            "question_stem": f"To {_phrase(draw)} one needs ({number})",
            "choices": {
                "text": draw.sample(_NOUNS, 4),
                "label": list("ABCD"),
            },
            "answerKey": draw.choice("ABCD"),
        }
        for number in range(count)
    ]


def hellaswag(count: int, seed: int = 0) -> list[dict]:
    """Return rows {activity_label, ctx, ctx_a, ctx_b, endings, label}."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        first, second = f"Somebody wants to {_phrase(draw)}.", "then they"
        endings = [f"{_phrase(draw)} [step] again." for _ in range(4)]
        rows.append(
            {
                "activity_label": f"Housework {number}",
                "ctx": f"{first} {second}",
                "ctx_a": first,
                "ctx_b": second,
                "endings": endings,
                "label": str(draw.randrange(4)),
            }
        )
    return rows


def subjects() -> list[str]:
    """Return the subjects of MMLU, as the harness has them."""
    from prunegrid.evaluation.harness import task_definitions

    return sorted(filter(None, task_definitions.find("mmlu", "here").subsets.values()))


def mmlu(each: int, seed: int = 0) -> list[dict]:
    """Return rows {question, subject, choices, answer}, so many of each subject."""
    draw = random.Random(seed)
    return [
        {
            "question": f"Which is best to {_phrase(draw)}?",
            "subject": subject,
            "choices": draw.sample(_NOUNS, 4),
            "answer": draw.randrange(4),
        }
        for subject in subjects()
        for _ in range(each)
    ]


def mrpc(count: int, seed: int = 0) -> list[dict]:
    """Return rows {sentence1, sentence2, label}."""
    draw = random.Random(seed)
    return [
        {"sentence1": _phrase(draw), "sentence2": _phrase(draw), "label": draw.randrange(2)}
        for _ in range(count)
    ]


def cola(count: int, seed: int = 0) -> list[dict]:
    """Return rows {sentence, label}."""
    draw = random.Random(seed)
    return [{"sentence": _phrase(draw), "label": draw.randrange(2)} for _ in range(count)]


def siqa(count: int, seed: int = 0) -> list[dict]:
    """Return rows {context, question, answerA, answerB, answerC, label}."""
    draw = random.Random(seed)
    return [
        {
            "context": f"Kai had to {_phrase(draw)} ({number}).",
            "question": "What will Kai do next?",
            **{f"answer{letter}": _phrase(draw) for letter in "ABC"},
            "label": str(1 + draw.randrange(3)),
        }
        for number in range(count)
    ]


def artifact(folder: Path, **splits: list[dict]) -> Path:
    """Return an artifact of the stage `rows`."""
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    return folder


def model(folder: Path, positions: int = 512, seed: int = 1) -> Path:
    """Return a weights artifact of a small random model with a tokenizer of bytes."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from prunegrid.artifacts import artifact_folder
    from prunegrid.common import file_io
    from prunegrid.data.sources.tiny import byte_tokenizer
    from prunegrid.models import checkpoint

    config = AutoConfig.for_model(
        "llama",
        vocab_size=260,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=positions,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0, 1.0)
    folder.mkdir(parents=True)
    tokenizer = byte_tokenizer(max_length=positions, add_bos=False, encoder=False)
    record = checkpoint.write_plain(made, tokenizer, folder, pattern=None).record
    file_io.write_json(folder / artifact_folder.MANIFEST, {"record": {"weights": record}})
    return folder

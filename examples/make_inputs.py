"""Write the inputs of the examples: a small model and three files of invented weather reports.

    python examples/make_inputs.py FOLDER

The model is a Llama of two blocks with random weights, so an example takes two minutes and its
numbers mean nothing. Put a model of yours in its place, and your own files beside it.
"""

import json
import random
import sys
from pathlib import Path

PLACES = ("Norrby", "Aasen", "Vik", "Holm", "Lunde", "Skar", "Elvdal", "Brekka")
MONTHS = ("January", "March", "April", "June", "August", "October")
SKIES = ("clear", "cloudy", "foggy", "stormy")
DEEDS = ("closed the road", "opened the harbour", "moved the market", "called the pilots")


def report(draw: random.Random) -> dict[str, str]:
    """Return one report: body and abstract, and the sky that both speak of."""
    place, month, sky = draw.choice(PLACES), draw.choice(MONTHS), draw.choice(SKIES)
    day, warmth, wind = draw.randint(1, 28), draw.randint(-12, 27), draw.randint(2, 31)
    deed = draw.choice(DEEDS)
    body = (
        f"On {day} {month} the station at {place} measured {warmth} degrees at noon. "
        f"The sky was {sky}, and the wind blew at {wind} metres a second. "
        f"The council of {place} {deed} in the afternoon. "
        f"By the evening the wind had fallen to {wind // 2} metres a second."
    )
    abstract = f"The day was {sky} in {place}; the council {deed}."
    return {"body": body, "abstract": abstract, "sky": sky}


def write_model(folder: Path, texts: list[str]) -> None:
    """Write a Hugging Face folder: a random Llama, and a tokenizer learned from the texts."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    learned = ByteLevelBPETokenizer()
    specials = ["<s>", "</s>", "<pad>"]
    learned.train_from_iterator(texts, vocab_size=400, special_tokens=specials)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learned._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def main(folder: Path) -> None:
    """Write model/, reports.jsonl, notes.txt and questions.jsonl into a folder."""
    draw = random.Random(0)
    reports = [report(draw) for _ in range(120)]
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"body": r["body"], "abstract": r["abstract"]}) for r in reports]
    (folder / "reports.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    notes = "\n\n".join(r["body"] for r in reports)
    (folder / "notes.txt").write_text(notes + "\n", encoding="utf-8")
    asked = [{"text": r["body"], "answer": SKIES.index(r["sky"])} for r in reports[:40]]
    lines = [json.dumps(question | {"choices": SKIES}) for question in asked]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_model(folder / "model", [r["body"] for r in reports])
    print(f"wrote model, reports.jsonl, notes.txt and questions.jsonl into {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))

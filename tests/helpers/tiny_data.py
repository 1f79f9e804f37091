"""The tiny study's data files: notes with gists, and texts."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.helpers import synthetic


def write_tiny_data(folder: Path, rows: int = 15) -> None:
    """Write notes.jsonl (id, body, gist) and text.jsonl (text) below `folder`."""
    draw = random.Random(0)
    notes = []
    for index in range(rows):
        body = [synthetic.sentence(draw) for _ in range(4)]
        notes.append({"id": f"n{index}", "body": " ".join(body), "gist": body[0]})
    texts = [{"text": synthetic.text(draw, 60)} for _ in range(rows)]
    for name, lines in (("notes", notes), ("text", texts)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")

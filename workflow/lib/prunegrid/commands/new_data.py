"""The data set of a new study: what its columns hold, and its section of the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.config import local_data
from prunegrid.config.sources import parse_source
from prunegrid.config.validated import Config
from prunegrid.data.sources import readers

DEMO = {"model": "smollm2-135m", "data": "aclsum"}
# Names of columns that are taken for what they say, the likeliest first.
DOCUMENTS = ("document", "body", "article", "dialogue", "source", "input", "report", "text")
SUMMARIES = ("summary", "abstract", "highlights", "target", "summaries", "headline")
TEXTS = ("text", "content", "body", "document", "article", "sentence")
LABELS = ("label", "labels", "class", "category")
LEARNED, SCORED = ("train", "calibration"), ("test", "evaluation", "validation")
MOST_LABELS = 20


def require_source(text: str, option: str, known: Mapping[str, Any]) -> None:
    """Raise a PrunegridError if a model or data set is no profile and no source."""
    try:
        parse_source(text, Path.cwd())
    except ValueError as error:
        remedy = nearest(text, [*known, "demo"])
        raise PrunegridError(f"{option} {text}: {error}", remedy=remedy) from error


@dataclass(frozen=True)
class Data:
    """The data set of a new study.

    Attributes:
        name: of its profile; of the texts where it has labels too.
        kind: summaries, text, or labels.
        text: its section of the file; "" of a profile of the config.
        learned, scored: names of splits.
        columns: {text, label}: of labels.
        source: as the user gave it.
    """

    name: str
    kind: str
    text: str
    learned: str
    scored: str
    columns: Mapping[str, str]
    source: str


def of(asked: str, given: Mapping[str, str], config: Config) -> Data:
    """Return the data set of a profile, or of a user's own source.

    Args:
        asked: a path, hf:org/name, a profile of the config, or `demo`.
        given: {role: column}, as far as the user says.

    Raises:
        PrunegridError: there is no such source, or its columns do not tell what it holds.
    """
    name = DEMO["data"] if asked == "demo" else asked
    if name in config.sections["datasets"]:
        profile = config.profile("datasets", name)
        splits = list(profile.splits)
        learned, scored = (
            next((split for split in wanted if split in splits), splits[place])
            for wanted, place in ((LEARNED, 0), (SCORED, -1))
        )
        if profile.has_items:
            what = f"'{name}' is of kind {profile.kind}"
            raise PrunegridError(what, where="--data", expected="texts")
        return Data(name, profile.kind, "", learned, scored, {}, name)
    require_source(name, "--data", config.sections["datasets"])
    kind, columns = _columns(given, name)
    local = not name.startswith("hf:")
    splits = '{train: "all[:80%]", test: "all[80%:]"}' if local else "{train: train, test: test}"
    told = (
        "of the file's rows" if local else "the hub's names of the splits: check them on its page"
    )
    source = f"    source: {json.dumps(name)}\n"
    splits = f"    splits: {splits} # {told}\n"
    if kind == "summaries":
        named = ", ".join(f"{key}: {json.dumps(columns[key])}" for key in ("document", "summary"))
        text = f"datasets:\n  my-data:\n{source}    columns: {{{named}}}\n{splits}"
        text += '    prompt: "{document}\\n\\nSummary:\\n"\n'
        text += "    max_words: 200 # longer documents are cut, the same for every tokenizer"
        return Data("my-data", kind, text, "train", "test", columns, name)
    named = f"    columns: {{text: {json.dumps(columns['text'])}}}\n"
    text = f"datasets:\n  my-data:\n{source}    kind: text\n{named}{splits}".rstrip("\n")
    if kind == "labels":
        text += f"\n  my-labels: # the same file with all of its columns\n{source}    kind: rows\n"
        text += splits.rstrip("\n")
    return Data("my-data", kind, text, "train", "test", columns, name)


def _columns(said: Mapping[str, str], source: str) -> tuple[str, dict[str, str]]:
    """Return (kind, {role: column}) of a data set, by its columns or by what the user says.

    Raises:
        PrunegridError: the columns tell no kind.
    """
    given = dict(said)
    path = Path(source).expanduser()
    known = local_data.columns(path) if path.is_file() else []
    for role, likely in (("summary", SUMMARIES), ("label", LABELS)):
        found = next((name for name in likely if name in known), None)
        if found and not given:
            given = {role: found}
    if "summary" in given:
        role, likely = "document", DOCUMENTS
    else:
        role, likely = "text", TEXTS
    if role not in given:
        found = next((n for n in likely if n in known and n not in given.values()), None)
        if found is None:
            raise PrunegridError(
                f"its columns ({', '.join(known) or 'unknown'}) do not tell which holds the {role}",
                where=source,
                remedy="say it: --columns document=NAME summary=NAME, or text=NAME [label=NAME]",
            )
        given[role] = found
    kind = "summaries" if "summary" in given else "labels" if "label" in given else "text"
    return kind, given


def labels(data: Data) -> list[str]:
    """Return the labels of a local file in order, as texts; [] where they cannot be choices."""
    if data.kind != "labels" or not Path(data.source).is_file():
        return []
    found = {row.get(data.columns["label"]) for row in readers.read(Path(data.source), None, "")}
    numbers = set(range(len(found)))
    if len(found) > MOST_LABELS or not (found == numbers or all(type(v) is str for v in found)):
        return []
    return [str(label) for label in sorted(found)]

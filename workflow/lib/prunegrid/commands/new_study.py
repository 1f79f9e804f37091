"""A study of a user's own model and data, written as a commented YAML file (`prunegrid init`)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunegrid.commands import cli_config
from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.common.model_family import tasks_of
from prunegrid.config import local_data
from prunegrid.config.profiles import Model
from prunegrid.config.sources import known_config, parse_source
from prunegrid.config.validated import Config
from prunegrid.data.sources import readers

DEMO = {"model": "smollm2-135m", "data": "aclsum"}
# Names of columns that are taken for what they say, the likeliest first.
DOCUMENTS = ("document", "body", "article", "dialogue", "source", "input", "report", "text")
SUMMARIES = ("summary", "abstract", "highlights", "target", "summaries", "headline")
TEXTS = ("text", "content", "body", "document", "article", "sentence")
LABELS = ("label", "labels", "class", "category")
LEARNED, SCORED = ("train", "calibration"), ("test", "evaluation", "validation")
WINDOW = 128
MOST_LABELS = 20


@dataclass(frozen=True)
class Choices:
    """What a user chose; None and {} leave it to what is found.

    Attributes:
        model: a path, hf:org/name, a profile of the config, or `demo`.
        data: likewise, of a data set.
        columns: {document, summary, text or label: column of the data}.
        out: the file to write; its stem is the study's name.
    """

    model: str
    data: str
    out: Path
    method: str = "wanda"
    pattern: str = "2:4"
    sparsity: float = 0.5
    finetune: str = "lora"
    columns: Mapping[str, str] = field(default_factory=dict)


def write(choices: Choices) -> str:
    """Write the study's file, check it as every run does, and return the study's name.

    Raises:
        PrunegridError: the file exists, the columns cannot be told, or the config has faults; no
            file is left then.
    """
    if choices.out.exists():
        remedy = "name another by --out, or remove it"
        raise PrunegridError("exists already", where=str(choices.out), remedy=remedy)
    config, _ = cli_config.validated([])
    text = _text(choices, config)
    with choices.out.open("x", encoding="utf-8") as handle:
        handle.write(text)
    try:
        cli_config.validated([choices.out])
    except PrunegridError:
        choices.out.unlink()
        raise
    return choices.out.stem


def _text(choices: Choices, config: Config) -> str:
    """Return the whole file."""
    name = choices.out.stem
    schema = os.path.relpath(cli_config.ROOT / "config/schema.json", choices.out.resolve().parent)
    model, task, models = _model(choices, config)
    data = _data(choices, config)
    parts = [
        f"# yaml-language-server: $schema={schema}\n"
        f"# A study of a model and a data set of yours. Paths start from the folder you run in.\n"
        f"#\n#   prunegrid run {name} -c {choices.out}",
        models,
        data.text,
        _prune(choices, data),
        _finetune(choices, data, task),
        _evaluations(data, task),
        _study(name, model, choices, data, task),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _model(choices: Choices, config: Config) -> tuple[str, str, str]:
    """Return (name, task, section) of the model; the section is "" of a profile of the config."""
    name = DEMO["model"] if choices.model == "demo" else choices.model
    if name in config.sections["models"]:
        return name, config.profile("models", name).task, ""
    _require_source(name, "--model", config.sections["models"])
    known = tasks_of(known_config(Model(source=name), Path.cwd()))
    order = ("causal-lm", "encoder", "masked-lm", "seq2seq-lm")
    task = next((each for each in order if each in known), "causal-lm")
    if task == "seq2seq-lm":
        raise PrunegridError(
            "is an encoder-decoder, for which no study is written",
            where=name,
            expected="a causal language model, or an encoder",
            remedy="see `translation` in config/README.md",
        )
    text = f"  my-model: {{source: {json.dumps(name)}, task: {task}}}"
    return "my-model", task, f"models:\n{text} # a folder, hf:org/name or a .gguf file"


def _require_source(text: str, option: str, known: Mapping[str, Any]) -> None:
    try:
        parse_source(text, Path.cwd())
    except ValueError as error:
        raise PrunegridError(f"{option} {text}: {error}", remedy=nearest(text, known)) from error


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


def _data(choices: Choices, config: Config) -> Data:
    name = DEMO["data"] if choices.data == "demo" else choices.data
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
    _require_source(name, "--data", config.sections["datasets"])
    kind, columns = _columns(choices, name)
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


def _columns(choices: Choices, source: str) -> tuple[str, dict[str, str]]:
    """Return (kind, {role: column}) of a data set, by its columns or by what the user says.

    Raises:
        PrunegridError: the columns tell no kind.
    """
    given = dict(choices.columns)
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


def _needs_inputs(choices: Choices) -> bool:
    return plugins.facts_for(choices.method, choices.pattern)["NEEDS"] != "nothing"


def _prune(choices: Choices, data: Data) -> str:
    body = f"method: {choices.method}, pattern: {json.dumps(choices.pattern)}"
    if choices.pattern in ("unstructured", "structured"):
        body += f", sparsity: {choices.sparsity}"
    if choices.pattern == "structured":
        body += ", units: [mlp], multiple: 8"
    if not _needs_inputs(choices):
        return f"prune:\n  my-pruning: {{{body}}}"
    drawn = (
        f"dataset: {data.name}, split: {data.learned}, samples: 64, length: {WINDOW}, join: true"
    )
    return (
        "calibration: # the texts on which the method measures the inputs of each linear\n"
        f"  my-samples: {{{drawn}}}\n\nprune:\n  my-pruning: {{{body}, calibration: my-samples}}"
    )


def _finetune(choices: Choices, data: Data, task: str) -> str:
    if choices.finetune == "none" or task != "causal-lm":
        return ""
    body = f"strategy: {choices.finetune}, split: {data.learned}"
    if plugins.strategy_facts(choices.finetune)["TRAINS"]:
        rate = "5.0e-5" if choices.finetune == "full" else "1.0e-3"
        body += f", learning_rate: {rate}, batch_size: 4"
        body += ", rows: 256" if data.kind == "summaries" else f", window: {WINDOW}, max_steps: 64"
    return f"finetune: # pruned weights stay zero\n  my-tuning: {{{body}}}"


def _labels(data: Data) -> list[str]:
    """Return the labels of a local file in order, as texts; [] where they cannot be choices."""
    if data.kind != "labels" or not Path(data.source).is_file():
        return []
    found = {row.get(data.columns["label"]) for row in readers.read(Path(data.source), None, "")}
    numbers = set(range(len(found)))
    if len(found) > MOST_LABELS or not (found == numbers or all(type(v) is str for v in found)):
        return []
    return [str(label) for label in sorted(found)]


def _tasks(data: Data, labels: list[str]) -> str:
    """Return the section `tasks`: which of the labels a causal model finds the likeliest."""
    text, label = (json.dumps(f"{{{{{data.columns[key]}}}}}") for key in ("text", "label"))
    return (
        "tasks: # in the form of lm-evaluation-harness\n"
        "  my-labels:\n    dataset: my-labels\n    split: test\n    metrics: [acc]\n"
        "    define:\n      output_type: multiple_choice\n"
        f'      doc_to_text: {text[:-1]}\\nLabel:"\n'
        f"      doc_to_choice: {json.dumps(labels)}\n      doc_to_target: {label}\n"
        "      metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
        "      metadata: {version: 1.0}\n\n"
    )


def _evaluations(data: Data, task: str) -> str:
    """Return the sections `generation`, `tasks` and `evaluations`, as the data and model need."""
    if task != "causal-lm":
        if data.kind != "labels":
            what = f"a model of the task {task} is asked for labels, and the data has none"
            raise PrunegridError(what, remedy="name the columns: --columns text=NAME label=NAME")
        item = ", ".join(f'{k}: "{{{{{data.columns[k]}}}}}"' for k in ("text", "label"))
        body = f"dataset: my-labels, train_split: train, split: test, items: [{{{item}}}]"
        return f"evaluations:\n  my-classes: {{kind: classification, {body}}}"
    text = f"kind: perplexity, dataset: {data.name}, split: {data.scored}, window: {WINDOW}"
    lines = f"evaluations:\n  my-text: {{{text}, max_windows: 64}}"
    if data.kind == "summaries":
        texts = f"splits: [{data.scored}], rows: 64, generation: my-greedy"
        lines += f"\n  my-summaries: {{kind: texts, {texts}, metrics: [rouge, repetition]}}"
        lines = f"generation:\n  my-greedy: {{max_new_tokens: 64, batch_size: 8}}\n\n{lines}"
    if labels := _labels(data):
        lines = _tasks(data, labels) + lines
        lines += "\n  my-questions: {kind: tasks, tasks: [my-labels], batch_size: 8}"
    return lines


def _study(name: str, model: str, choices: Choices, data: Data, task: str) -> str:
    tuned = choices.finetune != "none" and task == "causal-lm"
    prunes, tunes = "[dense, my-pruning]", "[none, my-tuning]" if tuned else "none"
    asked = "[my-text, my-summaries]" if data.kind == "summaries" else "[my-text]"
    asked = "[my-text, my-questions]" if task == "causal-lm" and _labels(data) else asked
    asked = asked if task == "causal-lm" else "[my-classes]"
    title = f"{choices.method} {choices.pattern} on {choices.model} and {choices.data}"
    return (
        f"studies:\n  {name}:\n    title: {json.dumps(title)}\n    dataset: {data.name}\n"
        f"    grid: {{model: {model}, prune: {prunes}, finetune: {tunes}}} # every combination\n"
        f"    evaluations: {asked}"
    )

r"""How a study's table was made, as paragraphs of LaTeX with `\cite`.

Each value is that of a step's manifest, which its key stands for. Settings that are off (null,
false, empty) are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prunegrid.common.nm_pattern import parse_nm
from prunegrid.common.plugins import PARTS
from prunegrid.tables.citations import HARNESS, NM, SOFTWARE, Cited
from prunegrid.tables.intervals import RESAMPLES
from prunegrid.tables.latex import escape
from prunegrid.tables.study_tables import StudyTables

# Settings that a sentence says in words, that say how a step was computed, or that are long.
_SAID = {"method", "pattern", "sparsity", "strategy", "metrics", "controls", "tasks", "prompt"}
_SAID |= {"cache_dequantized", "gradient_checkpointing", "processes", "documents", "items"}
_SAID |= {"split", "column", "max_windows", "sizes"}
Manifest = Mapping[str, Any]


class _Steps:
    """The steps of a study, and the works that they come from."""

    def __init__(self, tables: StudyTables, used: Iterable[Cited]) -> None:
        self.tables = tables
        self.all = tables.steps()
        self.by_key = {step["key"]: step for step in self.all}
        self.works = {(one.kind, one.name): one.keys for one in used}

    def of(self, *stages: str) -> list[Manifest]:
        """Return the steps of some stages."""
        return [step for step in self.all if step["stage"] in stages]

    def parent(self, step: Manifest, role: str) -> Manifest | None:
        """Return the step that made an input; None without such an input."""
        return self.by_key.get(step["parents"].get(role, {}).get("key"))

    def cite(self, kind: str, name: str) -> str:
        """Return the citation of what was used; "" if no work is known for it."""
        return _cite(self.works.get((kind, name), ()))


def paragraphs(tables: StudyTables, used: Iterable[Cited]) -> list[str]:
    """Return a paragraph on models and software, pruning, recovery, evaluation, and statistics.

    Raises:
        AttestationError: an artifact that the table names is gone.
    """
    steps = _Steps(tables, used)
    parts = {
        "Models and software": [*_models(steps), _software(steps)],
        "Pruning": [_pruning(steps, step) for step in steps.of("prune")],
        "Recovery": [_recovery(steps, step) for step in steps.of("finetune", "transform")],
        "Evaluation": [*_evaluation(steps), *_timing(steps)],
        "Statistics": list(_statistics(tables)),
    }
    return [
        rf"\paragraph{{{title}.}} " + " ".join(dict.fromkeys(sentences))
        for title, sentences in parts.items()
        if sentences
    ]


def _cite(keys: Sequence[str]) -> str:
    return rf"~\cite{{{','.join(keys)}}}" if keys else ""


def _settings(settings: Mapping[str, Any], *skipped: str) -> str:
    """Return settings in words, without those that are off: `rank 8, alpha 16`."""
    said = []
    for name, value in settings.items():
        if name in _SAID or name in skipped or value in (None, False, "", [], {}):
            continue
        if isinstance(value, Mapping):
            said.append(_settings(value))
        else:
            items = value if isinstance(value, list) else [] if value is True else [value]
            words = [name.replace("_", " "), " and ".join(map(str, items))]
            said.append(escape(" ".join(filter(None, words))))
    return ", ".join(filter(None, said))


def _name(step: Manifest) -> str:
    """Return the name of a step's profile: the last words of its label."""
    return escape(step["label"].rsplit(" > ")[-1].partition(" ")[2])


def _models(steps: _Steps) -> Iterator[str]:
    for step in steps.of("model"):
        name, source = step["label"].removeprefix("model "), step["record"]["source"]
        where = source["name"].replace("@", ", revision ")
        made = {"local": "was read from a local folder", "random": "has random weights"}
        text = made.get(source["kind"], f"was read from {escape(where)}")
        text = f"{escape(name)}{steps.cite('model', name)} {text}"
        yield f"{text} and is stored in {step['settings']['dtype']}."


def _software(steps: _Steps) -> str:
    """Return what ran the study, in which versions, on which devices."""
    found: dict[str, dict[str, None]] = {}
    for step in steps.all:
        for name, version in step.get("versions", {}).items():
            found.setdefault(name, {})[version] = None
    used = [
        f"{name} {escape(' and '.join(found[name]))}{_cite([key])}"
        for name, key in SOFTWARE.items()
        if name in found
    ]
    devices = dict.fromkeys(step["device"] for step in steps.all)
    dtypes = dict.fromkeys(filter(None, (step["compute_dtype"] for step in steps.all)))
    text = f"Steps were run by prunegrid {steps.tables.manifest['prunegrid']} on Snakemake"
    text += _cite([SOFTWARE["Snakemake"]]) + (f", with {' and '.join(used)}" if used else "")
    return f"{text}, on {escape(' and '.join(devices))}, in {' and '.join(dtypes)}."


def _pruning(steps: _Steps, step: Manifest) -> str:
    """Return the method, pattern, settings and calibration of a pruning step."""
    settings = step["settings"]
    pattern = settings["pattern"]
    nm = _cite([NM]) if parse_nm(pattern) else ""
    share = "" if settings.get("sparsity") is None else f", sparsity {settings['sparsity']}"
    text = f"{_name(step)}: {escape(settings['method'])}{steps.cite('method', settings['method'])}"
    text += f", {pattern}{nm}{share}"
    for kind in PARTS:
        name = settings.get(kind)
        if name not in (None, "none", "uniform"):
            text += f", {kind} {escape(name)}{steps.cite(kind, name)}"
    rest = _settings(settings, *PARTS)
    text += f", {rest}" if rest else ""
    calibration = steps.parent(step, "calibration")
    return text + (f"; {_calibrated(steps, calibration)}." if calibration else ".")


def _calibrated(steps: _Steps, step: Manifest) -> str:
    """Return what a calibration drew its windows from."""
    settings, data = step["settings"], steps.parent(step, "data")
    text = f"calibrated on {settings['samples']} windows of {settings['length']} tokens"
    text += f" of {_data(steps, data)}, split {escape(settings['split'])}" if data else ""
    rest = _settings(settings, "samples", "length")
    return text + (f", {rest}" if rest else "")


def _data(steps: _Steps, step: Manifest) -> str:
    name = step["label"].removeprefix("data ")
    return escape(name) + steps.cite("data", name)


def _recovery(steps: _Steps, step: Manifest) -> str:
    """Return the strategy and settings of a step after pruning, and what it learned from."""
    settings, trained = step["settings"], step["record"].get("train")
    strategy = settings["strategy"]
    text = f"{_name(step)}: {escape(strategy)}{steps.cite('recovery', strategy)}"
    rest = _settings(settings)
    text += f", {rest}" if rest else ""
    data, calibration = steps.parent(step, "data"), steps.parent(step, "calibration")
    if data and trained:
        text += f"; {trained['steps']} steps on {trained['tokens']} tokens of {_data(steps, data)}"
        text += f", split {escape(settings['split'])}"
    return text + (f"; {_calibrated(steps, calibration)}." if calibration else ".")


def _evaluation(steps: _Steps) -> Iterator[str]:
    """Yield what was asked of every model, and how texts were scored."""
    for step in steps.of("perplexity"):
        settings, record = step["settings"], step["record"]
        text = f"Perplexity ({escape(record['metric'])}) over {record['windows']} windows"
        yield f"{text} of {_asked(steps, step)}, {_settings(settings)}."
    for step in steps.of("predictions", "translations"):
        settings, rows = step["settings"], step["record"]["rows"]
        sampling = () if settings["do_sample"] else ("temperature", "top_p")
        rest = _settings(settings, *sampling, "rows")
        yield f"Texts of {rows} documents of {_asked(steps, step)}, {rest}."
    for step in steps.of("scores"):
        modules = dict.fromkeys(one["module"] for one in step["settings"]["metrics"].values())
        names = dict(zip(step["settings"]["metrics"], modules, strict=False))
        said = [escape(name) + steps.cite("metric", name) for name in names]
        yield f"Metrics of texts: {', '.join(said)}."
    for step in steps.of("controls"):
        methods = [one["method"] for one in step["settings"]["controls"]]
        said = [escape(name) + steps.cite("control", name) for name in methods]
        yield f"Controls, texts without a model: {', '.join(said)}."
    for step in steps.of("tasks"):
        yield f"Benchmarks by lm-evaluation-harness{_cite([HARNESS])}: {_benchmarks(steps, step)}."
    for step in steps.of("distances"):
        text = f"Distance from the dense model{steps.cite('evaluation', 'distances')}: KL and the "
        text += f"share of equal likeliest tokens, on {_asked(steps, step)}"
        yield f"{text}, {_settings(step['settings'])}."
    for step in steps.of("answers"):
        names = ", ".join(escape(part["task"]) for part in step["record"]["parts"].values())
        text = f"Flips against the dense model{steps.cite('evaluation', 'answers')}, and answers "
        yield f"{text}written greedily: {names}."
    for step in steps.of("classification"):
        yield f"Classification of {_asked(steps, step)}, {_settings(step['settings'])}."


def _asked(steps: _Steps, step: Manifest) -> str:
    """Return the data that a step asked about, with the split."""
    data, split = steps.parent(step, "data"), escape(step["settings"]["split"])
    return f"{_data(steps, data)}, split {split}" if data else f"split {split}"


def _benchmarks(steps: _Steps, step: Manifest) -> str:
    """Return the benchmarks of a step, each with its data and examples."""
    said = []
    for place, task in enumerate(step["settings"]["tasks"]):
        data = steps.parent(step, f"data.{place}")
        rows = f", first {task['rows']} rows" if task["rows"] else ""
        text = f"{escape(task['task'])} ({task['shots']} shots, split {escape(task['split'])}{rows}"
        said.append(text + (f"; {_data(steps, data)})" if data else ")"))
    return ", ".join(said)


def _timing(steps: _Steps) -> Iterator[str]:
    for step in steps.of("efficiency", "passes"):
        yield f"Speed in turns with the untouched model: {_settings(step['settings'])}."


def _statistics(tables: StudyTables) -> Iterator[str]:
    """Yield how intervals were made, and how declared contrasts were tested."""
    if tables.long is not None:
        seed = tables.plan["bootstrap_seed"]
        text = f"percentile bootstrap over items, {RESAMPLES} samples, seed {seed}"
        yield f"Intervals: 95\\%, {text}."
    if contrasts := tables.plan.get("contrasts"):
        tests = len(contrasts) + sum(one["margin"] is not None for one in contrasts)
        yield f"Contrasts: {len(contrasts)} declared, paired sign flips over items, two-sided 5\\%,"
        yield f"Holm's correction over {tests} test{'s' * (tests > 1)}."

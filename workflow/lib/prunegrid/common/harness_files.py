"""The harness's own definitions of benchmarks, found by the lines of its files.

Nothing of the harness is imported, and no code that a definition names is run.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path
from typing import Any

import yaml

_NAME = re.compile(r"^[\"']?(?:task|group)[\"']?:\s*[\"']?(\S.*?)[\"']?\s*$", re.M)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """A safe loader that reads `!function` and the like as None."""

    yaml_multi_constructors = {"!": lambda loader, suffix, node: None}  # noqa: RUF012


@functools.cache
def files() -> dict[str, Path]:
    """Return {task or group: the file that defines it}; {} where the harness is not installed.

    Their lines tell: to parse all files takes ten seconds.
    """
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        return {}
    found: dict[str, Path] = {}
    for path in sorted(Path(spec.origin).parent.glob("tasks/**/*.yaml"), key=Path.as_posix):
        for name in _NAME.findall(path.read_text(encoding="utf-8")):
            found.setdefault(name, path)
    return found


def lines_for(name: str) -> list[str]:
    """Return the lines of a config that define a task of the harness; none for a name it lacks.

    The data are those of the harness, and the split is the one that it scores.
    """
    path = files().get(name)
    facts = _facts(path) if path else {}
    split = facts.get("test_split") or facts.get("validation_split")
    if not facts.get("dataset_path") or not split or not isinstance(facts.get("task"), str):
        return []
    data = {"source": f"hf:{facts['dataset_path']}", "subset": facts.get("dataset_name")}
    data |= {"kind": "rows", "splits": {split: split}}
    listed = [metric.get("metric") for metric in facts.get("metric_list") or ()]
    task = {"dataset": f"{name}-rows", "split": split}
    task |= {"metrics": listed} if all(isinstance(metric, str) for metric in listed) else {}
    bodies = {"datasets": {f"{name}-rows": data}, "tasks": {name: task}}
    return [f"{section}: {_flow(body)}" for section, body in bodies.items()]


def _facts(path: Path, depth: int = 5) -> dict[str, Any]:
    """Return a definition, over those that it includes."""
    loader = _Loader(path.read_text(encoding="utf-8"))
    try:
        body = loader.get_single_data()
    finally:
        loader.dispose()
    included = path.parent / str(body.get("include"))
    if depth and included.is_file():
        return _facts(included, depth - 1) | body
    return body


def _flow(value: Any) -> str:
    """Return a value as one line of YAML, without the keys that hold nothing."""
    if isinstance(value, dict):
        kept = ((key, _flow(v)) for key, v in value.items() if v is not None and v != [])
        return "{" + ", ".join(f"{key}: {text}" for key, text in kept) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return f'"{value}"' if ":" in value else str(value)

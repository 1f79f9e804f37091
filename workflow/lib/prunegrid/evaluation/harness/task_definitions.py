"""Task definitions: where the harness keeps one, and the same one over data of this pipeline.

A definition of ours includes the harness's file and replaces where its rows come from, and which
split is scored, and how many shots are shown; prompt, choices, filters and metrics stay its own.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet
import yaml

from prunegrid.common.errors import PrunegridError, nearest


@dataclass(frozen=True)
class Definition:
    """A task as it is defined.

    Attributes:
        name: its name.
        folder: of its file; a group's members lie there too.
        files: {task: file} of the tasks that it stands for, itself or its members.
        subsets: {task: the name of its part of the data set, None without}.
        group: whether it stands for several.
    """

    name: str
    folder: Path
    files: dict[str, Path]
    subsets: dict[str, str | None]
    group: bool


def find(name: str, where: str) -> Definition:
    """Return the harness's own definition of a task or group.

    Raises:
        PrunegridError: it has none of that name, or one that is Python code.
    """
    import lm_eval.tasks

    root = Path(lm_eval.tasks.__file__).parent
    folder = _folder(root, name)
    if folder is None:
        close = difflib.get_close_matches(name, _names(root), n=3)
        raise PrunegridError(
            f"the harness has no task {name!r}",
            where=where,
            remedy=f"did you mean {' or '.join(map(repr, close))}?" if close else "see its list",
        )
    index = _index(folder)
    entry = index.get(name)
    if entry is None:
        raise PrunegridError(f"{folder} defines no task {name!r}", where=where)
    leaves = {leaf.name: leaf for leaf in _leaves(entry, index, where)}
    for leaf in leaves.values():
        if leaf.kind.name != "TASK":
            raise PrunegridError(
                f"the task {leaf.name!r} is Python code of its own",
                where=where,
                expected="a task that is a YAML file, whose data can be replaced",
            )
    return Definition(
        name,
        folder,
        {task: leaf.yaml_path for task, leaf in leaves.items()},
        {task: (leaf.cfg or {}).get("dataset_name") for task, leaf in leaves.items()},
        group=entry.kind.name == "GROUP",
    )


def of_config(name: str, body: Mapping[str, Any], folder: Path) -> Definition:
    """Return the definition of a user's own task, written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "own.txt"  # not .yaml: only ours, which includes it, is to be found
    path.write_text(yaml.safe_dump(dict(body), sort_keys=False), encoding="utf-8")
    return Definition(name, folder, {name: path}, {name: None}, group=False)


def overlay(
    definition: Definition,
    settings: Mapping[str, Any],
    data: Path,
    scratch: Path,
    where: str,
) -> list[Path]:
    """Return the folders that the harness's TaskManager is to read, ours last.

    Args:
        definition: of the task.
        settings: split, shots, shots_from, by, rows (see `config.tasks.Task`).
        data: artifact of the stage `rows`.
        scratch: a folder for definitions, rows by subset, and what `datasets` caches.

    Raises:
        PrunegridError: the group needs `by`, or a member has no rows.
    """
    if settings["by"] is None and len(definition.files) > 1:
        raise PrunegridError(
            f"'{definition.name}' stands for {len(definition.files)} tasks",
            where=where,
            expected="`by`: the column that says whose row it is, or the tasks one by one",
        )
    place = scratch / "definitions"
    place.mkdir(parents=True, exist_ok=True)
    splits = dict.fromkeys(filter(None, (settings["split"], settings["shots_from"])))
    whole = {split: data / f"{split}.parquet" for split in splits}
    tables = {}
    if settings["by"] is not None:
        tables = {split: _table(path, settings["by"], where) for split, path in whole.items()}
    for task, path in definition.files.items():
        files = whole
        if settings["by"] is not None:
            files = _subset(tables, settings["by"], definition.subsets[task], scratch, where)
        body = {
            "include": str(path.resolve()),  # the harness looks for others beside the file
            "task": task,
            "dataset_path": "parquet",
            "dataset_name": None,
            "dataset_kwargs": {
                "data_files": {split: str(file) for split, file in files.items()},
                "cache_dir": str(scratch / "datasets"),
            },
            "training_split": None,
            "validation_split": None,
            "test_split": settings["split"],
            "fewshot_split": settings["shots_from"],
            "num_fewshot": settings["shots"],
        }
        text = yaml.safe_dump(body, sort_keys=False)
        (place / f"{task}.yaml").write_text(text, encoding="utf-8")
    return [definition.folder, place] if definition.group else [place]


def _folder(root: Path, name: str) -> Path | None:
    """Return the folder of the file that defines a name; to parse all files takes ten seconds."""
    line = re.compile(rf"^[\"']?(task|group)[\"']?:\s*[\"']?{re.escape(name)}[\"']?\s*$", re.M)
    for path in sorted(root.glob("**/*.yaml"), key=lambda found: found.as_posix()):
        if line.search(path.read_text(encoding="utf-8")):
            return path.parent
    return None


def _index(folder: Path) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(folder), include_defaults=False).task_index


def _names(root: Path) -> list[str]:
    line = re.compile(r"^[\"']?(?:task|group)[\"']?:\s*[\"']?([\w.-]+)[\"']?\s*$", re.M)
    return [
        name
        for path in root.glob("*/*.yaml")
        for name in line.findall(path.read_text(encoding="utf-8"))
    ]


def _leaves(entry: Any, index: Mapping[str, Any], where: str) -> list[Any]:
    """Return the entries of the single tasks that an entry stands for."""
    if entry.kind.name == "GROUP":
        members = (entry.cfg or {}).get("task") or []
    elif entry.kind.name == "TAG":
        members = sorted(entry.tags)
    else:
        return [entry]
    found = []
    for member in members:
        if not isinstance(member, str) or member not in index:
            raise PrunegridError(
                f"the group {entry.name!r} has the member {member!r}",
                where=where,
                expected="names of tasks in the same folder",
                remedy="list its tasks one by one",
            )
        found += _leaves(index[member], index, where)
    return found


def _table(path: Path, by: str, where: str) -> pyarrow.Table:
    table = pyarrow.parquet.read_table(path)
    if by not in table.column_names:
        raise PrunegridError(
            f"there is no column {by!r}", where=where, remedy=nearest(by, table.column_names)
        )
    return table


def _subset(
    tables: Mapping[str, pyarrow.Table], by: str, subset: str | None, scratch: Path, where: str
) -> dict[str, Path]:
    """Return {split: file} of the rows of one subset."""
    folder = scratch / "subsets" / str(subset)
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split, table in tables.items():
        chosen = table.filter(pyarrow.compute.equal(table[by], subset))
        if not len(chosen):
            raise PrunegridError(
                f"no row of the split '{split}' has {subset!r} as its {by}", where=where
            )
        files[split] = folder / f"{split}.parquet"
        pyarrow.parquet.write_table(chosen, files[split])
    return files

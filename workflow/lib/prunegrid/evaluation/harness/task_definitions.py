"""Benchmarks as the harness defines them, over data of this pipeline.

A definition of ours includes the harness's file and replaces the source of its rows, the split that
is scored, and the number of shots; prompt, choices, filters and metrics stay its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.compute
import pyarrow.parquet
import yaml

from prunegrid.artifacts.parts import part_folder
from prunegrid.common import harness_files
from prunegrid.common.errors import PrunegridError, nearest


class Benchmark(NamedTuple):
    """A benchmark over its rows, ready to run.

    Attributes:
        settings: task, define, split, shots, shots_from, by, rows, metrics.
        folder: the name of its folder in the artifact.
        definitions: folders of definitions, the later over the earlier.
        where: a label for errors.
    """

    settings: dict[str, Any]
    folder: str
    definitions: list[Path]
    where: str


class Definition(NamedTuple):
    """The definition of a task, or of a group of tasks.

    Attributes:
        files: {task: file} of the task or of the group's members.
        subsets: {task: the name of its part of the data set, None without}.
        folders: of a group, which the harness reads too.
    """

    files: dict[str, Path]
    subsets: dict[str, str | None]
    folders: list[Path]


def prepare(
    place: int, settings: dict[str, Any], rows: Path, scratch: Path, where: str
) -> Benchmark:
    """Return a benchmark with its definition over its rows.

    Args:
        place: among the benchmarks of the artifact.
        settings: of the benchmark (see `config.tasks.Task`).
        rows: artifact of the stage `rows`.
        scratch: a folder for definitions, rows by subset, and the cache of `datasets`.

    Raises:
        PrunegridError: no such task, a group without `by`, or a member without rows.
    """
    name = settings["task"]
    where, scratch = f"{where}: {name}", scratch / str(place)
    scratch.mkdir(parents=True, exist_ok=True)
    if settings["define"] is None:
        definition = find(name, where)
    else:
        definition = _own(name, settings["define"], scratch / "own")
    folders = _overlay(definition, settings, rows, scratch, where)
    return Benchmark(settings, part_folder(place, name), folders, where)


def find(name: str, where: str) -> Definition:
    """Return the harness's own definition of a task or group.

    Raises:
        PrunegridError: it has none of that name, or one that is Python code.
    """
    import lm_eval.tasks

    folders = {name: file.parent for name, file in harness_files.files().items()}
    index = {}
    if name in folders:
        manager = lm_eval.tasks.TaskManager(include_path=str(folders[name]), include_defaults=False)
        index = manager.task_index
    if name not in index:
        close = difflib.get_close_matches(name, folders, n=3)
        raise PrunegridError(
            f"the harness has no task {name!r}",
            where=where,
            remedy=f"did you mean {' or '.join(map(repr, close))}?" if close else "see its list",
        )
    leaves = {leaf.name: leaf for leaf in _leaves(index[name], index, where)}
    for leaf in leaves.values():
        if leaf.kind.name != "TASK":
            raise PrunegridError(
                f"the task {leaf.name!r} is Python code of its own",
                where=where,
                expected="a task that is a YAML file, whose data can be replaced",
            )
    return Definition(
        {task: leaf.yaml_path for task, leaf in leaves.items()},
        {task: (leaf.cfg or {}).get("dataset_name") for task, leaf in leaves.items()},
        [folders[name]] if index[name].kind.name == "GROUP" else [],
    )


def _own(name: str, body: Mapping[str, Any], folder: Path) -> Definition:
    """Return the definition of a user's own task, written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "own.txt"  # not .yaml: the harness must find only ours, which includes it
    path.write_text(yaml.safe_dump(dict(body), sort_keys=False), encoding="utf-8")
    return Definition({name: path}, {name: None}, [])


def _overlay(
    definition: Definition, settings: Mapping[str, Any], data: Path, scratch: Path, where: str
) -> list[Path]:
    """Return the folders that the harness's TaskManager is to read, ours last."""
    by = settings["by"]
    if by is None and len(definition.files) > 1:
        raise PrunegridError(
            f"'{settings['task']}' stands for {len(definition.files)} tasks",
            where=where,
            expected="`by`: the column that says whose row it is, or the tasks one by one",
        )
    place = scratch / "definitions"
    place.mkdir(parents=True, exist_ok=True)
    splits = dict.fromkeys(filter(None, (settings["split"], settings["shots_from"])))
    files = {split: data / f"{split}.parquet" for split in splits}
    tables = {} if by is None else {s: _table(path, by, where) for s, path in files.items()}
    for task, path in definition.files.items():
        if by is not None:
            files = _subset(tables, by, definition.subsets[task], scratch, where)
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
    return [*definition.folders, place]


def _leaves(entry: Any, index: Mapping[str, Any], where: str) -> list[Any]:
    """Return the entries of the single tasks that an entry stands for."""
    if entry.kind.name == "GROUP":
        members = (entry.cfg or {}).get("task") or []
    elif entry.kind.name == "TAG":
        members = sorted(entry.tags)
    else:
        return [entry]
    leaves = []
    for member in members:
        if not isinstance(member, str) or member not in index:
            raise PrunegridError(
                f"the group {entry.name!r} has the member {member!r}",
                where=where,
                expected="names of tasks in the same folder",
                remedy="list its tasks one by one",
            )
        leaves += _leaves(index[member], index, where)
    return leaves


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

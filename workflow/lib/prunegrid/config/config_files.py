"""The files of a config, merged in order: shipped profiles, the user's entry, --configfile.

`config/*.yaml` and `config/studies/*.yaml` hold named profiles, each name once. `config.yaml` is
laid over all of them, then each file of --configfile: mappings key by key, anything else whole.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from prunegrid.common.errors import PrunegridError
from prunegrid.config import plain_data, yaml_traps

ENTRY = "config.yaml"
FOLDER = "config"
STUDIES = "studies"
# libyaml reads the shipped files in 10 ms; without it, Python takes 80.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ConfigError(PrunegridError):
    """Every fault of a config, one a line."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        lines = "\n".join(f"  {fault}" for fault in faults)
        super().__init__(f"the configuration has {len(faults)} error(s):\n{lines}")

    def __reduce__(self):
        return (type(self), (self.faults,))


def project_files(root: Path) -> list[Path]:
    """Return the files of the config of the project at `root`, in order; the user's entry last."""
    shipped = sorted((root / FOLDER).glob("*.yaml"))
    return [*shipped, *sorted((root / FOLDER / STUDIES).glob("*.yaml")), root / ENTRY]


def read_files(files: Iterable[Path], over: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the files, and then `over`, merged as Snakemake does: mappings by key, else replaced.

    Raises:
        PrunegridError: a file cannot be read, or is no mapping.
        ConfigError: a file holds values that are not plain data.
    """
    from snakemake.utils import update_config  # takes 0.15 s, and few who import this read files

    merged: dict[str, Any] = {}
    for path in files:
        try:
            layer = _read(path)
        except yaml.MarkedYAMLError as error:
            place = f"{path}, line {error.problem_mark.line + 1}"
            what = f"is no YAML: {error.problem}"
            remedy = "check the line and the one above: brackets, colons, quotes, spaces for tabs"
            raise PrunegridError(what, where=place, remedy=remedy) from error
        except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
            raise PrunegridError(f"cannot be read ({error})", where=str(path)) from error
        if not isinstance(layer, Mapping):
            what = f"a {type(layer).__name__}"
            raise PrunegridError(what, where=str(path), expected="sections with names")
        if faults := plain_data.faults(layer, Places([path])):
            raise ConfigError(faults)
        update_config(merged, copy.deepcopy(layer))
    if over is not None:
        update_config(merged, over)
    return merged


def check_given(words: Sequence[str]) -> None:
    """End a command of Snakemake in one sentence if a file of its --configfile cannot be read.

    Snakemake reads these files before any Snakefile, and names neither file nor line. Its default
    profile calls this.

    Args:
        words: the command line.
    """
    given = ""
    for word in words:
        if word.startswith("-"):
            given, _, value = word.partition("=")
            word = value
        if word and given in ("--configfile", "--configfiles"):
            try:
                if word.startswith("results/"):
                    remedy = "put -- before the results that you ask for"
                    raise PrunegridError("is no config file", where=word, remedy=remedy)
                read_files([Path(word)])
            except PrunegridError as error:
                sys.exit(f"prunegrid: {error}")


def defined_twice(files: Iterable[Path]) -> list[str]:
    """Return a sentence for each profile that two of the shipped files define.

    Only `config.yaml` and files of --configfile may define a profile again.
    """
    first: dict[tuple[str, str], Path] = {}
    faults = []
    for path in filter(_is_shipped, files):
        for section, profiles in _read(path).items():
            for name in profiles if isinstance(profiles, Mapping) else ():
                known = first.setdefault((section, name), path)
                if known != path:
                    text = f"is defined in {_shown(known)} too; give one of the two another name"
                    faults.append(f"{_shown(path)}: {section}.{name} {text}")
    return faults


class Places:
    """Names the file of a key in error messages; the files are read once there is an error."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    @functools.cached_property
    def _layers(self) -> list[tuple[Path, Any]]:
        return [(path, _read(path)) for path in self.files]

    def __call__(self, *keys: Any) -> str:
        """Return `file: dotted.key`, with the last of the files that holds most of the path."""
        best, depth = None, -1
        for path, tree in self._layers:
            level = 0
            for key in keys:
                if not isinstance(tree, Mapping) or key not in tree:
                    break
                tree, level = tree[key], level + 1
            if level >= depth:
                best, depth = path, level
        dotted = ".".join(str(key) for key in keys)
        return f"{_shown(best)}: {dotted}" if best else dotted


def _is_shipped(path: Path) -> bool:
    return path.parent.name == FOLDER or path.parent.parts[-2:] == (FOLDER, STUDIES)


def _shown(path: Path) -> str:
    """Return a file's name; of one that ships with the project, its folder too."""
    parts = 1 if not _is_shipped(path) else 2 if path.parent.name == FOLDER else 3
    return "/".join(path.parts[-parts:])


def _read(path: Path) -> Any:
    """Return what a file holds, as Snakemake reads it: JSON, else YAML. It must not be changed.

    Raises:
        ConfigError: a part of it would be dropped or misread.
    """
    return _parsed(path, path.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=256)
def _parsed(path: Path, text: str) -> Any:
    # A config is read for its values, for profiles that stand twice, and for the places of faults.
    with contextlib.suppress(json.JSONDecodeError):
        return json.loads(text, object_pairs_hook=functools.partial(_object, path)) or {}
    loader = _LOADER(text)
    try:
        root = loader.get_single_node()
        faults = yaml_traps.traps(root, _shown(path))
        if faults:
            raise ConfigError(faults)
        return (loader.construct_document(root) if root else None) or {}
    finally:
        loader.dispose()


def _object(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of a JSON file; a key that stands twice is an error."""
    counts = Counter(key for key, _ in pairs)
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        raise ConfigError([f"{_shown(path)}: `{key}` stands twice in one object" for key in twice])
    return dict(pairs)

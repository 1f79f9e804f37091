"""The config that ships with the project."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from prunegrid.config.config_files import ConfigError, project_files, read_files
from prunegrid.config.load import validate
from tests.helpers import ROOT

FILES = project_files(ROOT)


def config() -> dict[str, Any]:
    """Return all of it, merged; each time a new tree."""
    return read_files(FILES)


def check(raw, files=FILES):
    return validate(raw, list(files), ROOT)


def faults(raw):
    with pytest.raises(ConfigError) as caught:
        check(raw)
    return caught.value.faults


def changed(raw, *path_and_value):
    *path, value = path_and_value
    tree = copy.deepcopy(raw)
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return tree

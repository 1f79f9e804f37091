"""The state of a run that is under way, kept in the job's scratch folder for a job run again.

One safetensors file a run, written aside and renamed: tensors by name, the plain facts as JSON in
its header. A file of another run (other settings, weights or rows) is told by its identity and
dropped, as is a broken one: the run then starts from the beginning, never from a guess. One that
this user may not read is somebody's work: it is left, and an error.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from prunegrid.artifacts import artifact_folder
from prunegrid.common.errors import PrunegridError

log = logging.getLogger(__name__)


class Store:
    """Where runs of one job keep their state.

    Args:
        folder: below the job's scratch; made when something is saved.
        every_s: seconds between two saves of a run under way; 0 saves after every step.
        identity: what the run is of; a file with another one is not used.
    """

    def __init__(self, folder: Path, every_s: float, identity: str) -> None:
        self.folder, self.every_s, self.identity = Path(folder), every_s, identity
        self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether the last save (or the start) is long enough ago."""
        return time.monotonic() - self._last >= self.every_s

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def save(self, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Save a run's state in place of its last one.

        Where it cannot be written (a full disk), training goes on and the log says so.
        """
        self._last = time.monotonic()
        path = self._path(name)
        aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        size = sum(tensor.numel() * tensor.element_size() for tensor in plain.values())
        header = {"state": json.dumps({"identity": self.identity, "facts": facts})}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for stale in self.folder.glob(f".{path.name}.*.tmp"):
                stale.unlink()
            artifact_folder.require_space(self.folder, size + 2**20)
            save_file(plain, aside, header)
            with open(aside, "rb") as handle:
                os.fsync(handle.fileno())
            artifact_folder.open_to_umask(aside)
            os.replace(aside, path)
        except (PrunegridError, OSError, SafetensorError) as error:
            log.warning("the training checkpoint was not written: %s", error)
        finally:
            aside.unlink(missing_ok=True)

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return (tensors, facts) of a run as they were saved last; None where there are none.

        Raises:
            PrunegridError: they are another user's, who lets nobody read them.
        """
        path = self._path(name)
        if not path.exists():
            return None
        if not os.access(path, os.R_OK):
            raise PrunegridError(
                "another user's training checkpoint may not be read",
                where=str(path),
                remedy="have its owner run `chmod a+r` on it, or delete it to train from the start",
            )
        try:
            with safe_open(path, framework="pt") as handle:
                state = json.loads(handle.metadata()["state"])
                if state["identity"] != self.identity:
                    raise ValueError("it is of another run")
                names = handle.keys()
                return {name: handle.get_tensor(name) for name in names}, state["facts"]
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is not used: %s", path, error)
            path.unlink(missing_ok=True)
            return None

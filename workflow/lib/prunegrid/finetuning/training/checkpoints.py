"""Training checkpoints: the state of an unfinished run, from which a retried job continues.

Each run has one safetensors file in the job's scratch folder: tensors by name, plain facts as JSON
in its header. It is written under another name and then renamed. A file that is broken, or whose
identity (settings, weights, rows) is another run's, is deleted, and the run starts from the
beginning. A file that this user may not read is left alone, and an error.
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
    """The checkpoints of one job's runs.

    Args:
        folder: below the job's scratch; made at the first save.
        every_s: seconds between two saves of an unfinished run; 0 saves after every step.
        identity: digest of the job's settings, weights and rows; a file with another one is not
            used.
    """

    def __init__(self, folder: Path, every_s: float, identity: str) -> None:
        self.folder, self.every_s, self.identity = Path(folder), every_s, identity
        self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether `every_s` seconds have passed since the last save, or since the start."""
        return time.monotonic() - self._last >= self.every_s

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def save(self, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Save a run's state in place of its last one.

        If it cannot be written (a full disk), training continues, and the log has a warning.
        """
        self._last = time.monotonic()
        path = self._path(name)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        size = sum(tensor.numel() * tensor.element_size() for tensor in copies.values())
        header = {"state": json.dumps({"identity": self.identity, "facts": facts})}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for stale in self.folder.glob(f".{path.name}.*.tmp"):
                stale.unlink()
            artifact_folder.require_space(self.folder, size + 2**20)
            save_file(copies, temporary, header)
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            artifact_folder.open_to_umask(temporary)
            os.replace(temporary, path)
        except (PrunegridError, OSError, SafetensorError) as error:
            log.warning("the training checkpoint was not written: %s", error)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return (tensors, facts) of a run's last save; None if there is none that can be used.

        Raises:
            PrunegridError: this user may not read the file.
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

"""The run of one step: checks, log, threads, device, and its artifact, whole or absent."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from prunegrid.artifacts import artifact_folder, dropped, token_probe
from prunegrid.artifacts.lock import only_maker
from prunegrid.artifacts.preconditions import check_code, check_pins, check_source
from prunegrid.common import file_io, plugins
from prunegrid.common.determinism import derived_seed, settle_torch
from prunegrid.common.device_meters import peak_memory
from prunegrid.common.errors import AttestationError
from prunegrid.common.failures import Stopped, report
from prunegrid.common.gc_pause import importing
from prunegrid.common.gpu_pool import claim_devices
from prunegrid.common.logs import configure_logging
from prunegrid.common.precision import warn_if_emulated
from prunegrid.running import resources, step_progress

log = logging.getLogger("prunegrid")


class Job:
    """The surroundings of a step, for its `run`.

    Attributes:
        device: "cpu" or "cuda:<i>".
        devices: all devices of a step that runs in several processes.
        scratch: a folder that outlives a killed job of the same key; removed on success.
        where: a label of the step for error messages.
        threads: torch's threads.
        compute_dtype: the precision of products; None if the step computes none.
        settings: the part of the config that the step reads.
        memory: how a model and its activations are held (`config.profiles.Memory`).
        training: how often training saves its state (`config.profiles.Training`).
        alone: "machine" if no other job of the run is beside it, "share" on part of a node.
    """

    def __init__(
        self, node: Mapping[str, Any], scratch: Path, devices: Sequence[str] = ("cpu",)
    ) -> None:
        self.device, self.devices = devices[0], list(devices)
        self.scratch, self.where = scratch, node["label"]
        self.threads, self.settings = node["threads"], dict(node["settings"])
        self.compute_dtype: str | None = node["compute_dtype"]
        self.memory: Mapping[str, Any] = node["memory"]
        self.training: Mapping[str, Any] = node["training"]
        self.alone: str = node.get("alone", "share")
        self._seed = node["settings"].get("seed")

    def seed(self, purpose: str) -> int:
        """Return the seed of one purpose, derived from the step's seed: 0 ≤ seed < 2^63.

        Raises:
            RuntimeError: the step was declared to draw nothing.
        """
        if self._seed is None:
            raise RuntimeError(
                f"{self.where}: the step has no seed, so it must not draw ({purpose})"
            )
        return derived_seed(self._seed, purpose)


def run_step(node: Mapping[str, Any], log_file: str | os.PathLike | None = None) -> None:
    """Make one artifact unless it exists, and drop weights whose readers are done.

    Args:
        node: `Node.params()`.
        log_file: the log, beside standard error.

    Raises:
        SystemExit: with status 1 after any failure; the reason is in the log and in the status
            record that the table reads.
    """
    configure_logging(log_file)
    signal.signal(signal.SIGTERM, _terminated)
    status = Path(node["status"])
    running = {"state": "running", "pid": os.getpid(), "host": socket.gethostname()}
    running |= {"label": node["label"], "since": time.time()}
    try:
        file_io.write_json(status, running)
        if "torch" in node["pins"]:  # other steps are short
            report_progress(status, running)
        with only_maker(Path(f"{node['scratch']}.lock"), node["label"]):
            # After the lock: a job that waits for another takes no device from it.
            if not _is_made(node):
                with claim_devices(node["device"], node["settings"].get("processes", 1)) as devices:
                    make_artifact(node, devices)
            dropped.retire(node.get("retire", ()))
    except BaseException as error:
        with contextlib.suppress(OSError):  # a full disk must not hide it in the log
            file_io.write_json(status, _ended(error, node["label"]))
        raise SystemExit(1) from error
    status.unlink(missing_ok=True)


def _ended(error: BaseException, label: str) -> dict[str, Any]:
    """Return the status record of a job that has made nothing."""
    is_interrupted = isinstance(error, KeyboardInterrupt)
    record = {"state": "interrupted" if is_interrupted else "failed"}
    record |= {"reason": report(error, label), "label": label}
    # By SIGTERM: it failed, unless its whole run was told to stop (`job_status.mark_interrupted`).
    return record | ({"is_told": True} if isinstance(error, Stopped) else {})


def report_progress(status: Path, running: Mapping[str, Any]) -> None:
    """Let the loops of a step write to its status record how far they are."""

    def write(progress: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a full disk: the step itself will say so
            file_io.write_json(status, {**running, "progress": progress})

    step_progress.report(write)


def _terminated(number: int, frame: Any) -> None:
    raise Stopped("the job was told to stop (SIGTERM): a time or memory limit, or a cancel")


def _is_made(node: Mapping[str, Any]) -> bool:
    """Return whether the artifact is whole, and made of the present parents.

    An earlier try may have made it (if another member of its group failed), or another run.
    """
    if not (Path(node["path"]) / artifact_folder.MANIFEST).exists():
        return False
    try:
        manifest = artifact_folder.read_manifest(Path(node["path"]), node["key"])
        for role, parent in node["parents"].items():
            present = artifact_folder.recorded(Path(parent["path"]))
            if manifest["parents"][role]["content"] != present["content"]:
                return False
    except (AttestationError, KeyError, TypeError):
        return False  # it was changed, or cut short: make it again
    log.info("%s: is there already", node["label"])
    return True


def make_artifact(node: Mapping[str, Any], devices: list[str]) -> None:
    """Make an artifact, after checks of packages, code, parents and disk space."""
    started = time.monotonic()
    check_pins(node["pins"])
    check_code(node)
    settings = dict(node["settings"])
    own = settings.pop(plugins.OWN, {})
    folder, scratch = Path(node["path"]), Path(node["scratch"])
    parents, manifests = {}, {}
    for role, parent in node["parents"].items():
        parents[role] = Path(parent["path"])
        manifests[role] = artifact_folder.read_manifest(parents[role], parent["key"])
        dropped.require_whole(parents[role])
    if "torch" in node["pins"]:
        with importing("torch"):
            settle_torch(node["threads"])
    plugins.load(own)
    warn_if_emulated(node["compute_dtype"], devices[0], node["label"])
    scratch.mkdir(parents=True, exist_ok=True)
    log.info("%s: started (key %s)", node["label"], node["key"])
    artifact_folder.require_space(folder, resources.space(node, manifests))
    name = f"prunegrid.stages.{node['stage']}"
    with importing(name):
        module = importlib.import_module(name)
    before = dropped.dropped(folder)
    changed: list[str] = []
    with artifact_folder.writing(folder) as out:
        job = Job(node, scratch, devices)
        with token_probe.listening(changed.append):
            record = module.run(settings, parents, out, job)
        check_source(node)
        seconds = time.monotonic() - started
        if before is None:
            facts = {"other_token_ids": True} if changed else {}
            _write_manifest(node, out, facts | {"record": record}, manifests, devices[0], seconds)
        else:
            dropped.restore(folder, out, before, node["label"])
    shutil.rmtree(scratch, ignore_errors=True)
    log.info("%s: done in %.1f s", node["label"], seconds)


def _write_manifest(
    node: Mapping[str, Any], out: Path, made: dict, parents: dict, device: str, seconds: float
) -> None:
    """Write the manifest of an artifact.

    Args:
        made: its record; and `other_token_ids`, where a tokenizer was told (`token_probe`).
    """
    files = artifact_folder.list_files(out)
    manifest = {
        "manifest_version": artifact_folder.MANIFEST_VERSION,
        "stage": node["stage"],
        "key": node["key"],
        "label": node["label"],
        "settings": node["settings"],
        "code": node["code"],
        "pins": node["pins"],
        "parents": {
            role: {fact: parent[fact] for fact in ("key", "stage", "content")}
            for role, parent in parents.items()
        },
        "lineage": _lineage(parents),
        "threads": node["threads"],
        "device": _device_name(device),
        "compute_dtype": node["compute_dtype"],
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "versions": {name: metadata.version(name) for name in node["pins"]},
        "seconds": round(seconds, 3),
        "cpu_seconds": round(_cpu_seconds(), 3),
        "peak_memory_bytes": peak_memory(),
        "files": files,
        "content": artifact_folder.content_digest(files),
        **made,
    }
    file_io.write_json(out / artifact_folder.MANIFEST, artifact_folder.sealed(manifest))


_counted = 0.0


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and its children since its last artifact, or start."""
    global _counted
    times = os.times()
    before, _counted = _counted, times.user + times.system + times.children_user
    _counted += times.children_system
    return _counted - before


def _lineage(parents: Mapping[str, dict]) -> list[dict]:
    """Return the records of the steps before this one, the model first.

    Every manifest has them, so that a table can be made when older artifacts are gone.
    """
    for role in ("weights", "model"):
        if role in parents:
            parent = parents[role]
            facts = ["stage", "key", "content", "label", "record", "seconds", "peak_memory_bytes"]
            facts += [fact for fact in ("adopted", "other_token_ids") if fact in parent]
            return [*parent["lineage"], {fact: parent[fact] for fact in facts}]
    return []


def _device_name(device: str) -> str:
    if device == "cpu":
        return device
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"

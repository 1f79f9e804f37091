"""The precision of products that `compute_dtype: auto` stands for on this machine.

It is bfloat16 if the device multiplies that natively: emulation is up to twenty times slower than
float32. The choice is part of a step's key, so it is made before anything runs, without torch.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import logging
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from prunegrid.common.errors import PrunegridError

log = logging.getLogger(__name__)

AUTO = "auto"
NAMED = ("bfloat16", "float32")
CPU_FACTS = Path("/proc/cpuinfo")
# Linux's names of what multiplies bfloat16: AVX-512, AMX, and Arm's own.
CPU_FLAGS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))
# oneDNN computes torch's products; limited to one of these, it has no bfloat16.
WITHOUT_BFLOAT16 = frozenset(
    ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
)
# The first CUDA compute capability with bfloat16 (Ampere).
CUDA_CAPABILITY = (8, 0)
# The probe's products are [PROBE, PROBE] each; the fastest of TRIES counts.
PROBE, TRIES = 512, 3
# The number of finished tunings whose precision is read at most.
LOOKED_AT = 200


def of_job(job) -> str:
    """Return the dtype that a step computes in: float32 where its job names none."""
    return getattr(job, "compute_dtype", None) or "float32"


def resolve(named: str, device: str) -> str:
    """Return "bfloat16" or "float32" for the setting `named`, which may be "auto".

    Args:
        device: "cpu" or "cuda".

    Raises:
        PrunegridError: it is auto for CUDA, and no CUDA device can be seen.
    """
    if named != AUTO:
        return named
    return "bfloat16" if is_native(device) else "float32"


def is_native(device: str) -> bool:
    """Return whether a device ("cpu", "cuda", "cuda:<i>") multiplies bfloat16 natively.

    Raises:
        PrunegridError: it is CUDA, and none can be seen.
    """
    if device.startswith("cuda"):
        return min(gpu_capabilities()) >= CUDA_CAPABILITY
    return cpu_is_native(cpu_flags(CPU_FACTS), os.environ)


def cpu_is_native(flags: frozenset[str], environment: os._Environ | dict[str, str]) -> bool:
    """Return whether a CPU with these flags multiplies bfloat16 under this environment."""
    limit = environment.get("ONEDNN_MAX_CPU_ISA") or environment.get("DNNL_MAX_CPU_ISA") or ""
    return bool(flags & CPU_FLAGS) and limit.upper() not in WITHOUT_BFLOAT16


@functools.cache
def cpu_flags(path: Path) -> frozenset[str]:
    """Return the flags of the first processor; none if the system does not list them."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


@functools.cache
def gpu_capabilities() -> tuple[tuple[int, int], ...]:
    """Return the compute capability of every CUDA device of this machine.

    Raises:
        PrunegridError: there is none.
    """
    text = ""
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        text = done.stdout
    pairs = re.findall(r"^\s*(\d+)\.(\d+)\s*$", text, re.MULTILINE)
    if not pairs:
        raise PrunegridError(
            "is auto, and no CUDA device can be seen here that would settle it",
            where="config.yaml: compute_dtype",
            expected="bfloat16 or float32 by name",
            remedy="add --config compute_dtype=bfloat16 (GPUs from compute capability 8.0)",
        )
    return tuple((int(major), int(minor)) for major, minor in pairs)


def describe(config: Any, results: Path, local: bool) -> str:
    """Return a sentence on the precision that steps compute in, "" if no step leaves it open.

    Args:
        config: with compute_dtype, resolved_dtype, device and leaves_open().
        results: the folder of artifacts, some of which another machine may have made.
        local: jobs run on this machine.

    Raises:
        PrunegridError: jobs run elsewhere, and compute_dtype is auto.
    """
    if config.compute_dtype != AUTO:
        return f"computes in {config.compute_dtype}, as compute_dtype says"
    if not config.leaves_open():
        return ""
    if not local:
        raise PrunegridError(
            "is auto, and jobs run on other machines than this one",
            where="config.yaml: compute_dtype",
            expected="bfloat16 or float32 by name",
            remedy="add --config compute_dtype=bfloat16 (if all nodes multiply it natively)",
        )
    chosen = config.resolved_dtype
    fast = "multiplies bfloat16 natively" if chosen == "bfloat16" else "only emulates bfloat16"
    text = f"tunings compute in {chosen} (this {config.device} {fast})"
    for path in itertools.islice(results.glob("artifacts/finetune/*/manifest.json"), LOOKED_AT):
        with contextlib.suppress(OSError, ValueError):
            other = json.loads(path.read_bytes()).get("compute_dtype")
            if other in NAMED and other != chosen:
                return (
                    f"{text}. There are tunings here that computed in {other}: "
                    f"--config compute_dtype={other} reads them on"
                )
    return text


def warn_if_emulated(compute_dtype: str | None, device: str, where: str) -> None:
    """Warn if the step `where` computes in bfloat16 and its device only emulates that.

    Args:
        compute_dtype: of the step; None for one that computes nothing.
        device: "cpu" or "cuda:<i>".
    """
    if compute_dtype != "bfloat16" or is_native(device):
        return
    log.warning(
        "%s: this device emulates bfloat16: a product takes %.1f times as long as in float32. "
        "It goes on as asked; compute_dtype: float32 (or autocast: float32) would be faster",
        where,
        emulation_ratio(device),
    )


def emulation_ratio(device: str) -> float:
    """Return how many times as long a product takes in bfloat16 as in float32, measured here."""
    import torch

    from prunegrid.common.device_meters import synchronize

    def seconds(dtype: torch.dtype) -> float:
        a = torch.ones(PROBE, PROBE, dtype=dtype, device=device)
        spent = []
        for _ in range(TRIES):
            synchronize(device)
            began = time.perf_counter()
            # Training's second product, by which emulation is slowest, has one side transposed.
            (a @ a) @ a.T
            synchronize(device)
            spent.append(time.perf_counter() - began)
        return min(spent)

    return seconds(torch.bfloat16) / seconds(torch.float32)

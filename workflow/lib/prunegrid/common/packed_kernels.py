"""The kernel that packed weights run by on this machine, as far as it is known without torch.

It is part of a timing's key, so it is named before anything runs. A job then uses that kernel, or
says that this CPU does not have it.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
from collections.abc import Mapping

from prunegrid.common.precision import CPU_FACTS, cpu_flags

VARIABLE = "PRUNEGRID_KERNEL"
KERNELS = ("plain", "avx2", "avx512", "neon")
COMPILERS = ("c++", "g++", "clang++")
# Linux's names of the instructions that a kernel needs on x86-64, the fastest kernel first.
NEEDS = {
    "avx512": frozenset(("avx512f", "avx512vl", "avx512bw", "avx512_vbmi2", "popcnt")),
    "avx2": frozenset(("avx2", "fma", "popcnt")),
}
# What Python calls a 64-bit ARM machine.
ARM = ("aarch64", "arm64")


def compiler(environment: Mapping[str, str]) -> list[str]:
    """Return the words that call the C++ compiler; [] if there is none.

    It is CXX, or the first of COMPILERS that is there.
    """
    words = shlex.split(environment.get("CXX", ""))
    for name in (words[0],) if words else COMPILERS:
        if shutil.which(name):
            return words or [name]
    return []


def planned() -> str | None:
    """Return the kernel that VARIABLE names, or the fastest for this CPU; None without a compiler.

    A system that does not list a CPU's flags has `plain`.
    """
    if named := os.environ.get(VARIABLE):
        return named
    if not compiler(os.environ):
        return None
    if platform.machine() in ARM:
        return "neon"
    flags = cpu_flags(CPU_FACTS)
    return next((name for name, needed in NEEDS.items() if needed <= flags), "plain")

"""Building the kernels for packed weights, once for each compiler, torch and version of the code.

    python -m prunegrid.models.packed.kernel_build

The compiler is called directly: each instruction set's file has its own flags, and ninja is not
needed. What is missing is named in one error; `load_packed` then goes on without kernels.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import filelock
import torch

from prunegrid.common import packed_kernels
from prunegrid.common.errors import PrunegridError
from prunegrid.common.packed_kernels import COMPILERS

log = logging.getLogger(__name__)

SOURCES = Path(__file__).parent / "kernels"
LIBRARY = "packed_kernels.so"
SECONDS = 15  # that a build takes on one core, as its announcement says
# Products and sums are fused where the code says so, and nowhere else.
COMMON = ("-std=c++20", "-O3", "-fPIC", "-ffp-contract=off")
# What each file is compiled with beside COMMON, on x86-64; elsewhere nothing.
FLAGS = {
    "plain": (),
    "avx2": ("-mavx2", "-mfma", "-mpopcnt"),
    "neon": (),
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vbmi2", "-mfma", "-mpopcnt"),
}
# What Python calls an x86-64 machine.
X86 = ("x86_64", "AMD64")
OPERATORS = "operators"


def library() -> Path:
    """Return the built kernels, after building them where the cache has none.

    Raises:
        PrunegridError: a compiler or torch's headers are missing, the cache cannot be written, or
            the compiler fails.
    """
    compiler = _compiler()
    folder = cache_folder() / _key(compiler)
    built = folder / LIBRARY
    if built.exists():
        return built
    with _writing(folder), filelock.FileLock(folder / "lock"):
        if not built.exists():  # another process may have built it meanwhile
            log.warning(
                "building the kernels for packed weights, once: about %d s of one core, into %s",
                SECONDS,
                folder,
            )
            _build(compiler, folder)
    return built


def cache_folder() -> Path:
    """Return where kernels are kept: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "prunegrid" / "kernels"


def _compiler() -> list[str]:
    """Return the words that call the C++ compiler (`packed_kernels.compiler`).

    Raises:
        PrunegridError: there is none, or torch has no headers.
    """
    header = _torch() / "include/torch/library.h"
    if not header.exists():
        raise PrunegridError(
            "torch was installed without its C++ headers", where=str(header.parent)
        )
    if found := packed_kernels.compiler(os.environ):
        return found
    named = os.environ.get("CXX", "").partition(" ")[0]
    raise PrunegridError(
        f"the C++ compiler {named} was not found" if named else "no C++ compiler was found",
        where="CXX" if named else "PATH",
        expected=f"one of {', '.join(COMPILERS)} that knows C++20",
        remedy="install one (Debian, Ubuntu: apt install g++)",
    )


def _torch() -> Path:
    return Path(torch.__file__).parent


def _key(compiler: list[str]) -> str:
    """Return a digest of all that decides what a build gives."""
    asked = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False)
    digest = hashlib.sha256()
    for fact in (torch.__version__, *compiler, asked.stdout, platform.machine(), repr(FLAGS)):
        digest.update(f"{fact}\n".encode())
    for path in sorted(SOURCES.glob("*.[ch]*")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _writing(folder: Path):
    """Make the folder; a place that cannot be written is one error."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise PrunegridError(
            f"the cache of kernels cannot be written ({error.strerror or error})",
            where=str(folder),
            remedy="set XDG_CACHE_HOME to a folder that you may write to",
        ) from error


def _build(compiler: list[str], folder: Path) -> None:
    """Compile all sources side by side and put the library into the folder, whole or not at all."""
    root = _torch()
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        objects = {name: Path(scratch) / f"{name}.o" for name in (*FLAGS, OPERATORS)}

        def compile_one(name: str) -> None:
            flags = FLAGS.get(name, ()) if platform.machine() in X86 else ()
            if name == OPERATORS:
                flags = ("-O2", "-fopenmp", abi, f"-I{root}/include")
            source = SOURCES / f"{name}.cpp"
            _call([*compiler, *COMMON, *flags, "-c", str(source), "-o", str(objects[name])])

        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            list(threads.map(compile_one, reversed(objects)))  # the longest first
        made = Path(scratch) / LIBRARY
        links = (f"-L{root}/lib", "-ltorch", "-ltorch_cpu", "-lc10", "-fopenmp")
        _call([*compiler, "-shared", *map(str, objects.values()), *links, "-o", str(made)])
        os.replace(made, folder / LIBRARY)


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        raise PrunegridError(
            f"{command[0]} could not build the kernels ({(lines or ['no message'])[0].strip()})",
            expected="a compiler that knows C++20 and OpenMP, such as g++ 11",
            remedy="name another by the variable CXX",
        )


def main() -> None:
    """Build the kernels and print where they are; exit with 1 where that cannot be."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        print(library())
    except PrunegridError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

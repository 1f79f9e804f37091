"""Files inside a wheel of the package index.

pip downloads the wheel, with the index, mirrors and certificates that it is configured for; nothing
is installed or imported. The named files go into a cache under their SHA-256, so that a rerun needs
no network. A file's digest is checked at every use.
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
# A wheel with compiled code is made for one platform, but its data files are the same for all. If
# the index has none for this machine, one for a common platform serves.
COMMON_PLATFORM = (
    ["--implementation", "cp", "--python-version", "3.11"]
    + ["--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_17_x86_64"]
    + ["--platform", "manylinux2014_x86_64", "--platform", "any"]
)
FACTS = "facts.json"


def cache_folder() -> Path:
    """Return the cache of files out of wheels, below XDG_CACHE_HOME."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "prunegrid" / "wheels"


def fetch(
    dist: str, version: str, members: Mapping[str, str], where: str
) -> tuple[dict[str, Path], str | None]:
    """Return ({member: path in the cache}, licence of the distribution).

    Args:
        members: {member: SHA-256}. A member that ends in "/" is a folder; the digest is then of
            the file model.safetensors in it, and the path that is returned is a folder.

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
    missing = {m: digest for m, digest in members.items() if not _is_cached(m, digest)}
    if missing:
        timing_guard.require_stopped("a wheel is fetched", where)
        with tempfile.TemporaryDirectory(prefix="prunegrid-wheel-") as folder:
            unpack(pip_download(dist, version, Path(folder), where), missing, where)
    paths = {member: _place(member, digest) for member, digest in members.items()}
    facts = cache_folder() / next(iter(members.values())) / FACTS
    return paths, file_io.read_json(facts)["licence"]


def unpack(wheel: Path, members: Mapping[str, str], where: str) -> None:
    """Put members of a wheel into the cache.

    Raises:
        PrunegridError: the wheel is damaged, or a member is missing or another than its digest.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member, digest in members.items():
                _put(archive, member, digest, f"{where}, {wheel.name}")
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


def _place(member: str, digest: str) -> Path:
    """Return the path of a member in the cache."""
    return cache_folder() / digest / Path(member.rstrip("/")).name


def _is_cached(member: str, digest: str) -> bool:
    """Return whether the cache holds a member, with its bytes unchanged; remove it if changed."""
    folder, path = cache_folder() / digest, _place(member, digest)
    if not (folder / FACTS).is_file() or not path.exists():
        return False
    files = file_io.read_json(folder / FACTS)["files"]
    root = path if path.is_dir() else path.parent
    same = all(
        (root / name).is_file() and file_io.file_sha256(root / name) == value
        for name, value in files.items()
    )
    if not same or digest not in files.values():
        log.warning("%s was changed since it was downloaded: downloading it again", folder)
        shutil.rmtree(folder)
        return False
    return True


def _put(archive: zipfile.ZipFile, member: str, digest: str, where: str) -> None:
    """Put a member of a wheel into the cache, whole or not at all."""
    names = [name for name in archive.namelist() if not name.endswith("/")]
    is_folder = member.endswith("/")
    if is_folder:
        chosen = [n for n in names if n.startswith(member) and not n.endswith((".py", ".pyc"))]
    else:
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
            inner = name[len(member) :] if is_folder else ""
            path = target / check_member(inner, where) if inner else target
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            files[inner or target.name] = file_io.file_sha256(path)
        weights = "model.safetensors" if is_folder else target.name
        if files.get(weights) != digest:
            raise PrunegridError(
                f"the SHA-256 of {member + weights if is_folder else member} is "
                f"{files.get(weights)}",
                where=where,
                expected=f"{digest}, as the config says",
                remedy="find out why it differs, or correct the config",
            )
        file_io.write_json(root / FACTS, {"files": files, "licence": _licence(archive)})
        # Another job may have put the same file there meanwhile.
        with contextlib.suppress(OSError):
            os.rename(root, final)
    if not _is_cached(member, digest):
        raise PrunegridError("the cache cannot be written", where=str(final))


def _licence(archive: zipfile.ZipFile) -> str | None:
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
        output = run_pip([*command, *platform, f"{dist}=={version}"], where)
        wheels = sorted(folder.glob("*.whl"))
        if wheels:
            return wheels[0]
        log.debug("pip: %s", output)
        if "No module named pip" in output:
            raise PrunegridError(
                f"{sys.executable} has no pip, which fetches wheels",
                where=where,
                remedy="run `python -m ensurepip` in this environment and run again",
            )
        # pip reports a network that is down as a package that has no versions.
        if "certificate" in output.lower():
            raise PrunegridError(
                f"the certificate of the package index is not trusted here ({dist}=={version})",
                where=where,
                remedy="set PIP_CERT to the file of your network's own certificates",
            )
        if NO_NETWORK.search(output):
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
    """Return the output of pip.

    Raises:
        PrunegridError: it runs for more than PIP_SECONDS.
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

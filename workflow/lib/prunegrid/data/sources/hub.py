"""Repositories of the model hub: their commits, and the needed files of one commit on this disk.

`huggingface_hub` keeps the cache, resumes a broken download and reads HF_ENDPOINT, HF_TOKEN,
HF_HOME and HF_HUB_OFFLINE. This module adds: one short request first, so that a machine without a
network fails within seconds; each file's SHA-256 against the hub's own; one sentence a failure.

Files come by HTTP, never by Xet, whose client neither resumes by these rules nor fails by these
errors. They come one by one: `snapshot_download` lists the repository again without a limit in
time, and where the hub refuses that list, it returns a folder that may lack files.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from huggingface_hub import HfApi, RepoCard, constants, hf_hub_download, snapshot_download
from huggingface_hub import errors as hub_errors
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils.sha import git_hash

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io, timing_guard
from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources.fetched import check_member

log = logging.getLogger(__name__)
constants.HF_HUB_DISABLE_XET = True  # read at each download; the environment's may be unset

FIRST_ANSWER_SECONDS = 10.0
TRIES = 4
BUSY = (408, 429, 500, 502, 503, 504)
# A connection that was cut; without one (ConnectTimeout, ConnectError) a step fails at once.
CUT = (httpx2.ReadError, httpx2.ReadTimeout, httpx2.RemoteProtocolError, httpx2.WriteError)
CARD = "README.md"
SHA1_DIGITS = 40

Result = TypeVar("Result")


@dataclass(frozen=True)
class Repo:
    """One commit of a repository.

    Attributes:
        name: such as "facebook/opt-125m".
        kind: "model" or "dataset".
        revision: the branch, tag or commit that the source names.
        commit: 40 hex digits.
        files: {name: (bytes or None, digest or None)} as the hub lists them: the SHA-256, of small
            files git's SHA-1. Without a network, the files in the cache.
        where: label for errors.
    """

    name: str
    kind: str
    revision: str
    commit: str
    files: dict[str, tuple[int | None, str | None]]
    where: str

    @property
    def cache(self) -> Path:
        """Return the repository's folder in the cache."""
        folder = repo_folder_name(repo_id=self.name, repo_type=self.kind)
        return Path(constants.HF_HUB_CACHE) / folder


def endpoint() -> str:
    """Return the address of the hub."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def find(source: dict, kind: str, where: str) -> Repo:
    """Return the commit and the files of a repository; with HF_HUB_OFFLINE=1 those in the cache.

    Args:
        source: repo, and optionally revision.
        kind: "model" or "dataset".

    Raises:
        PrunegridError: it is unknown or gated, the hub cannot be reached, or the cache lacks it.
    """
    name, revision = source["repo"], source.get("revision") or "main"
    if constants.is_offline_mode():
        return _find_cached(name, revision, kind, where)
    api = HfApi(endpoint=endpoint())
    ask = api.model_info if kind == "model" else api.dataset_info
    with _explained(name, revision, where):
        info = _patiently(
            lambda: ask(name, revision=revision, timeout=FIRST_ANSWER_SECONDS, files_metadata=True)
        )
    log.info("%s: commit %s", where, info.sha)
    files = {
        item.rfilename: (item.size, item.lfs.sha256 if item.lfs else item.blob_id)
        for item in info.siblings or []
    }
    return Repo(name, kind, revision, info.sha, files, where)


def _find_cached(name: str, revision: str, kind: str, where: str) -> Repo:
    try:
        folder = snapshot_download(name, repo_type=kind, revision=revision, local_files_only=True)
    except (hub_errors.LocalEntryNotFoundError, hub_errors.HFValidationError) as error:
        raise PrunegridError(
            f"HF_HUB_OFFLINE is set and revision {revision} of {name} is not in the cache "
            f"{constants.HF_HUB_CACHE}",
            where=where,
            remedy="unset HF_HUB_OFFLINE on a machine with a network and run again, or name a "
            "local copy instead",
        ) from error
    snapshot = Path(folder)
    paths = [path for path in snapshot.rglob("*") if path.is_file()]
    files = {path.relative_to(snapshot).as_posix(): (path.stat().st_size, None) for path in paths}
    return Repo(name, kind, revision, snapshot.name, files, where)


def download(repo: Repo, names: Iterable[str]) -> tuple[Path, dict[str, str]]:
    """Return (folder, {name: SHA-256}) of the named files after fetching those that are missing.

    The folder is the cache's snapshot of the commit. Files come in the given order: name weights
    last, so that a snapshot which has them is whole.

    Raises:
        PrunegridError: a file cannot be had, does not fit on the disk, or is not the hub's.
    """
    timing_guard.require_stopped("files are fetched", repo.where)
    names = list(names)
    snapshot = repo.cache / "snapshots" / repo.commit
    absent = [name for name in names if not (snapshot / check_member(name, repo.where)).exists()]
    offline = constants.is_offline_mode()
    if not offline:
        artifact_folder.require_space(repo.cache, sum(repo.files[name][0] or 0 for name in absent))
    digests = {}
    for name in names:
        fetch = functools.partial(
            hf_hub_download,
            repo.name,
            name,
            repo_type=repo.kind,
            revision=repo.commit,
            endpoint=endpoint(),
            local_files_only=offline,
        )
        with _explained(repo.name, repo.commit, repo.where):
            path = Path(_patiently(fetch))
        digests[name] = file_io.file_sha256(path)
        _require_listed(repo, name, path, digests[name])
    if not offline:
        _note_revision(repo)
    return snapshot, digests


def _require_listed(repo: Repo, name: str, path: Path, digest: str) -> None:
    """Check that a file is the one that the hub lists."""
    listed, kind = repo.files[name][1], "SHA-256"
    if listed and len(listed) == SHA1_DIGITS:
        digest, kind = git_hash(path.read_bytes()), "git SHA-1"
    if listed and digest != listed:
        raise PrunegridError(
            f"the {kind} of the file is {digest}",
            where=str(path),
            expected=f"{listed}, as the hub says",
            remedy="delete the file (and the one that it links to) and run again",
        )


def _note_revision(repo: Repo) -> None:
    """Note in the cache which commit the revision is, so that it is found without a network."""
    # The library notes that only of files that are fetched by the revision and not by its commit.
    if repo.revision != repo.commit and ".." not in repo.revision:
        file_io.write_text(repo.cache / "refs" / repo.revision, repo.commit)


def card(repo: Repo) -> dict[str, Any]:
    """Return the settings at the head of the repository's README.md, {} if there are none."""
    if CARD not in repo.files:
        return {}
    folder, _ = download(repo, [CARD])
    text = (folder / CARD).read_text(encoding="utf-8", errors="replace")
    try:
        return RepoCard(text, ignore_metadata_errors=True).data.to_dict()
    except Exception as error:  # the YAML may be anything
        log.warning("%s: the head of README.md is not readable (%s)", repo.where, error)
        return {}


def licence(settings: dict[str, Any]) -> str | None:
    """Return the licence that a README.md names."""
    named = settings.get("license_name") or settings.get("license")
    return ", ".join(map(str, named)) if isinstance(named, list) else named


def _patiently(call: Callable[[], Result]) -> Result:
    """Return the call's result after up to TRIES tries, if the hub is busy or the line cut."""
    for attempt in range(TRIES - 1):
        try:
            return call()
        except hub_errors.HfHubHTTPError as error:
            if error.response.status_code not in BUSY:
                raise
            log.warning("the hub answered %d, trying again", error.response.status_code)
        except CUT as error:
            log.warning("the connection was cut (%s), trying again", type(error).__name__)
        wait(2**attempt)
    return call()


def wait(seconds: float) -> None:
    """Wait (tests replace this)."""
    time.sleep(seconds)


@contextlib.contextmanager
def _explained(name: str, revision: str, where: str) -> Iterator[None]:
    """Turn every failure of the hub inside the block into a PrunegridError of one sentence."""
    try:
        yield
    except hub_errors.HFValidationError as error:
        raise PrunegridError(
            f"{name!r} is not a repository's name", where=where, expected="org/name"
        ) from error
    except hub_errors.HfHubHTTPError as error:
        what, remedy = _refusal(error, name, revision)
        raise PrunegridError(what, where=where, remedy=remedy) from error
    except (hub_errors.LocalEntryNotFoundError, hub_errors.OfflineModeIsEnabled) as error:
        reason = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else "no connection"
        raise _unreachable(name, f"{reason}, and the cache lacks a file", where) from error
    except (hub_errors.FileMetadataError, json.JSONDecodeError) as error:
        raise PrunegridError(
            f"{endpoint()} does not answer as a hub does",
            where=where,
            remedy="check HF_ENDPOINT, and any proxy or log-in page between",
        ) from error
    except httpx2.RequestError as error:
        reason = type(error).__name__
        if "certificate" in str(error).lower():
            reason = "its certificate is not trusted here: SSL_CERT_FILE names your network's own"
        raise _unreachable(name, reason, where) from error


def _refusal(error: hub_errors.HfHubHTTPError, name: str, revision: str) -> tuple[str, str]:
    """Return the fault and the remedy of an error that the hub answers."""
    status = error.response.status_code
    if isinstance(error, hub_errors.GatedRepoError):
        return (
            f"{name} is gated: the hub does not give it to this account",
            f"accept its terms at {endpoint()}/{name} and set HF_TOKEN to a token of yours",
        )
    if isinstance(error, hub_errors.RepositoryNotFoundError):
        return (
            f"the hub at {endpoint()} has no repository {name}, or it is private",
            "check the name (org/name); for a private one set HF_TOKEN",
        )
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return f"{name} has no revision {revision!r}", "name a branch, tag or commit that it has"
    if status in (401, 403):
        return f"the hub answered {status} for {name}", "set HF_TOKEN to a token that may read it"
    return f"the hub answered {status} for {name}", "run again later"


def _unreachable(name: str, reason: str, where: str) -> PrunegridError:
    """Return the error of a machine that cannot reach the hub."""
    return PrunegridError(
        f"{name} cannot be had: the hub at {endpoint()} cannot be reached ({reason})",
        where=where,
        remedy="connect this machine, set HF_ENDPOINT to a mirror, or name a local copy instead",
    )

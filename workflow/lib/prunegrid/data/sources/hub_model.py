"""A model of the hub: the files of one commit that a model needs, and no others."""

from __future__ import annotations

from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import hub
from prunegrid.data.sources.fetched import CONFIG_FILES, Fetched, describe, facts
from prunegrid.models import weight_files


def fetch(source: dict, where: str) -> Fetched:
    """Return a model's folder in the hub's cache (or its one `.gguf` file).

    Args:
        source: repo, revision, and optionally file: a `.gguf` file of the repository.
        where: label for errors.

    Raises:
        PrunegridError: see `prunegrid.data.sources.hub`; or there are no weights that can be read.
    """
    repo = hub.find(source["repo"], source.get("revision") or "main", "model", where)
    named = hub.licence(hub.card(repo))
    single = source.get("file")
    if single:
        if single not in repo.files:
            raise PrunegridError(
                f"{repo.name} has no file {single}",
                where=where,
                expected="one of " + ", ".join(sorted(repo.files)[:12]),
            )
        folder, digests = hub.download(repo, [single])
        place, names = folder / single, (single,)
    else:
        layout = weight_files.choose(list(repo.files), where)
        first = [name for name in CONFIG_FILES if name in repo.files]
        if layout.sharded:
            first.append(layout.file)
        folder, digests = hub.download(repo, first)
        parts = weight_files.shards(folder / layout.file) if layout.sharded else [layout.file]
        absent = sorted(set(parts) - repo.files.keys())
        if absent:
            raise PrunegridError(
                f"the index names {absent[0]}, which {repo.name} does not have", where=where
            )
        digests |= hub.download(repo, parts)[1]
        place, names = folder, tuple(digests)
    return Fetched(place, names, facts("hf", describe(source), repo.commit, named, digests))

"""Models of the hub: the files of one commit that a model needs, and no others."""

from __future__ import annotations

from prunegrid.common import model_files
from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import hub
from prunegrid.data.sources.fetched import Fetched, facts


def fetch(source: dict, where: str) -> Fetched:
    """Return a model's folder in the hub's cache (or its one `.gguf` file).

    Args:
        source: repo, revision, and optionally file: a `.gguf` file of the repository.

    Raises:
        PrunegridError: see `prunegrid.data.sources.hub`; or there are no weights that can be read.
    """
    repo = hub.find(source, "model", where)
    licence = hub.licence(hub.card(repo))
    single = source.get("file")
    if single:
        if single not in repo.files:
            raise PrunegridError(
                f"{repo.name} has no file {single}",
                where=where,
                expected="one of " + ", ".join(sorted(repo.files)[:12]),
            )
        folder, digests = hub.download(repo, [single])
        place = folder / single
    else:
        layout = model_files.choose(list(repo.files), where)
        first = [name for name in model_files.CONFIG_FILES if name in repo.files]
        place, digests = hub.download(repo, [*first, layout.file] if layout.sharded else first)
        digests |= hub.download(repo, model_files.weight_parts(place, layout, repo.files, where))[1]
    return Fetched(place, tuple(digests), facts(source, repo.commit, licence, digests))

"""Check a crate by roc-validator, offline: `python check_crate.py FOLDER CACHE SEVERITY`.

It runs in the environment of envs/formats.lock, without prunegrid. The context of RO-Crate 1.1 is
the copy in the package `rocrate`; it is put into the validator's cache. Issues go to standard
output, one a line.
"""

import importlib.util
import io
import logging
import sys
from pathlib import Path

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests_cache import CachedSession
from rocrate_validator import models, services

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
PROFILE = "provenance-run-crate-0.5"


class AtHand(HTTPAdapter):
    """Answers requests for the context with the copy at hand, and no others."""

    def send(self, request, **options):
        """Return the response to a request."""
        if request.url != CONTEXT:
            raise requests.ConnectionError(f"{request.url} is not at hand")
        (package,) = importlib.util.find_spec("rocrate").submodule_search_locations
        body = io.BytesIO(Path(package, "data/ro-crate.jsonld").read_bytes())
        about = {"headers": {"Content-Type": "application/ld+json"}, "request_url": CONTEXT}
        raw = urllib3.HTTPResponse(body, status=200, preload_content=False, **about)
        return self.build_response(request, raw)


def issues(folder: str, cache: str, severity: str) -> list[str]:
    """Return the issues of a crate of a severity or worse, as texts."""
    session = CachedSession(cache, backend="sqlite", expire_after=-1)
    session.mount("https://", AtHand())
    session.get(CONTEXT, headers={"Accept": "application/ld+json, application/json, */*;q=0.1"})
    settings = services.ValidationSettings(
        rocrate_uri=folder,
        profile_identifier=PROFILE,
        requirement_severity=getattr(models.Severity, severity),
        cache_path=cache,
        offline=True,
    )
    logging.disable(logging.CRITICAL)
    found = services.validate(settings).get_issues()
    return [f"{one.severity.name} {one.message} {one.violatingEntity}" for one in found]


if __name__ == "__main__":
    found = issues(*sys.argv[1:])
    print("\n".join(found))
    sys.exit(bool(found))

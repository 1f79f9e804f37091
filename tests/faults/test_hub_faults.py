"""A hub that stalls, drops, lies, or has no time: the file it promised, or one sentence, soon."""

from __future__ import annotations

import logging

import pytest
from huggingface_hub import constants

from prunegrid.common.errors import PrunegridError
from prunegrid.common.logs import configure_logging
from prunegrid.data.sources import hub as hubs
from prunegrid.data.sources import hub_model
from tests.helpers import hub_world
from tests.helpers.hub_files import commit_of
from tests.helpers.hub_server import hub_server

SECRET = "a-token-of-no-usual-form-4711"
REPO = "tests/opt-safetensors"
SOURCE = {"kind": "hf", "repo": REPO, "revision": "main"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return hub_world.build(tmp_path_factory.mktemp("world"), train=4, test=2, ca_test=2, texts=4)


@pytest.fixture
def hub(world, tmp_path, monkeypatch):
    """A hub, with this process pointed to it, to an empty cache and to a secret."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1)
    monkeypatch.setattr(hubs, "FIRST_ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(hubs, "wait", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    before = logging.getLogger().handlers[:]
    with hub_server(world) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        configure_logging(tmp_path / "log")
        logging.getLogger().setLevel(logging.DEBUG)
        yield running
    logging.captureWarnings(False)
    logging.getLogger().handlers[:] = before
    logging.getLogger().setLevel(logging.WARNING)


def fetched(hub):
    """Return what was had, or the one sentence that says why not."""
    try:
        found = hub_model.fetch(SOURCE, "models.x")
    except PrunegridError as error:
        assert "\n" not in str(error) and str(error).startswith(("models.x", "/"))
        return str(error)
    here = {name: (found.place / name).read_bytes() for name in found.names}
    there = {path.name: path.read_bytes() for path in hub.folder("models", REPO).iterdir()}
    assert here.items() <= there.items() and "model.safetensors" in here
    assert found.place.name == commit_of(hub.folder("models", REPO))
    return found


FAULTS = {
    "drops twice": lambda hub: hub.cut("model.safetensors", times=2),
    "stalls in the middle of a file": lambda hub: hub.hang("model.safetensors", times=1),
    "sends wrong bytes": lambda hub: hub.twist("model.safetensors", times=99),
    "sends wrong bytes of a small file": lambda hub: hub.twist("config.json", times=99),
    "limits the rate twice": lambda hub: hub.limit(REPO, times=2),
    "limits the rate for good": lambda hub: hub.limit(REPO, times=99),
    "drops for good": lambda hub: hub.cut("model.safetensors", times=99, share=0.1),
    "answers with a page": lambda hub: hub.refuse(REPO, 200),
    "refuses the token": lambda hub: hub.refuse(REPO, 403),
}


PASSING = {"drops twice", "limits the rate twice", "stalls in the middle of a file"}


@pytest.mark.parametrize("name", FAULTS)
def test_a_hub_at_fault_gives_the_file_or_one_sentence(hub, tmp_path, capsys, name):
    FAULTS[name](hub)
    found = fetched(hub)
    assert isinstance(found, str) == (name not in PASSING), found
    # With a hub that works again the same command passes, whatever the cache holds by now.
    hub.heal()
    again = fetched(hub)
    if isinstance(again, str):
        assert "delete the file" in again and "wrong bytes" in name
        for path in (tmp_path / "cache").rglob("blobs/*"):
            path.unlink()
        again = fetched(hub)
    assert not isinstance(again, str), again
    told = capsys.readouterr().err + (tmp_path / "log").read_text() + str(found)
    assert SECRET not in told and "Traceback" not in told


def test_the_secret_is_sent_to_the_hub_alone(hub):
    assert not isinstance(fetched(hub), str)
    sent = {host for host, token in hub.tokens if SECRET in (token or "")}
    assert sent and not any(host.startswith("localhost") for host in sent)

"""A hub that stalls, drops, lies, or has no time: the file it promised, or one sentence, soon."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import hub_world
import pytest
from hub_server import commit_of, hub_server

LIBRARY = Path(__file__).resolve().parents[2] / "workflow/lib"
SECRET = "a-token-of-no-usual-form-4711"
REPO = "tests/opt-safetensors"
FETCH = """
import json, logging, sys
sys.path.insert(0, sys.argv[1])
from prunegrid.logs import configure_logging, redact
from prunegrid.errors import PrunegridError
from prunegrid.sources import hub, hub_model
hub.wait = lambda seconds: None
hub.FIRST_ANSWER_SECONDS = 1.0
configure_logging(None)
logging.getLogger().setLevel(logging.DEBUG)
source = {"kind": "hf", "repo": sys.argv[2], "revision": "main"}
try:
    found = hub_model.fetch(source, "models.x")
    print(json.dumps({"files": found.facts["files"], "place": str(found.place)}))
except PrunegridError as error:
    print(json.dumps({"error": str(error)}))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return hub_world.build(tmp_path_factory.mktemp("world"), train=4, test=2, ca_test=2, texts=4)


@pytest.fixture
def hub(world):
    with hub_server(world) as running:
        yield running


def fetched(hub, home: Path) -> tuple[dict, str, float]:
    """Return what a process of its own got, all that it wrote to the terminal, and seconds."""
    environment = hub.environment(home) | {"HF_TOKEN": SECRET, "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", FETCH, str(LIBRARY), REPO],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout), done.stderr, time.monotonic() - began


def right(hub) -> dict[str, bytes]:
    folder = hub.folder("models", REPO)
    return {p.name: p.read_bytes() for p in folder.iterdir()}


FAULTS = {
    "drops twice": lambda hub: hub.cut("model.safetensors", times=2),
    "stalls in the middle of a file": lambda hub: hub.hang("model.safetensors", times=1, seconds=4),
    "sends wrong bytes": lambda hub: hub.twist("model.safetensors", times=99),
    "sends wrong bytes of a small file": lambda hub: hub.twist("config.json", times=99),
    "limits the rate twice": lambda hub: hub.limit(REPO, times=2),
    "limits the rate for good": lambda hub: hub.limit(REPO, times=99),
    "drops for good": lambda hub: hub.cut("model.safetensors", times=99, share=0.1),
    "answers with a page": lambda hub: hub.refuse(REPO, 200),
    "refuses the token": lambda hub: hub.refuse(REPO, 403),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_hub_at_fault_gives_the_file_or_one_sentence(hub, tmp_path, name):
    FAULTS[name](hub)
    found, told, _ = fetched(hub, tmp_path / "home")
    if "error" in found:
        assert "\n" not in found["error"] and found["error"].startswith(("models.x", "/"))
    else:
        place = Path(found["place"])
        assert {n: (place / n).read_bytes() for n in found["files"]}.items() <= right(hub).items()
        assert place.name == commit_of(hub.folder("models", REPO))
    assert ("error" in found) == (
        name not in ("drops twice", "limits the rate twice") and not name.startswith("stalls")
    ), found
    assert SECRET not in told + json.dumps(found) and "Traceback" not in told
    # With a hub that works again the same command passes, whatever the cache holds by now.
    hub.heal()
    again, told, _ = fetched(hub, tmp_path / "home")
    if "error" in again:
        assert "delete the file" in again["error"] and "wrong bytes" in name
        for path in (tmp_path / "home").rglob("blobs/*"):
            path.unlink()
        again, told, _ = fetched(hub, tmp_path / "home")
    assert "files" in again, again
    assert SECRET not in told


def test_the_secret_is_sent_to_the_hub_alone(hub, tmp_path):
    found, _, _ = fetched(hub, tmp_path / "home")
    assert "files" in found
    sent = {host for host, token in hub.tokens if SECRET in (token or "")}
    assert sent and not any(host.startswith("localhost") for host in sent)

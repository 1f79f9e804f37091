"""A small model hub on the loopback, for tests: the real client talks to it by HF_ENDPOINT.

It serves folders `ROOT/models/<org>/<name>` and `ROOT/datasets/<org>/<name>` as repositories with
one commit, in the shape that huggingface_hub 2.4 expects: repository info, file trees, HEAD and GET
of files with ETag, X-Repo-Commit and Range, and large files by a redirect to another address. It
can be told to cut a connection half-way, to refuse, to stall, to send other bytes, or to limit.

    python -m tests.helpers.hub_server ROOT   # builds the repositories in ROOT, prints the address

    with hub_server(root) as hub:             # in a test, after `hub_world.build(root)`
        hub.cut("pytorch_model.bin", times=1)
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

from tests.helpers.hub_handler import Handler


class Hub(ThreadingHTTPServer):
    """The server, with the faults that it was told to show and the requests that it has seen.

    Attributes:
        root: the folder of the repositories.
        refusals: {repository: (status, X-Error-Code)}, for every request of it.
        stalls: repositories whose requests are answered only once `heal` is called.
        cuts: {end of a file's name: [times left, share of the bytes that is sent]}.
        hangs: {end of a file's name: times left that its second half waits for `heal`}.
        twists: {end of a file's name: times left that a byte of it is another one}.
        limits: {repository: times left that it is refused for a while}.
        seen: "METHOD path" of every request, and its Range.
        tokens: (host, Authorization) of every request.
        xet: whether it offers large files by Xet too.
        uploads: {SHA-256: bytes} of the large files that it was sent (`hub_uploads`).
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = Path(root)
        self.refusals: dict[str, tuple[int, str]] = {}
        self.stalls: set[str] = set()
        self.healed = threading.Event()
        self.cuts: dict[str, list[float]] = {}
        self.hangs: dict[str, int] = {}
        self.twists: dict[str, int] = {}
        self.limits: dict[str, int] = {}
        self.xet = False
        self.uploads: dict[str, bytes] = {}
        self.tokens: list[tuple[str, str | None]] = []
        self.seen: list[tuple[str, str | None]] = []

    def handle_error(self, request, client_address) -> None:
        """Print nothing: clients hang up on a server that stalls."""

    @property
    def url(self) -> str:
        """Return the address to set HF_ENDPOINT to."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def environment(self, home: Path) -> dict[str, str]:
        """Return the environment of a process that shall know this hub alone, with a cache."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
        return clean | {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def cut(self, suffix: str, times: int, share: float = 0.5) -> None:
        """Cut the connection after a share of the bytes, the next `times` a file is sent."""
        self.cuts[suffix] = [times, share]

    def hang(self, suffix: str, times: int) -> None:
        """Stop in the middle of a file until `heal`, the next `times` it is sent."""
        self.hangs[suffix] = times

    def stall(self, repo: str) -> None:
        """Answer no request of a repository until `heal`."""
        self.stalls.add(repo)

    def twist(self, suffix: str, times: int) -> None:
        """Send a file with one byte changed, the next `times`."""
        self.twists[suffix] = times

    def limit(self, repo: str, times: int) -> None:
        """Answer 429 to the next `times` requests of a repository."""
        self.limits[repo] = times

    def heal(self) -> None:
        """Show no more faults, and answer what waits."""
        for faults in (self.refusals, self.stalls, self.cuts, self.hangs, self.twists, self.limits):
            faults.clear()
        self.healed.set()
        self.healed = threading.Event()

    def refuse(self, repo: str, status: int, code: str = "") -> None:
        """Answer every request of a repository with a status."""
        self.refusals[repo] = (status, code)

    def folder(self, kind: str, repo: str) -> Path:
        """Return where a repository's files are."""
        return self.root / kind / repo


@contextlib.contextmanager
def hub_server(root: Path) -> Iterator[Hub]:
    """Yield a running hub that serves the repositories below `root`."""
    server = Hub(root)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.heal()
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    from tests.helpers import hub_world

    place = Path(sys.argv[1])
    hub_world.build(place)
    with hub_server(place) as running:
        print(f"export HF_ENDPOINT={running.url} HF_HUB_OFFLINE=0", flush=True)
        threading.Event().wait()

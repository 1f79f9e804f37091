"""A small model hub on the loopback, for tests: the real client talks to it by HF_ENDPOINT.

It serves folders `ROOT/models/<org>/<name>` and `ROOT/datasets/<org>/<name>` as repositories with
one commit, in the shape that huggingface_hub 2.4 expects: repository info, file trees, HEAD and GET
of files with ETag, X-Repo-Commit and Range, and large files by a redirect to another address. It
can be told to cut a connection half-way, to refuse, to stall, to send other bytes, or to limit.

    python tests/hub_server.py ROOT        # builds the repositories in ROOT, prints the address

    with hub_server(root) as hub:          # in a test; `hub_world.build(root)` makes repositories
        hub.cut("pytorch_model.bin", times=1)
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

LARGE = (".bin", ".safetensors", ".parquet", ".gz", ".h5", ".gguf")
API = re.compile(r"/api/(models|datasets)/((?:[^/]+/)?[^/]+?)(?:/(revision|tree)/([^/]+)(/.*)?)?")
FILE = re.compile(r"/(datasets/)?((?:[^/]+/)?[^/]+)/resolve/([^/]+)/(.+)")


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
        self.tokens: list[tuple[str, str | None]] = []
        self.seen: list[tuple[str, str | None]] = []

    def handle_error(self, request, client_address) -> None:
        """Print nothing: clients hang up on a server that stalls."""

    @property
    def url(self) -> str:
        """The address to set HF_ENDPOINT to."""
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


def commit_of(folder: Path) -> str:
    """Return the commit of a repository: a digest over its files."""
    digest = hashlib.sha1()
    for path in files_of(folder):
        digest.update(f"{path.relative_to(folder)} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def files_of(folder: Path) -> list[Path]:
    """Return all files of a repository."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card_of(folder: Path) -> dict:
    """Return the YAML at the head of a repository's README.md."""
    readme = folder / "README.md"
    parts = readme.read_text().split("---") if readme.exists() else []
    return yaml.safe_load(parts[1]) if len(parts) > 2 else {}


def entry_of(path: Path, folder: Path) -> dict:
    """Return a file as the hub lists it."""
    entry = {"rfilename": path.relative_to(folder).as_posix(), "size": path.stat().st_size}
    if path.name.endswith(LARGE):
        entry["lfs"] = {"sha256": sha256_of(path), "size": entry["size"], "pointerSize": 130}
    return entry | {"blobId": git_blob(path)}


def git_blob(path: Path) -> str:
    """Return git's name of a file's content, which is the hub's ETag of a small file."""
    body = path.read_bytes()
    return hashlib.sha1(f"blob {len(body)}\0".encode() + body).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        """Answer with the headers alone."""
        self.answer(body=False)

    def do_GET(self) -> None:
        """Answer with headers and body."""
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        """Answer an API call, a file, or a large file's second address."""
        path = unquote(urlsplit(self.path).path)
        self.server.seen.append((f"{self.command} {path}", self.headers.get("Range")))
        self.server.tokens.append((self.headers["Host"], self.headers.get("Authorization")))
        if path.startswith("/large/"):
            return self.send_file(self.server.root / path.removeprefix("/large/"), {}, body)
        if match := API.fullmatch(path):
            kind, repo, what, revision, below = match.groups()
            return self.send_info(kind, repo, what, revision or "main", (below or "").strip("/"))
        if match := FILE.fullmatch(path):
            kind = "datasets" if match[1] else "models"
            return self.find_file(kind, match[2], match[3], match[4], body)
        return self.send_error_code(404, "")

    def refused(self, kind: str, repo: str, revision: str) -> bool:
        """Answer and return True where the repository or the revision is not to be had."""
        if repo in self.server.stalls:
            self.server.healed.wait()
        folder = self.server.folder(kind, repo)
        if self.server.limits.get(repo, 0) > 0:
            self.server.limits[repo] -= 1
            self.send_error_code(429, "")
        elif repo in self.server.refusals:
            self.send_error_code(*self.server.refusals[repo])
        elif not folder.is_dir():
            # As the hub does for those who are not logged in: it does not say what exists.
            self.send_error_code(401, "RepoNotFound")
        elif revision not in ("main", commit_of(folder)):
            self.send_error_code(404, "RevisionNotFound")
        else:
            return False
        return True

    def send_error_code(self, status: int, code: str) -> None:
        """Send a status with the hub's own name of the fault."""
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_json(self, value) -> None:
        """Send JSON."""
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def send_info(self, kind: str, repo: str, what: str | None, revision: str, below: str) -> None:
        """Send a repository's info, or the tree of its files."""
        if self.refused(kind, repo, revision):
            return
        folder = self.server.folder(kind, repo)
        entries = [entry_of(path, folder) for path in files_of(folder)]
        if what == "tree":
            tree = [
                {"type": "file", "path": e["rfilename"], "oid": e["blobId"], "size": e["size"]}
                for e in entries
                if e["rfilename"].startswith(below)
            ]
            return self.send_json(tree)
        card = card_of(folder)
        return self.send_json(
            {
                "id": repo,
                "modelId": repo,
                "sha": commit_of(folder),
                "private": False,
                "gated": False,
                "disabled": False,
                "tags": [f"license:{card['license']}"] if "license" in card else [],
                "cardData": card,
                "siblings": entries,
            }
        )

    def find_file(self, kind: str, repo: str, revision: str, name: str, body: bool) -> None:
        """Send a file, or for a large one where it is."""
        if self.refused(kind, repo, revision):
            return
        folder = self.server.folder(kind, repo)
        path = folder / name
        if not path.is_file() or ".." in name:
            return self.send_error_code(404, "EntryNotFound")
        headers = {"X-Repo-Commit": commit_of(folder)}
        if not name.endswith(LARGE):
            headers["ETag"] = f'"{git_blob(path)}"'
            return self.send_file(path, headers, body)
        place = path.relative_to(self.server.root).as_posix()
        self.send_response(302)
        for header, value in {
            **headers,
            "X-Linked-Etag": f'"{sha256_of(path)}"',
            "X-Linked-Size": str(path.stat().st_size),
            **(self.to_xet(path) if self.server.xet else {}),
            # Another host, as the hub does: the client must not send its token there.
            "Location": f"http://localhost:{self.server.server_address[1]}/large/{place}",
            "Content-Length": "0",
        }.items():
            self.send_header(header, value)
        self.end_headers()

    def to_xet(self, path: Path) -> dict[str, str]:
        """Return what leads a client to Xet, which this hub does not speak."""
        return {"X-Xet-Hash": sha256_of(path), "X-Xet-Refresh-Route": f"{self.server.url}/xet"}

    def send_file(self, path: Path, headers: dict[str, str], body: bool) -> None:
        """Send a file or the rest of it from the Range's first byte, or only half of that."""
        if not path.is_file():
            return self.send_error_code(404, "EntryNotFound")
        whole = path.read_bytes()
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        first = int(span[1]) if span else 0
        data = whole[first:]
        self.send_response(206 if span else 200)
        for header, value in headers.items():
            self.send_header(header, value)
        if span:
            self.send_header("Content-Range", f"bytes {first}-{len(whole) - 1}/{len(whole)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not body:
            return None
        for suffix, state in self.server.cuts.items():
            if path.name.endswith(suffix) and state[0] > 0:
                state[0] -= 1
                self.wfile.write(data[: int(len(data) * state[1])])
                self.close_connection = True
                return None
        self.wfile.write(self.spoiled(path.name, data))
        return None

    def spoiled(self, name: str, data: bytes) -> bytes:
        """Return what is left to send of a file, with the faults of the server put in."""
        for suffix, left in self.server.twists.items():
            if name.endswith(suffix) and left > 0 and data:
                self.server.twists[suffix] -= 1
                data = data[:-1] + bytes([data[-1] ^ 1])
        for suffix, left in self.server.hangs.items():
            if name.endswith(suffix) and left > 0:
                self.server.hangs[suffix] -= 1
                healed = self.server.healed
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                healed.wait()
                data = data[len(data) // 2 :]
        return data


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

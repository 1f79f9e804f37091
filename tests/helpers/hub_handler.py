"""The answers of the test hub to one connection, with the faults that it was told to show."""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tests.helpers.hub_files import (
    LARGE,
    card_of,
    commit_of,
    entry_of,
    files_of,
    git_blob,
    sha256_of,
)
from tests.helpers.hub_uploads import Uploads

if TYPE_CHECKING:
    from tests.helpers.hub_server import Hub

API = re.compile(r"/api/(models|datasets)/((?:[^/]+/)?[^/]+?)(?:/(revision|tree)/([^/]+)(/.*)?)?")
FILE = re.compile(r"/(datasets/)?((?:[^/]+/)?[^/]+)/resolve/([^/]+)/(.+)")


class Handler(Uploads, BaseHTTPRequestHandler):
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

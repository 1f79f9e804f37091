"""Uploads to the test hub: repositories, large files by Git LFS, and commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import yaml

from tests.helpers.hub_files import LARGE, commit_of

if TYPE_CHECKING:
    from tests.helpers.hub_server import Hub

STEP = re.compile(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main")
BATCH = re.compile(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch")


class Uploads:
    """What a connection may send; a mixin of the handler.

    A repository's refusals count (`Hub.refuse`); those of `<repo>:commit` are of its commits alone.
    Without a token nothing is taken.
    """

    server: Hub

    def do_POST(self) -> None:
        """Answer a step of an upload."""
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((f"POST {path}", None))
        if not self.headers.get("Authorization"):
            return self.send_error_code(401, "")
        if path == "/api/repos/create":
            asked = json.loads(body)
            return self._create(f"{asked['organization']}/{asked['name']}")
        if path == "/api/validate-yaml":
            return self._validate(json.loads(body)["content"])
        if match := BATCH.fullmatch(path):
            return self._batch(json.loads(body)["objects"])
        match = STEP.fullmatch(path)
        if match is None:
            return self.send_error_code(404, "")
        repo, step = match.groups()
        if self._refuses(repo) or self._refuses(f"{repo}:{step}"):
            return None
        return (
            self._preupload(json.loads(body)) if step == "preupload" else self._commit(repo, body)
        )

    def do_PUT(self) -> None:
        """Take a large file."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.uploads[hashlib.sha256(body).hexdigest()] = body
        self.send_error_code(200, "")

    def _refuses(self, name: str) -> bool:
        if name in self.server.refusals:
            self.send_error_code(*self.server.refusals[name])
        return name in self.server.refusals

    def _create(self, repo: str) -> None:
        if self._refuses(repo):
            return
        self.server.folder("models", repo).mkdir(parents=True, exist_ok=True)
        self.send_body({"url": f"{self.server.url}/{repo}"})

    def _validate(self, content: str) -> None:
        metadata = yaml.safe_load(content.split("---")[1])
        assert isinstance(metadata, dict), metadata
        self.send_body({"warnings": [], "errors": []})

    def _preupload(self, asked: dict) -> None:
        names = [file["path"] for file in asked["files"]]
        modes = ["lfs" if name.endswith(LARGE) else "regular" for name in names]
        files = [
            {"path": name, "uploadMode": mode, "shouldIgnore": False}
            for name, mode in zip(names, modes, strict=True)
        ]
        self.send_body({"files": files})

    def _batch(self, objects: list[dict]) -> None:
        answer = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}}
            for one in objects
        ]
        self.send_body({"transfer": "basic", "objects": answer})

    def _commit(self, repo: str, body: bytes) -> None:
        """Write a commit's files, all of them or, if it lacks a large one, none."""
        lines = [json.loads(line) for line in body.splitlines()]
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.uploads[value["oid"]]
        folder = self.server.folder("models", repo)
        for name, data in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        commit = commit_of(folder)
        url = f"{self.server.url}/{repo}/commit/{commit}"
        self.send_body({"success": True, "commitOid": commit, "commitUrl": url})

    def send_body(self, value: dict) -> None:
        """Send JSON, whatever the method."""
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

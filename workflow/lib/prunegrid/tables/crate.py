"""The entities of a run in the terms of RO-Crate: files, steps, tools, and what a step used.

A crate holds the files of steps that are small and the study's own. Others are named by their
SHA-256 (an `ni:` address, RFC 6920) and their size.
"""

from __future__ import annotations

import base64
import mimetypes
import shutil
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prunegrid.artifacts.artifact_folder import DROPPED, MANIFEST, is_dropped, read_manifest
from prunegrid.artifacts.job_status import read_state
from prunegrid.common.file_io import canonical_json, file_sha256
from prunegrid.graph.nodes import without_paths

# {fact of a manifest: (quantity, its unit, how many of them the fact's unit is)}.
USAGE = {
    "seconds": ("realTime", "MilliSEC", 1000),
    "peak_memory_bytes": ("peakRSS", "BYTE", 1),
}
OTHERS = ("model", "data", "rows", "cloze", "mixture")  # stages whose files are the work of others
LARGEST = 10_000_000  # bytes of a file of a step that the crate holds
# Facts of a manifest that say by what a step was run.
RUN_BY = ("code", "versions", "python", "device", "threads", "compute_dtype")
COMPLETED, FAILED = (f"http://schema.org/{one}ActionStatus" for one in ("Completed", "Failed"))
_FORMS = {".parquet": "application/vnd.apache.parquet", ".md": "text/markdown"}
_FORMS |= {".smk": "text/plain", ".yaml": "application/yaml", ".jsonl": "application/jsonl"}

Entity = dict[str, Any]


def ref(name: str) -> dict[str, str]:
    """Return a reference to an entity by its @id."""
    return {"@id": name}


def refs(names: Iterable[str]) -> list[dict[str, str]]:
    """Return references to entities, each once."""
    return [ref(name) for name in dict.fromkeys(names)]


def digest_address(sha256: str) -> str:
    """Return the address of content by its hex SHA-256 (RFC 6920)."""
    text = base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")
    return f"ni:///sha-256;{text}"


def told_time(moment: datetime) -> str:
    """Return a time in ISO 8601, to the second."""
    return moment.isoformat(timespec="seconds")


def written(path: Path) -> datetime:
    """Return when a file was written, as its file system says."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


class Crate:
    """The entities of a crate while it is filled.

    Attributes:
        files: {@id: entity} of all files.
        results: {path of an artifact: @ids of its files}.
        actions, tools, others: {@id: entity}.
        inputs: @ids of the files of steps without inputs: what the workflow reads.
        started: when each step began that was made.
    """

    def __init__(self, out: Path, version: str) -> None:
        self.out, self.version = out, version
        self.files: dict[str, Entity] = {}
        self.results: dict[str, list[str]] = {}
        self.actions: dict[str, Entity] = {}
        self.tools: dict[str, Entity] = {}
        self.others: dict[str, Entity] = {}
        self.inputs: list[str] = []
        self.started: list[datetime] = []

    def put(self, path: Path, name: str, **facts: Any) -> str:
        """Copy a file into the crate; return its @id."""
        place = self.out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        return self.own(name, **facts)

    def own(self, name: str, **facts: Any) -> str:
        """Add the entity of a file that lies in the crate; return its @id."""
        place = self.out / name
        return self.file(quote(name), name, file_sha256(place), place.stat().st_size, **facts)

    def file(self, name: str, told: str, sha256: str, size: int, **facts: Any) -> str:
        """Add the entity of a file by its @id, unless there is one; return the @id."""
        suffix = Path(told).suffix
        form = _FORMS.get(suffix) or mimetypes.guess_type(told)[0] or "application/octet-stream"
        about = {"sha256": sha256, "contentSize": str(size), "encodingFormat": form}
        entity = {"@id": name, "@type": "File", "name": told, **about, **facts}
        self.files.setdefault(name, entity)
        return name

    def step(self, node: Mapping[str, str]) -> None:
        """Add a step: its action, tool and files; nothing of one that was not reached.

        Args:
            node: its entry in the plan of a table.

        Raises:
            AttestationError: its artifact was changed.
        """
        folder = Path(node["path"])
        name = DROPPED if is_dropped(folder) else MANIFEST
        action = {"@id": f"#{node['stage']}-{node['key']}", "name": node["label"]}
        if not (folder / name).is_file():
            state = read_state(Path(node["status"])) or {}
            if state.get("state") == "failed":
                failed = {"actionStatus": FAILED, "error": state["reason"]}
                self.action(node["stage"], {**action, **failed})
            return
        manifest = read_manifest(folder, node["key"])
        results = self._results(folder, node, manifest)
        results.append(self.put(folder / name, f"artifacts/{node['stage']}/{node['key']}/{name}"))
        parents = {one["key"] for one in manifest["parents"].values()}
        used = [ids for path, ids in self.results.items() if Path(path).name in parents]
        inputs = [name for ids in used for name in ids]
        self.results[node["path"]] = results
        self.inputs += results if not parents else []
        told = {"settings": without_paths(manifest["settings"])}
        told["run by"] = {name: manifest[name] for name in RUN_BY if name in manifest}
        inputs += [self._value(action["@id"], name, value) for name, value in told.items()]
        usage = [fact for fact in USAGE if fact in manifest]
        usage = [self._usage(action["@id"], fact, manifest[fact]) for fact in usage]
        action |= {"actionStatus": COMPLETED, "result": refs(results), "object": refs(inputs)}
        # Another file than the step's own says nothing of when it was made.
        if name == MANIFEST and "adopted" not in manifest:
            end = written(folder / name)
            self.started.append(end - timedelta(seconds=manifest["seconds"]))
            action |= {"startTime": told_time(self.started[-1]), "endTime": told_time(end)}
        action["resourceUsage"] = refs(usage)
        self.action(node["stage"], action, manifest.get("versions", manifest["pins"]))

    def _results(self, folder: Path, node: Mapping[str, str], manifest: Mapping) -> list[str]:
        """Add the files of a step, copied or named by their digest; return their @ids."""
        source = manifest["record"].get("source") or {}
        licence = {"license": source["licence"]} if source.get("licence") else {}
        found = []
        for name, facts in manifest["files"].items():
            place = f"artifacts/{node['stage']}/{node['key']}/{name}"
            is_own = node["stage"] not in OTHERS and facts["bytes"] <= LARGEST
            if is_own and (folder / name).is_file():
                found.append(self.put(folder / name, place, **licence))
            else:
                address = digest_address(facts["sha256"])
                found.append(self.file(address, place, facts["sha256"], facts["bytes"], **licence))
        return found

    def _value(self, action: str, name: str, value: Any) -> str:
        """Add a value that is an input of a step; return its @id."""
        key = f"{action}-{name.replace(' ', '-')}"
        self.others[key] = {"@id": key, "@type": "PropertyValue", "name": name}
        self.others[key]["value"] = canonical_json(value)
        return key

    def _usage(self, action: str, fact: str, value: float) -> str:
        """Add what a step took of a resource; return its @id."""
        (quantity, unit, times), key = USAGE[fact], f"{action}-{fact.replace('_', '-')}"
        entity = {"@id": key, "@type": "PropertyValue", "name": fact}
        entity["propertyID"] = f"https://w3id.org/ro/terms/nf-trace#{quantity}"
        entity["unitCode"] = f"https://qudt.org/vocab/unit/{unit}"
        self.others[key] = entity | {"value": str(round(value * times))}
        return key

    def action(self, stage: str, action: Entity, versions: Mapping[str, str] | None = None) -> None:
        """Add the action of a step, and its tool with what that needs."""
        name = f"pkg:generic/prunegrid@{self.version}#{stage}"
        about = {"@type": "SoftwareApplication", "name": f"prunegrid {stage}"}
        about["softwareVersion"] = self.version
        tool = self.tools.setdefault(name, {"@id": name, **about})
        needs = tool.setdefault("softwareRequirements", [])
        for name, version in (versions or {}).items():
            package = f"https://pypi.org/project/{name}/{version}/"
            about = {"@type": "SoftwareApplication", "name": name, "softwareVersion": version}
            about["url"] = package
            self.others[package] = {"@id": package, **about}
            needs += [ref(package)] if ref(package) not in needs else []
        action = {**action, "@type": "CreateAction", "instrument": ref(tool["@id"])}
        action.setdefault("description", f"step {stage}: {action['name']}")
        self.actions[action["@id"]] = action

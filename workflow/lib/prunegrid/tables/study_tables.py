"""The tables of one study as they were written, with the manifest that says what they are of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from prunegrid.artifacts.artifact_folder import read_sealed, recorded
from prunegrid.common.errors import AttestationError, PrunegridError, nearest
from prunegrid.tables.files import read_parquet
from prunegrid.tables.schema import CELL, COLUMNS, LONG, Row, cell_key


@dataclass(frozen=True)
class StudyTables:
    """The tables of a study.

    Attributes:
        name: of the study.
        folder: where its tables lie; `results` as a rule.
        manifest: that of the tables; `plan` is what they were made of.
        wide: a row a cell; of a census a row a bin.
        long: a row a score; None for a census.
    """

    name: str
    folder: Path
    manifest: Mapping[str, Any]
    wide: pandas.DataFrame
    long: pandas.DataFrame | None

    @property
    def manifest_path(self) -> Path:
        """Return the file of its manifest."""
        return self.folder / f"{self.name}.manifest.json"

    @property
    def plan(self) -> Mapping[str, Any]:
        """Return what the tables were made of."""
        return self.manifest["plan"]

    def cells(self) -> Iterator[tuple[Mapping[str, Any], Row]]:
        """Yield (its part of the plan, its row) of every cell that has scores."""
        rows = {cell_key(row): row for row in self.wide.to_dict("records")}
        for cell in self.plan["cells"]:
            row = rows[tuple(cell["columns"][name] for name in CELL)]
            if row["status"] == "ok":
                yield cell, row

    def refs(self) -> dict[str, Mapping[str, str]]:
        """Return {path: its entry in the plan} of every artifact, parents before children."""
        cells = [ref for cell in self.plan["cells"] for ref in cell["ancestors"]]
        return {ref["path"]: ref for ref in (*cells, *self._of_controls())}

    def _of_controls(self) -> Iterator[Mapping[str, str]]:
        for control in self.plan.get("baselines", ()):
            yield from (control["data"], control["scores"])

    def steps(self) -> list[Mapping[str, Any]]:
        """Return the manifests of all steps that a score was made by, parents before children.

        Raises:
            AttestationError: one is gone, or another one lies in its place.
        """
        refs = {ref["path"]: ref for cell, _ in self.cells() for ref in cell["ancestors"]}
        made = (ref for ref in self._of_controls() if Path(ref["path"]).is_dir())
        refs |= {ref["path"]: ref for ref in made}
        return [manifest_of(ref) for ref in refs.values()]


def read(study: str, folder: Path) -> StudyTables:
    """Return the tables of a study out of the folder of its results.

    Raises:
        PrunegridError: there are none, or a file is damaged or of another version.
    """
    path = folder / f"{study}.parquet"
    if not path.is_file():
        known = [p.stem for p in folder.glob("*.parquet") if "." not in p.stem]
        remedy = f"{nearest(study, known)}; or make it: prunegrid run {study}"
        raise PrunegridError(f"there is no table of '{study}'", where=str(path), remedy=remedy)
    manifest = read_sealed(path.with_suffix(".manifest.json"))
    if manifest["plan"].get("kind") == "census":
        return StudyTables(study, folder, manifest, read_parquet(path, "", ()), None)
    wide, long = read_parquet(path, "", COLUMNS), read_parquet(path, ".long", LONG)
    return StudyTables(study, folder, manifest, wide, long)


def manifest_of(ref: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the manifest of an artifact that a plan names, though its weights were dropped.

    Raises:
        AttestationError: it is gone, or another one lies in its place.
    """
    manifest = recorded(Path(ref["path"]))
    if manifest.get("key") != ref["key"]:
        raise AttestationError(
            "another artifact lies here", where=ref["path"], expected=f"the key {ref['key']}"
        )
    return manifest

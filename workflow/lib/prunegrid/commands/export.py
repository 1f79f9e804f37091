"""Export of one cell's model as a Hugging Face folder, and its upload to a hub."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunegrid import __version__
from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError, explained
from prunegrid.models import export_forms, exported_folder
from prunegrid.tables import cell_sources, model_card, one_cell
from prunegrid.tables.one_cell import TableCell

BENCHMARKS = ".eval_results/prunegrid.yaml"


def export(
    text: str, out: Path, results: Path, *, packed: bool = False, repo: str | None = None
) -> Mapping[str, Any]:
    """Write a cell's model into a new folder; return the content of its `prunegrid.json`.

    The folder is written aside, checked as `prunegrid check` does, and then renamed.

    Args:
        text: which cell (`prunegrid.tables.one_cell`).
        out: must not exist.
        results: the folder of tables and artifacts.
        packed: leave the zeros out of the files.
        repo: the repository that the folder will be pushed to.

    Raises:
        PrunegridError: there is no such cell, its weights are gone or are not the row's, `out`
            exists, or the disk is full.
    """
    _require_new(out)
    cell = one_cell.find(text, results)
    _require_weights(cell)
    place = repo or out.name
    with artifact_folder.writing(out) as aside:
        dtype = cell.row["evaluation_dtype"]
        written = export_forms.write(cell.folder, aside, dtype, packed=packed, repo=repo)
        tokenizer = (aside / "tokenizer_config.json").is_file()
        card = model_card.write(cell, written["form"], place, tokenizer=tokenizer)
        file_io.write_text(aside / exported_folder.CARD, card)
        if entries := model_card.benchmark_entries(cell):
            file_io.write_text(aside / BENCHMARKS, entries)
        exported_folder.seal(aside, {**written, **_facts(cell)})
        outcome = exported_folder.check(aside)
        if outcome.differences:
            raise AttestationError(
                f"the folder is not as it was written: {outcome.differences[0]}",
                where=str(out),
                remedy="check the disk, and export again",
            )
        _require_new(out)
    return outcome.about


def _require_new(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise PrunegridError(
            "there is something already",
            where=str(out),
            remedy="name a folder that does not exist, or remove this one",
        )


def _require_weights(cell: TableCell) -> None:
    """Check that a cell's weights are there, whole, and those of its row.

    Raises:
        PrunegridError: they were dropped or removed, or they are others.
    """
    ref, folder = cell.plan["chain"][-1], cell.folder
    # Kept, as no step that reads them will run.
    again = "(with the --configfile of the run, if it had one) make them again: "
    again += f"snakemake --cores all --config keep_weights=always -- {folder}/"
    if artifact_folder.is_dropped(folder):
        raise PrunegridError(
            "its weights were dropped (keep_weights: until_used)",
            where=cell.name,
            remedy=again + artifact_folder.MANIFEST,
        )
    if not folder.is_dir():
        raise PrunegridError(
            f"its weights are gone: there is no {folder}",
            where=cell.name,
            remedy=again + artifact_folder.MANIFEST,
        )
    manifest = artifact_folder.read_manifest(folder, ref["key"])
    digest = manifest["record"]["weights"]["sha256"]
    if digest != cell.row["weights_sha256"]:
        raise AttestationError(
            f"{folder} holds the weights {digest}",
            where=cell.name,
            expected=f"{cell.row['weights_sha256']}, as its row says",
            remedy=f"make the table again: prunegrid run {cell.row['study']}",
        )


def _facts(cell: TableCell) -> dict[str, Any]:
    """Return what `prunegrid.json` says of a cell."""
    scores = cell.scores.to_dict("records")
    return {
        "prunegrid": __version__,
        "cell": cell.name,
        "row": _plain(cell.row),
        "scores": [_plain(score) for score in scores],
        "steps": cell_sources.steps(cell),
        "source": cell_sources.model_source(cell),
        "learned": cell_sources.learned(cell),
    }


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as JSON holds it: builtins, None for nulls, numbers that are none as texts."""
    plain = {}
    for name, value in row.items():
        value = value.item() if hasattr(value, "item") else value
        missing = value is None or value != value or str(value) == "<NA>"
        infinite = isinstance(value, float) and math.isinf(value)
        plain[name] = None if missing else str(value) if infinite else value
    return plain


def push(folder: Path, repo: str) -> str:
    """Upload an exported folder to a model repository of the hub; return its address.

    The repository is made if it is not there. All files come in one commit, or none. The token is
    HF_TOKEN's, or the one that `hf auth login` keeps.

    Raises:
        PrunegridError: the hub refuses or cannot be reached; the folder stays as it is.
    """
    # It imports the hub's client: half a second.
    from huggingface_hub import HfApi

    from prunegrid.data.sources.hub import endpoint

    refused = PrunegridError(
        f"the folder {folder} is whole, but {endpoint()} did not take it",
        where=repo,
        remedy="set HF_TOKEN to a token that may write there (or `hf auth login`), and go on with: "
        f"hf upload {repo} {folder}",
    )
    with explained(refused):
        api = HfApi(endpoint=endpoint())
        api.create_repo(repo, exist_ok=True)
        message = f"prunegrid export of {exported_folder.read_header(folder)['cell']}"
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    return f"{endpoint()}/{repo}"


def require_repository(repo: str) -> None:
    """Check that a text is the name of a repository, before anything is written.

    Raises:
        PrunegridError: it is not of the form org/name.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    wrong = PrunegridError(f"'{repo}' is not a repository's name", expected="org/name")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise wrong from error
    if "/" not in repo:
        raise wrong

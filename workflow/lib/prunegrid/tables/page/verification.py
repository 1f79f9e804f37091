"""The outcome of `prunegrid verify`: a sealed file beside the table, and a block of its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from prunegrid import __version__
from prunegrid.artifacts.artifact_folder import read_sealed, sealed
from prunegrid.common.file_io import write_json
from prunegrid.tables.page import page_blocks

SHOWN = 20  # differences on the page


def outcome_file(table: Path) -> Path:
    """Return where the outcome of a table's verification lies."""
    return table.with_name(f"{table.stem}.verified.json")


def record(table: Path, differences: Sequence[str], now: datetime) -> None:
    """Write the outcome beside a table, and the table's page again with it.

    Raises:
        PrunegridError: the table's manifest is damaged.
        OSError: the folder cannot be written to.
    """
    manifest = read_sealed(table.with_suffix(".manifest.json"))
    outcome = {"study": table.stem, "at": now.isoformat(timespec="seconds")}
    outcome |= {"prunegrid": __version__, "table_key": manifest["key"]}
    outcome |= {"table_sha256": manifest["files"][table.name], "differences": list(differences)}
    write_json(outcome_file(table), sealed(outcome))
    page_blocks.rewrite(table, "verification", block(outcome, table.stem))


def block(outcome: Mapping[str, Any] | None, study: str) -> str:
    """Return the HTML that says when a table was verified and how that ended, or by which command.

    Args:
        outcome: None if it was not verified since it was made.
    """
    if outcome is None:
        command = f"prunegrid verify results/{study}.parquet"
        text = "Not verified since it was made. To compute again what it says: "
        return f'<p class="verified none">{text}<code>{escape(command)}</code></p>'
    when = escape(outcome["at"].replace("T", " ").replace("+00:00", " UTC"))
    if not outcome["differences"]:
        text = "every weight hash, count and score agrees with the table."
        return f'<p class="verified passed">✓ Verified {when}: {text}</p>'
    count = len(outcome["differences"])
    lines = "".join(f"<li>{escape(text)}</li>" for text in outcome["differences"][:SHOWN])
    more = f"<li>… and {count - SHOWN} more</li>" if count > SHOWN else ""
    head = f'<p class="verified differs">✗ Verified {when}: {count} difference(s).</p>'
    return f'{head}<ul class="differences">{lines}{more}</ul>'

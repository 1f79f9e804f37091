"""llm-compressor in an environment of its own: its pins are not those of this project."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / ".venv-llmcompressor"
PINS = HERE / "llmcompressor.txt"


def python() -> Path:
    """Return the Python of llm-compressor's environment, made first where it is missing or old."""
    found = FOLDER / "bin" / "python"
    stamp = FOLDER / "pins.txt"
    if not stamp.exists() or stamp.read_text() != PINS.read_text():
        print(f"Setting up {FOLDER.name} (some minutes, once)", file=sys.stderr, flush=True)
        venv.create(FOLDER, with_pip=True)
        install = [str(found), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--no-deps", "-r", str(PINS)], check=True)
        stamp.write_text(PINS.read_text())
    return found


def version(package: str) -> str:
    """Return the pinned version of one of its packages."""
    lines = PINS.read_text().splitlines()
    return next(line.split("==")[1] for line in lines if line.startswith(f"{package}=="))

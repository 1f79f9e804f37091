"""Logs of jobs, without secrets."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from pathlib import Path

# Patterns of secrets; those of this machine's variables are covered whatever they look like.
_SECRETS = (
    (re.compile(r"hf_[A-Za-z0-9]{8,}"), "hf_***"),
    (re.compile(r"(://)[^/@\s]+@"), r"\1***@"),
    (re.compile(r"(?i)\b(bearer )[\w.~+/=-]+"), r"\1***"),
)
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
# The variable that makes jobs, libraries and all, write to their logs alone.
QUIET = "PRUNEGRID_QUIET"
COMMANDS = "prunegrid.commands"  # loggers of what a command says itself
_SHORTEST = 6  # a shorter "secret" would cover parts of words


def redact(text: str) -> str:
    """Return the text without access tokens and passwords in addresses."""
    for name in _VARIABLES:
        secret = os.environ.get(name, "").strip()
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, "***")
    for pattern, cover in _SECRETS:
        text = pattern.sub(cover, text)
    return text


def configure_logging(log_file: str | os.PathLike | None) -> None:
    """Send one line an event to the log file and to standard error, secrets left out.

    If the file cannot be written (a full disk), standard error alone has them. A quiet job (QUIET)
    writes to its log all that it or a library would print.
    """
    logging.raiseExceptions = False  # a line that cannot be written is no reason for a traceback
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if log_file:
        with contextlib.suppress(OSError):
            Path(log_file).parent.mkdir(parents=True, exist_ok=True)
            file = logging.FileHandler(log_file, mode="w", encoding="utf-8")
            handlers.append(file)
            if os.environ.get(QUIET):
                handlers.pop(0)
                for stream in (1, 2):
                    os.dup2(file.stream.fileno(), stream)
    for handler in handlers:
        handler.setFormatter(_Redacting("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    logging.captureWarnings(True)  # or they would reach the terminal as they are
    _hush_libraries()


def log_for_people() -> None:
    """Send a command's own lines and all warnings to standard error, and no progress bars.

    Call it before transformers or datasets are imported: they read the variables then. What the
    library tells of its work (INFO) is for the logs of jobs.
    """
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger(COMMANDS).setLevel(logging.INFO)
    _hush_libraries()


def _hush_libraries() -> None:
    for noisy in ("httpx", "httpx2", "httpcore", "urllib3", "filelock", "fsspec"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns of faster kernels that are not installed; weights are multiplied dequantized here.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


class _Redacting(logging.Formatter):
    """A formatter that covers secrets in messages and tracebacks alike."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

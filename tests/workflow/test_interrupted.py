"""Ctrl-C and SIGTERM in a run: what they end has not failed, and a finished table stays."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.helpers.disturbed import STUDY, TARGET, fault, fresh, struck
from tests.helpers.runs import FOR_EVER, Run, table

AGAIN = [sys.executable, "-m", "prunegrid", "run", STUDY, "-c", "config.yaml"]
# The moment at which the fine-tuning has saved its first state.
SAVING = ("os.rename", r"/training/\w+\.safetensors$")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """The study of one cell, finished; then its fine-tuning is given another learning rate."""
    run = fresh(tmp_path_factory.mktemp("interrupted") / "run")
    run.make_artifacts(STUDY)
    done = run.snakemake(TARGET)
    assert done.returncode == 0, done.stdout[-6000:]
    run.configure(lambda tree: tree["finetune"]["tiny-lora"].update(learning_rate=2e-2))
    return run


def stopped(run: Run, words: list[str], number: int, who: str = "both") -> tuple[int, str]:
    """Return the exit status and output of a run that gets a signal while it tunes.

    Args:
        who: "both" for its whole process group; see `tests.helpers.disturbed`.
    """
    struck(run).unlink(missing_ok=True)
    process = subprocess.Popen(
        words,
        cwd=run.folder,
        env=run.environment(**fault(run, *SAVING, who, number=number)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    text = process.communicate(timeout=FOR_EVER)[0]
    assert struck(run).exists(), text[-6000:]
    return process.returncode, text


def status(run: Run) -> str:
    """Return what `prunegrid status` says of the study."""
    return run.prunegrid("status", STUDY, "-c", "config.yaml").stdout


def files(run: Run) -> dict[str, bytes]:
    """Return the files of the study's table."""
    return {path.name: path.read_bytes() for path in run.folder.glob(f"results/{STUDY}.*")}


def require_interrupted(run: Run) -> None:
    """Check that the study waits for its fine-tuning, and that nothing counts as failed."""
    said = status(run)
    assert "missing" in said and "interrupted at" in said and "finetune tiny-lora" in said
    assert "0 failed, 1 missing" in said and "FAILED" not in said


def test_ctrl_c_leaves_the_finished_table_of_an_earlier_run(run):
    before = files(run)
    code, text = stopped(run, AGAIN, signal.SIGINT)
    assert code == 130 and files(run) == before
    assert "interrupted" in text and "finetune tiny-lora" in text
    assert "FAILED" not in text and "no reason" not in text and "Traceback" not in text
    assert f"{TARGET} is still the one" in text and "To go on: prunegrid run" in text
    require_interrupted(run)


def test_sigterm_to_plain_snakemake_leaves_it_too(run):
    before = files(run)
    code, text = stopped(run, run.command(TARGET), signal.SIGTERM)
    assert code != 0 and files(run) == before and f"{TARGET} is still the one" in text
    require_interrupted(run)


def test_without_a_finished_table_what_was_not_reached_is_missing(run, tmp_path):
    run = run.copy(tmp_path / "run")
    for path in run.folder.glob(f"results/{STUDY}.*"):
        path.unlink()
    stopped(run, run.command(TARGET), signal.SIGINT)
    (row,) = table(run, STUDY).to_dict("records")
    assert row["status"] == "missing" and "was interrupted" in row["reason"]
    done = run.snakemake(TARGET)
    assert done.returncode == 0, done.stdout[-6000:]
    assert table(run, STUDY)["status"].tolist() == ["ok"]


def test_sigterm_to_the_command_alone_ends_all_that_it_started(run):
    before = files(run)
    code, text = stopped(run, AGAIN, signal.SIGTERM, "run")
    assert code == 130 and files(run) == before
    assert "Traceback" not in text and "To go on: prunegrid run" in text
    require_interrupted(run)

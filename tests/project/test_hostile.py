"""What the code never does, read off all of it; what a secret and a lock file must be."""

from __future__ import annotations

import ast
import logging
import re
import warnings

import pytest

from prunegrid.common import failures
from prunegrid.common.errors import PrunegridError
from prunegrid.common.logs import configure_logging, redact
from prunegrid.common.source_code import LIBRARY

ROOT = LIBRARY.parent.parent
LOADERS = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "jsonpickle"}
CALLS = {
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "os.system",
        "os.popen",
        "yaml.load",
        "yaml.unsafe_load",
    ),
    *("numpy.load", "np.load", "pandas.read_pickle", "pd.read_pickle", "torch.hub.load"),
    *("shutil.unpack_archive", "tempfile.mktemp"),
}
METHODS = {"extractall", "read_pickle", "load_dataset_builder"}
PICKLED = "prunegrid/models/pickled.py"


def sources():
    """Return {path: tree} of all code of the project but its tests."""
    paths = [*LIBRARY.rglob("*.py"), *(ROOT / "workflow/scripts").glob("*.py")]
    return {
        path.relative_to(LIBRARY.parent).as_posix(): ast.parse(path.read_text()) for path in paths
    }


TREES = sources()


def calls():
    """Yield (path, dotted name of what is called, its keywords) of every call."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                given = {k.arg: getattr(k.value, "value", "?") for k in node.keywords}
                yield path, ast.unparse(node.func), given


def test_there_is_code_to_look_at():
    assert len(TREES) > 200 and sum(1 for _ in calls()) > 5000


def test_nothing_unpickles_but_the_one_guarded_loader():
    found = set()
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {(path, name) for name in names if name.split(".")[0] in LOADERS}
    # It names the error of an unpickler, and calls nothing of it.
    assert {path.removeprefix("lib/") for path, _ in found} == {PICKLED}
    assert not [name for path, name, _ in calls() if name.startswith("pickle.")]
    loads = [(path, given) for path, name, given in calls() if name == "torch.load"]
    assert [path.removeprefix("lib/") for path, _ in loads] == [PICKLED]
    assert loads[0][1]["weights_only"] is True


def test_nothing_runs_code_that_comes_with_data():
    odd = [(path, name) for path, name, _ in calls() if name in CALLS]
    odd += [(path, name) for path, name, _ in calls() if name.rpartition(".")[2] in METHODS]
    assert odd == []
    trusting = [
        (path, name, given["trust_remote_code"])
        for path, name, given in calls()
        if given.get("trust_remote_code", False) is not False
    ]
    assert trusting == []
    assert [
        path for path, _, given in calls() if given.get("shell") or given.get("allow_pickle")
    ] == []


@pytest.mark.parametrize("secret", ["hf_abcdefghijklmnop", "a-token+of/another=form", "x.y~z" * 9])
def test_a_secret_of_any_form_is_covered(monkeypatch, capsys, tmp_path, secret):
    monkeypatch.setenv("HF_TOKEN", secret)
    before = logging.getLogger().handlers[:]
    configure_logging(tmp_path / "logs/x.log")
    log = logging.getLogger("some.library")
    try:
        log.info("Authorization: Bearer %s", secret)
        warnings.warn(f"no answer with {secret}", stacklevel=1)
        try:
            raise ValueError(f"https://me:{secret}@hub.example said no to {secret}")
        except ValueError as error:
            reason = failures.report(error, "a step")
            failures.report(PrunegridError(f"{secret} was refused"), "a step")
    finally:
        logging.captureWarnings(False)
        logging.getLogger().handlers[:] = before
    written = (tmp_path / "logs/x.log").read_text()
    assert "was refused" in written and "hub.example" in written
    for text in (reason, written, capsys.readouterr().err, redact(f"x{secret}x")):
        assert secret not in text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "x"), "no space left on the disk; free some space"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space left"),
        (OSError("[Errno 28] Error writing bytes to file"), "no space left"),
        (OSError(30, "Read-only file system", "x"), "x: the disk is read-only"),
        (PermissionError(13, "Permission denied", "x"), "x: a file may not be written"),
        (OSError(122, "Disk quota exceeded"), "quota"),
    ],
)
def test_faults_of_the_disk_are_one_sentence(caplog, error, words):
    told = failures.report(error, "a step")
    assert words in told and "run the same command again" in told
    assert not any(record.exc_info for record in caplog.records)


def test_other_faults_keep_their_traceback(caplog):
    assert failures.report(KeyError("x"), "a step") == "KeyError: 'x'"
    assert caplog.records[-1].exc_info


def test_the_lock_pins_everything_once_by_hash():
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[A-Za-z])", text.strip())
    names = []
    for entry in entries:
        head, *hashes = [line.strip(" \\") for line in entry.splitlines()]
        name, _, version = head.partition("==")
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name), entry
        assert re.fullmatch(r"[A-Za-z0-9.+!]+( ;.*)?", version), entry
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", h) for h in hashes), entry
        names.append(re.sub(r"[-_.]+", "-", name).lower())
    assert len(names) == len(set(names)) > 100
    assert "--require-hashes --no-deps -r requirements.lock" in (ROOT / "Makefile").read_text()


def test_what_is_installed_is_what_the_lock_says():
    """In the environment that runs the tests, which `make env` has made."""
    from importlib import metadata

    wrong = []
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if "==" in line and not line.startswith(" "):
            name, _, version = line.split(" ")[0].partition("==")
            try:
                found = metadata.version(name)
            except metadata.PackageNotFoundError:
                found = "nothing" if ";" not in line else version
            if found.partition("+")[0] != version:
                wrong.append((name, version, found))
    assert wrong == []

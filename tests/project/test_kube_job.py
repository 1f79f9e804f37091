"""What `profiles/kubernetes` sends to kubectl (a fake one here) and makes of its answers."""

import json
import os
import subprocess

import pytest

SCRIPT = """#!/bin/sh
# properties = {"threads": 2, "resources": {"mem_mb": 1200, "gpu": 2, "runtime": 30}}
cd /shared/run && python -m snakemake
"""
FAKE = """#!/bin/sh
printf '%s\\n' "$*" > arguments
case "$*" in
  *create*) cat > sent.json; echo job.batch/prunegrid-abc ;;
  *get*) [ -e answer ] || { echo 'Error (NotFound): gone' >&2; exit 1; }; cat answer ;;
esac
"""


@pytest.fixture
def kube(root, tmp_path, monkeypatch):
    """The command in an empty folder with a fake kubectl; returns (exit code, its output)."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "kubectl").write_text(FAKE)
    (place / "kubectl").chmod(0o755)
    (tmp_path / "script.sh").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    found = {
        "PATH": f"{place}:{os.environ['PATH']}",
        "PRUNEGRID_IMAGE": "registry/image:1",
        "PRUNEGRID_CLAIM": "work",
        "PRUNEGRID_MOUNT": "/shared",
        "HF_HUB_OFFLINE": "1",
        "HF_TOKEN": "hf_secretsecret",
    }

    def run(*arguments, **more):
        command = [str(root / "profiles/kubernetes" / arguments[0]), *arguments[1:]]
        environment = {name: value for name, value in {**found, **more}.items() if value}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_job_asks_for_what_its_rule_asks_for(kube, tmp_path):
    assert kube("kube_job.py", "submit", "script.sh", PRUNEGRID_SECRET="hub") == (
        0,
        "prunegrid-abc\n",
    )
    text = (tmp_path / "sent.json").read_text()
    assert "hf_secret" not in text  # it comes from the secret
    job = json.loads(text)
    pod = job["spec"]["template"]["spec"]
    # Waiting for a GPU does not count.
    assert pod["activeDeadlineSeconds"] == 1800 and "activeDeadlineSeconds" not in job["spec"]
    assert job["spec"]["backoffLimit"] == 0
    (step,) = pod["containers"]
    limits = {"memory": "1200M", "nvidia.com/gpu": "2"}
    assert step["resources"] == {"requests": {"cpu": "2", **limits}, "limits": limits}
    assert step["command"] == ["/bin/sh", "script.sh"] and step["workingDir"] == str(tmp_path)
    assert step["env"] == [{"name": "HF_HUB_OFFLINE", "value": "1"}]
    assert step["envFrom"] == [{"secretRef": {"name": "hub"}}]
    assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in step["volumeMounts"]}


def test_what_is_not_set_is_named(kube, tmp_path):
    code, said = kube("kube_job.py", "submit", "script.sh", PRUNEGRID_CLAIM="")
    assert code == 1 and "set PRUNEGRID_CLAIM" in said
    assert not (tmp_path / "sent.json").exists()


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"status": {}}, "running"),
        ({"status": {"active": 1}}, "running"),
        ({"status": {"succeeded": 1}}, "success"),
        ({"status": {"failed": 1}}, "failed"),
        ({"status": {"conditions": [{"type": "Failed", "status": "True"}]}}, "failed"),
        ({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}, "success"),
        ({"status": {"conditions": [{"type": "Failed", "status": "False"}]}}, "running"),
        ({"status": {"conditions": [{"type": "Suspended", "status": "True"}]}}, "running"),
        ({"status": {"conditions": None, "active": 1}}, "running"),
        (None, "failed"),  # deleted by somebody
    ],
)
def test_states_in_the_words_of_snakemake(kube, tmp_path, answer, state):
    if answer is not None:
        (tmp_path / "answer").write_text(json.dumps(answer))
    assert kube("kube_job.py", "status", "prunegrid-abc") == (0, f"{state}\n")


def test_a_cluster_that_does_not_answer_fails_no_job(kube, tmp_path):
    (tmp_path / "bin/kubectl").write_text("#!/bin/sh\necho 'connection refused' >&2\nexit 1\n")
    assert kube("kube_job.py", "status", "prunegrid-abc") == (0, "running\n")


def test_cancel_needs_no_word_more_than_the_names(kube, tmp_path):
    assert kube("cancel", "a", "b", PRUNEGRID_NAMESPACE="ours")[0] == 0
    told = (tmp_path / "arguments").read_text().strip()
    assert told == "--namespace ours delete job --wait=false --ignore-not-found a b"

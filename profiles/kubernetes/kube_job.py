#!/usr/bin/env python3
"""Snakemake's jobs as Jobs of Kubernetes, by kubectl: submit SCRIPT, status NAME, cancel NAME….

Not tried on a cluster. The environment says where a job runs:
    PRUNEGRID_IMAGE      image of the container
    PRUNEGRID_CLAIM      volume claim (ReadWriteMany) that holds project and working folder
    PRUNEGRID_MOUNT      where it is mounted: the same path as where Snakemake runs
    PRUNEGRID_NAMESPACE  namespace; kubectl's own by default
    PRUNEGRID_SECRET     secret whose entries the job gets as variables (HF_TOKEN); none by default
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

# What a job inherits from here, beside its secret: how to use the hub, and where to import from.
INHERITED = re.compile(r"HF_HOME|HF_HUB_OFFLINE|HF_ENDPOINT|PYTHONPATH")
ENDS = {"Complete": "success", "Failed": "failed"}
KEPT_SECONDS = 86400  # that an ended job is still listed


def job_object(script: str, properties: dict, environment: dict) -> dict:
    """Return the Job that runs a script of Snakemake's, from the properties in the script."""
    resources = properties["resources"]
    limits = {"memory": f"{resources['mem_mb']}M"}
    if resources.get("gpu"):
        limits["nvidia.com/gpu"] = str(resources["gpu"])
    container = {
        "name": "step",
        "image": environment["PRUNEGRID_IMAGE"],
        "command": ["/bin/sh", script],
        "workingDir": os.getcwd(),
        "env": [
            {"name": name, "value": value}
            for name, value in sorted(environment.items())
            if INHERITED.fullmatch(name)
        ],
        "resources": {
            "requests": {"cpu": str(properties["threads"]), **limits},
            "limits": limits,
        },
        "volumeMounts": [
            {"name": "work", "mountPath": environment["PRUNEGRID_MOUNT"]},
            {"name": "shm", "mountPath": "/dev/shm"},  # processes of a fine-tuning talk through it
        ],
    }
    if "PRUNEGRID_SECRET" in environment:
        container["envFrom"] = [{"secretRef": {"name": environment["PRUNEGRID_SECRET"]}}]
    claim = {"claimName": environment["PRUNEGRID_CLAIM"]}
    pod = {
        "restartPolicy": "Never",
        # Of the pod, which counts from its start; the Job's own counts waiting for a GPU too.
        "activeDeadlineSeconds": 60 * resources["runtime"],
        "containers": [container],
        "volumes": [
            {"name": "work", "persistentVolumeClaim": claim},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "prunegrid-", "labels": {"app": "prunegrid"}},
        "spec": {
            "backoffLimit": 0,  # Snakemake tries again, with more memory and time
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"spec": pod},
        },
    }


def properties_of(script: str) -> dict:
    """Return what Snakemake says of a job in its script."""
    text = Path(script).read_text(encoding="utf-8")
    return json.loads(re.search(r"^# properties = (.*)$", text, re.MULTILINE)[1])


def state_of(answer: subprocess.CompletedProcess) -> str:
    """Return what kubectl's answer says of a job, in Snakemake's words.

    A job that is gone has failed; where the cluster does not answer, nothing is known yet. One that
    could make no pod, or lost it, has a condition and no counts.
    """
    if answer.returncode:
        return "failed" if "NotFound" in answer.stderr else "running"
    status = json.loads(answer.stdout).get("status", {})
    for condition in status.get("conditions") or []:
        if condition["type"] in ENDS and condition["status"] == "True":
            return ENDS[condition["type"]]
    if status.get("succeeded"):
        return "success"
    return "failed" if status.get("failed") else "running"


def kubectl(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess:
    """Run kubectl in the namespace of the jobs."""
    namespace = os.environ.get("PRUNEGRID_NAMESPACE")
    where = ["--namespace", namespace] if namespace else []
    return subprocess.run(
        ["kubectl", *where, *arguments], input=text, capture_output=True, text=True, check=False
    )


def main(action: str, *names: str) -> int:
    """Do one of the three; return the exit status."""
    if action == "submit":
        missing = {"PRUNEGRID_IMAGE", "PRUNEGRID_CLAIM", "PRUNEGRID_MOUNT"} - os.environ.keys()
        if missing:
            print(f"set {', '.join(sorted(missing))} (docs/operations.md)", file=sys.stderr)
            return 1
        made = job_object(names[0], properties_of(names[0]), dict(os.environ))
        answer = kubectl("create", "-f", "-", "-o", "name", text=json.dumps(made))
        print(answer.stdout.strip().removeprefix("job.batch/"))
    elif action == "status":
        answer = kubectl("get", "job", names[0], "-o", "json")
        print(state_of(answer))
        return 0
    else:
        answer = kubectl("delete", "job", "--wait=false", "--ignore-not-found", *names)
    if answer.returncode:
        print(answer.stderr, file=sys.stderr)
    return answer.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""What `profiles/kubernetes` sets: options that exist, and what Snakemake's executor asks for."""

import os

import pytest
import yte
from snakemake.cli import get_argument_parser

from tests.helpers.pod_runs import PROFILE

# Of snakemake-executor-plugin-kubernetes 0.5.1, which the environment lacks.
SETTINGS = {"namespace", "cpu-scalar", "service-account-name", "privileged"}
SETTINGS |= {"persistent-volumes", "omit-job-cleanup"}


@pytest.fixture
def profile(tmp_path, monkeypatch) -> dict:
    """The profile as Snakemake reads it in a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("PRUNEGRID_IMAGE", "registry/image:1")
    monkeypatch.setenv("PRUNEGRID_VOLUME", f"claim:{tmp_path.parent}")
    return yte.process_yaml(PROFILE.read_text(encoding="utf-8"), require_use_yte=True)


def test_each_option_is_snakemakes_or_the_executors(profile):
    known = {name for action in get_argument_parser()._actions for name in action.option_strings}
    own = {f"--kubernetes-{name}" for name in SETTINGS}
    assert {f"--{name}" for name in profile} <= known | own
    assert profile["executor"] == "kubernetes"


def test_pods_work_in_the_folder_of_the_run(profile):
    here = os.getcwd()
    assert profile["directory"] == profile["default-storage-prefix"] == here
    assert profile["not-retrieve-storage"] is True
    # The executor's form is NAME:PATH.
    (volume,) = profile["kubernetes-persistent-volumes"]
    name, path = volume.split(":")
    assert name == "claim" and here.startswith(path)
    assert profile["container-image"] == "registry/image:1"
    for name in ("PYTHONPATH", "HF_HOME"):
        assert f"{name}='{here}/" in profile["precommand"]


def test_a_gpu_is_asked_for_as_the_executor_wants_it(profile):
    """It refuses one without a manufacturer, and sets limits only where `scale` is 0."""
    asked = dict(entry.split("=", 1) for entry in profile["default-resources"])
    assert asked["scale"] == "0" and asked["gpu_manufacturer"] == "'nvidia'"
    assert "attempt" in asked["mem_mb"] and profile["retries"] > 0


@pytest.mark.parametrize("name", ["PRUNEGRID_IMAGE", "PRUNEGRID_VOLUME"])
def test_what_is_not_set_is_named(profile, monkeypatch, name):
    monkeypatch.delenv(name)
    with pytest.raises(Exception, match=name):
        yte.process_yaml(PROFILE.read_text(encoding="utf-8"), require_use_yte=True)

"""What each kind of job imports: large libraries only where they are called.

peft imports bitsandbytes itself, and pyarrow imports pandas where it makes a table of lists.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from prunegrid.commands import cli_config
from prunegrid.graph.nodes import with_ancestors
from tests.helpers.runs import FOR_EVER, ROOT

HOOKS = Path(__file__).parent / "hooks"

LARGE = {
    *("peft", "evaluate", "bitsandbytes", "bert_score", "lm_eval", "datasets", "pandas"),
    *("torch", "transformers"),
}
MODELS = {"torch", "transformers"}
ADAPTER = {"peft", "bitsandbytes"}
# (stage, a part of the label): all of LARGE that its jobs import.
CALLED = {
    ("model", ""): MODELS,
    ("data", ""): {"datasets", "pandas"},
    ("calibration", ""): MODELS,
    ("prune", "tiny-wanda-50"): MODELS,
    ("prune", "tiny-sparsegpt-2of4"): MODELS,
    ("finetune", "tiny-full"): MODELS,
    ("finetune", "tiny-lora"): MODELS | ADAPTER,
    ("finetune", "tiny-qlora"): MODELS | ADAPTER,
    ("predictions", "tiny-llama > generate"): MODELS | {"pandas"},
    ("predictions", "tiny-lora"): MODELS | {"pandas"},  # merged: plain weights
    ("predictions", "tiny-qlora"): MODELS | ADAPTER | {"pandas"},
    ("perplexity", "tiny-llama > tiny-ppl"): MODELS | {"pandas"},
    ("perplexity", "tiny-qlora"): MODELS | ADAPTER | {"pandas"},
    ("efficiency", "tiny-llama > efficiency"): MODELS | {"bitsandbytes"},  # sizes in NF4 and int8
    ("efficiency", "tiny-qlora"): MODELS | ADAPTER,
    ("controls", ""): MODELS | {"bert_score", "pandas"},
    ("scores", "tiny-llama > score"): MODELS | {"bert_score", "pandas"},
}


# Runs the script of each step as Snakemake does, in a process of its own. Those that import models
# begin where torch and transformers are there, since each would take seconds for the same two.
STEPS = """
import importlib, json, os, sys, types
for names, nodes in json.load(sys.stdin):
    for name in names:
        importlib.import_module(name)
    for node in nodes:
        child = os.fork()
        if not child:
            params = type("Params", (dict,), {"node": node})(node=node)
            snakemake = types.SimpleNamespace(params=params, log=["step.log"])
            exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"))
            sys.exit()
        if os.waitpid(child, 0)[1]:
            sys.exit(f"{node['label']} failed")
"""


@pytest.fixture(scope="module")
def jobs(finished, tmp_path_factory):
    """What a step of each kind imports, and the table's job."""
    place = tmp_path_factory.mktemp("jobs")
    run = finished.copy(place / "run")
    (place / "imports").mkdir()
    cold = {"PYTHONPATH": f"{HOOKS}{os.pathsep}{ROOT / 'workflow/lib'}", "PRUNEGRID_WARM": ""}
    cold |= {"PRUNEGRID_IMPORTS": str(place / "imports")}
    with contextlib.chdir(run.folder):
        graph = cli_config.graph([Path("config.yaml")], (), "tiny")
    nodes = with_ancestors(graph.study_leaves("tiny"))
    cold_nodes, warm_nodes = [], []
    for (stage, part), called in CALLED.items():
        node = next(n for n in nodes if n.stage == stage and part in n.label)
        shutil.rmtree(run.folder / node.path)
        (warm_nodes if called >= MODELS else cold_nodes).append(node.params())
    done = subprocess.run(
        [sys.executable, "-c", STEPS, str(ROOT / "workflow/scripts/step.py")],
        input=json.dumps([[[], cold_nodes], [sorted(MODELS), warm_nodes]]),
        cwd=run.folder,
        env=run.environment(**cold),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=FOR_EVER,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    (run.folder / "results/tiny.parquet").unlink()
    done = run.snakemake("results/tiny.parquet", **cold)
    assert done.returncode == 0, done.stdout[-4000:]
    found = [json.loads(p.read_text()) for p in (place / "imports").glob("*.json")]
    assert len(found) == len(CALLED) + 1
    return found


@pytest.mark.parametrize("kind", CALLED, ids=" ".join)
def test_a_job_imports_what_it_calls(jobs, kind):
    stage, part = kind
    of_kind = [
        set(job["modules"])
        for job in jobs
        if job["node"] and job["node"]["stage"] == stage and part in job["node"]["label"]
    ]
    assert of_kind
    for modules in of_kind:
        assert LARGE & modules == CALLED[kind]


def test_a_table_is_made_without_models(jobs):
    (modules,) = [set(job["modules"]) for job in jobs if job["node"] is None]
    assert LARGE & modules == {"pandas"}


def test_only_large_libraries_make_a_start_large(jobs):
    """Some 3,000 modules are torch's and transformers' own; a step adds few to them."""
    for job in jobs:
        large = LARGE & set(job["modules"])
        if large == MODELS:
            ours = [name for name in job["modules"] if name.partition(".")[0] == "prunegrid"]
            assert len(job["modules"]) < 3300 and len(ours) < 90
        elif "torch" not in large:
            assert len(job["modules"]) < 1800

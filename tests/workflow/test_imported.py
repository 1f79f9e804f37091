"""The workflow as a module of another one, with its rules renamed or its results moved."""

import re
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from prunegrid.tables.table_names import outputs
from tests.helpers.runs import FOR_EVER, ROOT, Run

CONFIG = """\
models:
  t: {source: "random:", config: {model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 4}}
datasets: {x: {source: texts.jsonl, kind: text, columns: {text: text}, splits: {test: all}}}
evaluations: {p: {kind: perplexity, dataset: x, split: test, window: 16}}
studies: {mini: {dataset: x, grid: {model: t, prune: [dense, magnitude-2of4]}, evaluations: [p]}}
"""  # noqa: E501
MODULE = """\
configfile: "mini.yaml"


module prunegrid:
    snakefile:
        "{snakefile}"
    config:
        config
{where}


use rule * from prunegrid{renamed}


rule report:
    default_target: True
    input:
        "{table}",
    output:
        "results/report.csv",
    shell:
        "cp {{input}} {{output}}"
"""
INCLUDED = """\
configfile: "mini.yaml"


include: "{snakefile}"


rule report:
    default_target: True
    input:
        "{table}",
    output:
        "report.csv",
    shell:
        "cp {{input}} {{output}}"
"""
PREFIX = '    prefix:\n        "sub/pruned"\n'
REPLACED = '    replace_prefix:\n        {"results/": "elsewhere/"}\n'
# The name under which catalogs look for it; the root's Snakefile by another name.
CATALOG = {"snakefile": ROOT / "workflow/Snakefile"}
# {form: (the Snakefile, its values)}.
FORMS = {
    "renamed": (MODULE, {"renamed": " as pg_*", "table": "results/mini.csv"}),
    "catalog": (MODULE, {"renamed": " as pg_*", "table": "results/mini.csv", **CATALOG}),
    "prefix": (MODULE, {"where": PREFIX, "table": "sub/pruned/results/mini.csv", **CATALOG}),
    "replaced": (
        MODULE,
        {"where": REPLACED, "renamed": " as pg_*", "table": "elsewhere/mini.csv"},
    ),
    "included": (INCLUDED, {"table": "results/mini.csv"}),
}


@pytest.fixture
def snakemake(tmp_path):
    """Return a function that runs Snakemake in a folder of another workflow."""
    text = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
    (tmp_path / "texts.jsonl").write_text(f'{{"text": "{text}"}}\n' * 9)
    (tmp_path / "mini.yaml").write_text(CONFIG)

    def run(form, *arguments):
        body, values = FORMS[form]
        whole = {"where": "", "renamed": "", "snakefile": ROOT / "Snakefile"} | values
        (tmp_path / "Snakefile").write_text(body.format(**whole))
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", *arguments],
            cwd=tmp_path,
            env=Run(tmp_path).environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=FOR_EVER,
            check=False,
        )

    return run


@pytest.mark.parametrize("form", FORMS)
def test_another_workflow_plans_a_study(snakemake, form):
    done = snakemake(form, "-n", "--quiet", "rules")
    assert done.returncode == 0, done.stdout
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE))
    own = "pg_" if "pg_" in FORMS[form][1].get("renamed", "") else ""
    steps = {"download_model": "1", "download_data": "1", "prune": "1", "perplexity": "2"}
    jobs = {f"{own}{rule}": count for rule, count in (steps | {"aggregate": "1"}).items()}
    assert counts == jobs | {"report": "1", "total": "7"}
    assert "localrules" not in done.stdout  # which would name rules as they are called here


def test_results_lie_below_a_prefix_and_are_found_again(snakemake, tmp_path):
    assert (done := snakemake("prefix")).returncode == 0, done.stdout[-3000:]
    folder = tmp_path / "sub/pruned/results"
    assert all(Path(path).stat().st_size for path in outputs("mini", results=folder))
    wide = pandas.read_parquet(folder / "mini.parquet")
    assert wide["status"].tolist() == ["ok", "ok"] and (tmp_path / wide["artifact"][0]).is_dir()
    assert not (tmp_path / "results/artifacts").exists()
    assert (tmp_path / "results/report.csv").read_bytes() == (folder / "mini.csv").read_bytes()
    assert "Nothing to be done" in snakemake("prefix", "-n").stdout
    done = Run(tmp_path).prunegrid("verify", str(folder.relative_to(tmp_path) / "mini.parquet"))
    assert done.returncode == 0, done.stdout


def test_both_names_of_the_workflow_plan_the_same(finished, tmp_path):
    plans, told = [], []
    for name in ("Snakefile", "workflow/Snakefile"):
        run = Run(finished.copy(tmp_path / name.replace("/", "-")).folder)
        run.snakefile = name
        plans.append(run.plan("results/one.parquet"))
        told.append(run.snakemake("-n", "results/tinny.parquet").stdout)
    assert plans[0] == plans[1] and plans[0]["aggregate"] == 1
    assert all("did you mean 'tiny'?" in text for text in told)
    assert all("specific profile" in text for text in told)  # found beside either

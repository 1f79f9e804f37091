"""The unmodified `table3` against a hub-shaped server on loopback: small models, the real names."""

import subprocess
import sys

import pandas
import pytest

from tests.helpers import hub_world, warm
from tests.helpers.hub_server import hub_server
from tests.helpers.runs import FOR_EVER, ROOT, Run

# Real sizes would take days here, and times mean nothing, so four cells are timed. The study, its
# models, methods and data sets stay as shipped.
SMALLER = """
calibration: {c4-128x2048: {samples: 2, length: 64}}
finetune:
  full: {rows: 8, epochs: 1}
  qlora: {rows: 8, epochs: 1}
datasets: {billsum: {max_words: 30}}
evaluations: {bills: {rows: 3}}
generation: {greedy-256: {max_new_tokens: 8}}
efficiency: {thorough: {warmup: 1, repetitions: 2, prompt_tokens: 8, new_tokens: 4, sizes: false}}
studies: {table3: {timed: [{model: opt-125m, prune: dense}, {model: opt-350m, prune: wanda-2of4}]}}
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    with hub_server(hub_world.build(root / "hub", train=48, test=8, ca_test=6, texts=64)) as hub:
        yield hub


def environment(run, hub=None):
    """The environment of a run with its own empty cache and the given hub, or none."""
    place = {"HF_HOME": str(run.folder / "hf"), "HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
    endpoint = hub.url if hub else "http://127.0.0.1:9"
    return {**place, "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"}


def warm_environment(run, hub):
    """The same, with a warm process: for a run of many steps."""
    return warm.environment(ROOT / "workflow/lib", **environment(run, hub))


def fresh(folder):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(SMALLER)
    return Run(folder)


@pytest.mark.parametrize(
    ("command", "target"), [("-n", "table3"), ("--rulegraph", "table3"), ("-n", "reproduce")]
)
def test_a_study_can_be_looked_at_without_a_hub_a_gpu_or_conda(tmp_path, command, target):
    run = Run(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--use-conda", command]
        + ["--snakefile", str(ROOT / "Snakefile"), f"results/{target}.parquet"],
        cwd=tmp_path,
        env=run.environment(**environment(run)),
        capture_output=True,
        text=True,
        timeout=FOR_EVER,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {"table3": "finetune", "reproduce": "prune"}[target] in done.stdout + done.stderr


def test_without_a_hub_it_fails_at_once_and_says_what_to_do(tmp_path):
    run = fresh(tmp_path / "run")
    done = run.snakemake("results/table3.parquet", **environment(run))
    assert done.returncode == 1
    # At once: each step that fetches starts once, and none asks a second time.
    assert "Trying to restart" not in done.stdout
    fetched = [
        path.read_text()
        for stage in ("model", "data")
        for path in run.folder.glob(f"results/logs/{stage}/**/*.log")
    ]
    assert fetched and all(log.count(": started (") == 1 for log in fetched)
    assert all("cannot be reached" in log and "trying again" not in log for log in fetched)
    wide = pandas.read_parquet(run.folder / "results/table3.parquet")
    assert set(wide["status"]) == {"failed"} and len(wide) == 14
    assert wide["reason"].str.contains("hub").all()
    assert not list(run.folder.glob("results/artifacts/*/*/manifest.json"))


def test_the_unmodified_table3_runs_end_to_end(tmp_path, hub):
    run = fresh(tmp_path / "run")
    hub.cut("pytorch_model.bin", 1)
    table, place = "results/table3.parquet", warm_environment(run, hub)
    done = run.snakemake(table, "--until", "finetune", **place)
    assert done.returncode == 0, done.stdout[-6000:]
    run.make_artifacts("table3", **place)  # what is scored and timed: 60 jobs in one process
    done = run.snakemake(table, **place)
    assert done.returncode == 0, done.stdout[-6000:]
    assert hub.cuts["pytorch_model.bin"][0] == 0, "the connection was never cut"
    fetched = [path for path, _ in hub.seen if path.startswith("GET") and path.endswith(".bin")]
    assert len(fetched) > len(set(fetched)), "what was cut was not fetched again"
    wide = pandas.read_parquet(run.folder / "results/table3.parquet")
    assert len(wide) == 14 and set(wide["status"]) == {"ok"}
    assert set(wide["model"]) == {"opt-125m", "opt-350m"}
    assert (wide["test_n"] == 3).all() and (wide["ca_test_n"] == 3).all()
    assert wide["test_bertscore"].notna().any()
    pruned = wide[wide["pattern"].notna()]
    assert (pruned["sparsity_effective"] >= 0.5).all()
    assert pruned.loc[pruned["pattern"] != "unstructured", "nm_valid"].all()
    assert run.prunegrid("verify", "results/table3.parquet").returncode == 0
    report = run.snakemake("--report", "report.html", "results/table3.parquet")
    assert report.returncode == 0, report.stdout[-3000:]
    carried = (run.folder / "report.html").read_text()
    assert "table3.png" in carried and "table3.html" in carried

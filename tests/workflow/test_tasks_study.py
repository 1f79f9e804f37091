"""Benchmarks and a mixture through the whole workflow: local files in the hub's place."""

import json

import pandas
import pytest
import yaml

from tests.helpers import benchmark_rows
from tests.helpers.runs import Run

OVERLAY = """
datasets:
  piqa: {source: asked, files: {train: piqa-train.jsonl, validation: piqa.jsonl}}
  openbookqa: {source: asked, subset: null, files: {test: openbookqa.jsonl}}
  glue-rte: {source: asked, subset: null, files: {validation: rte.jsonl}}
  tiny-multitask:
    mixture:
      disjoint_from: [tiny-tasks]
      parts:
        piqa: {dataset: piqa, split: train, weight: 1, prompt: "Question: {{goal}}\\nAnswer:", response: " {{[sol1, sol2][label]}}"}
        notes: {dataset: tiny-notes, split: train, weight: 1, prompt: "{{document | words(9)}}", response: " {{summary}}"}
    splits: {train: all}
tasks:
  own:
    dataset: glue-rte
    split: validation
    rows: 5
    define:
      output_type: multiple_choice
      doc_to_text: "{{sentence1}}\\nAnswer:"
      doc_to_choice: ["no", "yes"]
      doc_to_target: label
      metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
evaluations:
  tiny-tasks:
    kind: tasks
    tasks: [piqa, openbookqa, rte, own]
    means: {both: {tasks: [piqa, rte], metric: acc}}
    batch_size: 4
studies:
  tasks:
    dataset: tiny-multitask
    grid: {model: tiny-llama, prune: dense, finetune: [none, tiny-full]}
    evaluations: [tiny-tasks]
    contrasts:
      - {name: tuned, a: {prune: dense, finetune: tiny-full}, b: {prune: dense, finetune: none}, split: both, metric: acc}
"""  # noqa: E501


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = Run.fresh(tmp_path_factory.mktemp("tasks") / "run")
    train, asked = benchmark_rows.piqa(12), benchmark_rows.piqa(16, seed=1)
    asked[5] = {**asked[5], "goal": train[2]["goal"].upper()}
    files = {
        "piqa-train": train,
        "piqa": asked,
        "openbookqa": benchmark_rows.openbookqa(10),
        "rte": benchmark_rows.mrpc(14),
    }
    (run.folder / "asked").mkdir()
    for name, rows in files.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (run.folder / f"asked/{name}.jsonl").write_text(text)

    def lay_over(tree):
        for section, profiles in yaml.safe_load(OVERLAY).items():
            tree.setdefault(section, {}).update(profiles)

    run.configure(lay_over)
    done = run.snakemake("results/tasks.parquet")
    assert done.returncode == 0, done.stdout[-6000:]
    return run


def test_a_study_of_benchmarks_ends_in_its_table(run):
    wide = pandas.read_parquet(run.folder / "results/tasks.parquet")
    assert set(wide["status"]) == {"ok"} and len(wide) == 2
    assert wide[
        ["piqa_n", "openbookqa_n", "rte_n", "both_n", "own_n"]
    ].drop_duplicates().values.tolist() == [[16, 10, 14, 30, 5]]
    assert wide["contexts_cut"].tolist() == [0, 0]
    assert wide["both_acc"].tolist() == pytest.approx(
        ((wide["piqa_acc"] + wide["rte_acc"]) / 2).tolist()
    )
    assert (wide["piqa_acc_stderr"] > 0).any() and wide["answers_sha256"].nunique() == 2
    tuned = wide["finetune"] == "tiny-full"
    assert set(wide[tuned]["tuned_on_tasks"]) == {"piqa"}
    assert wide[~tuned]["tuned_on_tasks"].isna().all()
    long = pandas.read_parquet(run.folder / "results/tasks.long.parquet")
    of_tasks = long[long["harness"].notna()]
    assert set(of_tasks["split"]) == {"piqa", "openbookqa", "rte", "both", "own"}
    assert set(of_tasks["harness"]) == {"lm-eval 0.4.13"} and set(of_tasks["shots"]) == {0}
    pairs = pandas.read_parquet(run.folder / "results/tasks.pairs.parquet")
    assert len(pairs[(pairs["split"] == "piqa") & (pairs["metric"] == "acc")]) == 1
    contrasts = pandas.read_parquet(run.folder / "results/tasks.contrasts.parquet")
    assert contrasts["reason"].isna().all() and contrasts["n"].tolist() == [30]
    text = (run.folder / "results/tasks.md").read_text()
    assert "‡ tuned on other rows" in text


def test_the_leak_is_counted_in_the_mixtures_record(run):
    (manifest,) = (run.folder / "results/artifacts/mixture").glob("*/manifest.json")
    parts = json.loads(manifest.read_text())["record"]["parts"]
    assert parts["piqa"]["leaked"] == {"id": 0, "text": 1}
    assert parts["notes"]["leaked"] == {"id": 0, "text": 0}
    assert parts["piqa"]["taken"] == parts["notes"]["taken"] == 9


def test_it_verifies_and_nothing_is_left_to_do(run):
    done = run.prunegrid("verify", "results/tasks.parquet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run.plan("results/tasks.parquet") == {}


def manifests(run):
    """Return {key: the manifest} of what the evaluation has asked the weights."""
    found = (run.folder / "results/artifacts/tasks").glob("*/manifest.json")
    return {path.parent.name: json.loads(path.read_text()) for path in found}


def files_of(run, key, folder):
    """Return {name: bytes} of one benchmark."""
    place = run.folder / "results/artifacts/tasks" / key / folder
    return {path.name: path.read_bytes() for path in place.iterdir()}


def more(tree, **change):
    """Add a task to those that are asked, after them."""
    task = {"task": "rte", "dataset": "glue-rte", "split": "validation", "rows": 3, **change}
    tree["tasks"]["rte-again"] = task
    tree["evaluations"]["tiny-tasks"]["tasks"].append("rte-again")


def test_the_tasks_of_a_model_are_one_artifact_with_a_folder_each(run):
    folders = {"0-piqa", "1-openbookqa", "2-rte", "3-own"}
    made = manifests(run)
    assert len(made) == 2
    for key, manifest in made.items():
        assert manifest["record"]["parts"].keys() == folders
        assert all(files_of(run, key, folder)["scores.parquet"] for folder in folders)


def test_a_task_more_asks_all_of_them_again_and_the_numbers_stay(run, tmp_path):
    other = run.copy(tmp_path / "other")
    other.configure(more)
    assert other.plan("results/tasks.parquet") == {"tasks": 2, "aggregate": 1}
    done = other.snakemake("results/tasks.parquet")
    assert done.returncode == 0, done.stdout[-6000:]
    before, after = manifests(run), manifests(other)
    added = [after[key] for key in after.keys() - before.keys()]
    assert len(after) == 4 and len(added) == 2
    of = {made["parents"]["weights"]["key"]: made["record"]["parts"] for made in before.values()}
    for made in added:
        parts = made["record"]["parts"]
        assert parts.pop("4-rte")["task"] == "rte"
        assert parts == of[made["parents"]["weights"]["key"]]


def test_a_task_that_fails_fails_its_evaluation_and_nothing_half_is_left(run, tmp_path):
    other = run.copy(tmp_path / "other")
    other.configure(lambda tree: more(tree, task="piqa"))  # whose columns rte's data lack
    done = other.snakemake("--keep-going", "results/tasks.parquet")
    assert done.returncode != 0
    assert manifests(other) == manifests(run)
    assert not list((other.folder / "results/artifacts/tasks").glob(".*"))
    wide = pandas.read_parquet(other.folder / "results/tasks.parquet")
    assert set(wide["status"]) == {"failed"} and wide["reason"].str.contains("cannot make").all()
    other.configure(lambda tree: tree["tasks"]["rte-again"].update(task="rte"))
    done = other.snakemake("results/tasks.parquet")
    assert done.returncode == 0, done.stdout[-6000:]
    wide = pandas.read_parquet(other.folder / "results/tasks.parquet")
    assert set(wide["status"]) == {"ok"} and set(wide["rte-again_n"]) == {3}


def test_benchmarks_are_exported_with_their_errors_and_data(run, tmp_path):
    words = ("export-rows", "tasks", "--format", "every-eval-ever", str(tmp_path / "x"))
    assert run.prunegrid(*words).returncode == 0
    tall = pandas.read_parquet(run.folder / "results/tasks.long.parquet")
    found = []
    for path in (tmp_path / "x").rglob("*.json"):
        for one in json.loads(path.read_text())["evaluation_results"]:
            details = one["score_details"]
            error = details["uncertainty"]["standard_error"]["value"]
            split = one["evaluation_name"]
            found.append((split, one["metric_config"]["metric_name"], details["score"], error))
            of_data = one["source_data"].get("additional_details", {})
            assert (of_data.get("source") == "local") == (split != "both")
    rows = tall[["split", "metric", "value", "stderr"]].itertuples(index=False, name=None)
    assert sorted(found) == sorted(rows)

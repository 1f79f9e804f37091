"""A change reruns only what depends on it, and nothing else ever does: by real dry runs."""

import base64
import os
import shutil

import pytest

TABLE = "results/tiny.parquet"
# What one cell runs from its fine-tuning on.
FROM_FINETUNE = {
    "finetune": 1,
    "generate": 1,
    "score": 1,
    "perplexity": 1,
    "efficiency": 1,
    "aggregate": 1,
}


@pytest.fixture
def copy(finished, tmp_path):
    return finished.copy(tmp_path / "copy")


@pytest.fixture
def editable(finished, tmp_path):
    return finished.copy(tmp_path / "copy", project=True)


def forget(run):
    shutil.rmtree(run.folder / ".snakemake")


def touch_all(folder):
    for path in folder.rglob("*"):
        os.utime(path)


@pytest.mark.parametrize("memory", ["with", "without"])
def test_nothing_is_done_twice(copy, memory):
    if memory == "without":
        forget(copy)
    assert copy.plan(TABLE) == {}


@pytest.mark.parametrize("memory", ["with", "without"])
def test_touching_any_file_reruns_nothing(editable, memory):
    if memory == "without":
        forget(editable)
    touch_all(editable.folder)
    assert editable.plan(TABLE) == {}


def test_a_clone_elsewhere_over_kept_results_reruns_nothing(editable):
    forget(editable)
    assert editable.plan(TABLE) == {}


@pytest.mark.parametrize("memory", ["with", "without"])
def test_use_conda_without_a_conda_reruns_nothing_and_says_so(copy, memory):
    if memory == "without":
        forget(copy)
    assert copy.plan(TABLE, "--use-conda") == {}
    assert "No conda found" in copy.snakemake("-n", TABLE, "--use-conda").stdout


def test_comments_and_docstrings_rerun_nothing(editable):
    editable.edit("workflow/lib/prunegrid/pruning/criteria/wanda.py", '"""', '"""In other words. ')
    editable.edit("workflow/lib/prunegrid/stages/prune.py", "\nlog = ", "\n# a comment\nlog = ")
    editable.edit("workflow/scripts/step.py", '"""', '"""Or: ')
    editable.edit("envs/models.yaml", "# tensors, training", "# tensors")
    assert editable.plan(TABLE) == {}


def test_another_number_of_cores_reruns_nothing(copy):
    assert copy.plan(TABLE, "--cores", "1") == {}


def test_a_missing_intermediate_reruns_nothing(copy):
    shutil.rmtree(copy.folder / "results/artifacts/prune")
    shutil.rmtree(copy.folder / "results/artifacts/model")
    assert copy.plan(TABLE) == {}


def test_missing_scores_are_made_again_and_the_table_after_them(copy):
    """What `delete the folder and run again` promises."""
    shutil.rmtree(copy.folder / "results/artifacts/scores")
    assert copy.plan(TABLE) == {"score": 5, "aggregate": 1}


def test_a_step_that_was_whole_when_its_run_was_killed_hides_nothing(copy):
    """Snakemake still has its mark of a job under way, of which nothing was to be done."""
    predictions = sorted(copy.folder.glob("results/artifacts/predictions/*/manifest.json"))
    marks = copy.folder / ".snakemake/incomplete"
    for manifest in predictions:
        name = str(manifest.relative_to(copy.folder)).encode()
        (marks / base64.b64encode(name).decode()).touch()
    assert predictions and copy.plan(TABLE) == {}
    shutil.rmtree(copy.folder / "results/artifacts/scores")
    planned = copy.plan(TABLE)
    assert planned == {"score": len(predictions), "aggregate": 1}


@pytest.mark.parametrize("memory", ["with", "without"])
def test_a_changed_rank_reruns_that_profile_from_finetune_on_and_back_nothing(copy, memory):
    if memory == "without":
        forget(copy)
    copy.configure(lambda tree: tree["finetune"]["tiny-lora"].update(rank=3))
    assert copy.plan(TABLE) == FROM_FINETUNE
    copy.configure(lambda tree: tree["finetune"]["tiny-lora"].update(rank=2))
    assert copy.plan(TABLE) == {}


def test_a_changed_sparsity_reruns_that_profile_only(copy):
    copy.configure(lambda tree: tree["prune"]["tiny-wanda-50"].update(sparsity=0.6))
    assert copy.plan(TABLE) == {
        "prune": 1,
        "finetune": 1,
        "generate": 2,
        "score": 2,
        "perplexity": 2,
        "efficiency": 2,
        "aggregate": 1,
    }


def test_a_changed_method_reruns_its_cells_only(editable):
    editable.edit(
        "workflow/lib/prunegrid/pruning/criteria/sparsegpt.py", "\nNEEDS", "\nANOTHER = 1\nNEEDS"
    )
    assert editable.plan(TABLE) == {"prune": 1, **FROM_FINETUNE}


def test_a_new_metric_reruns_scores_and_the_table_only(copy):
    metrics = ["rouge", "length", "tiny-bertscore", "repetition"]
    copy.configure(lambda tree: tree["evaluations"]["tiny-texts"].update(metrics=metrics))
    assert copy.plan(TABLE) == {"score": 5, "controls": 1, "aggregate": 1}


def test_a_new_control_reruns_the_controls_and_a_renamed_one_the_table_only(copy):
    def rename(tree):
        controls = tree["evaluations"]["tiny-texts"]["baselines"]
        names = {"lead-5": "first-words"}
        renamed = {names.get(name, name): control for name, control in controls.items()}
        tree["evaluations"]["tiny-texts"]["baselines"] = renamed

    copy.configure(rename)
    assert copy.plan(TABLE) == {"aggregate": 1}
    more = {"half": {"method": "half_reference"}}
    copy.configure(lambda tree: tree["evaluations"]["tiny-texts"]["baselines"].update(more))
    assert copy.plan(TABLE) == {"controls": 1, "aggregate": 1}


def test_a_changed_control_reruns_the_controls_only(editable):
    editable.edit(
        "workflow/lib/prunegrid/evaluation/baselines/lead.py", "\nROLE", "\nANOTHER = 1\nROLE"
    )
    assert editable.plan(TABLE) == {"controls": 1, "aggregate": 1}


def test_a_new_cell_runs_itself_and_the_table_only(copy):
    grid = {"model": "tiny-llama", "prune": "tiny-magnitude-2of4"}
    copy.configure(lambda tree: tree["studies"]["tiny"]["grid"].append(grid))
    one = {"prune": 1, "generate": 1, "score": 1, "perplexity": 1, "efficiency": 1, "aggregate": 1}
    assert copy.plan(TABLE) == one


def test_a_renamed_profile_rewrites_the_table_only(copy):
    def rename(tree):
        tree["finetune"]["renamed"] = tree["finetune"].pop("tiny-lora")
        tree["studies"]["tiny"]["grid"][1]["finetune"] = ["none", "renamed"]
        tree["studies"]["one"]["grid"]["finetune"] = "renamed"
        tree["studies"]["tiny"]["contrasts"][1]["a"] = {"finetune": "renamed"}

    copy.configure(rename)
    assert copy.plan(TABLE) == {"aggregate": 1}


def test_a_changed_pin_reruns_what_uses_the_package(editable):
    editable.edit("envs/models.yaml", "peft==", "peft==0.0.")
    plan = editable.plan(TABLE)
    assert "prune" not in plan and "download_model" not in plan
    assert plan["finetune"] == 3


def test_changed_data_rerun_what_reads_them_and_a_touch_does_not(copy):
    notes = copy.folder / "notes.jsonl"
    os.utime(notes)
    assert copy.plan(TABLE) == {}
    notes.write_text(notes.read_text().replace("agency", "bureau"))
    plan = copy.plan(TABLE)
    assert plan["download_data"] == 1
    assert plan["finetune"] == 3
    assert "prune" not in plan and "perplexity" in plan


def test_other_threads_are_other_bytes(copy):
    copy.configure(lambda tree: tree.update(threads=2))
    plan = copy.plan(TABLE)
    assert plan["prune"] == 2
    assert "download_model" not in plan and "download_data" not in plan

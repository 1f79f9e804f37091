"""The tiny studies on a real Slurm: what is asked for, what is lost (nothing), what comes out."""

import re
import subprocess
from collections import Counter, defaultdict
from pathlib import Path

import pandas
import pytest

from tests.helpers.slurm_runs import wait_for

pytestmark = pytest.mark.cluster

SAME = pandas.testing.assert_frame_equal
GPU_RULES = ("calibrate", "prune", "finetune", "generate", "perplexity", "efficiency")


def memory(job) -> int:
    """Return the megabytes that a job asked for."""
    number, unit = re.fullmatch(r"([\d.]+)([MG])", job["MinMemoryNode"]).groups()
    return int(float(number) * {"M": 1, "G": 1024}[unit])


def gpus(job) -> int:
    """Return the GPUs that a job asked for; Slurm writes gres:gpu:1."""
    found = re.search(r"gpu[:=](\d+)", job.get("TresPerJob", ""))
    return int(found[1]) if found else 0


def limit(job) -> pandas.Timedelta:
    """Return the time limit of a job; Slurm writes 1-00:00:00."""
    return pandas.Timedelta(job["TimeLimit"].replace("-", " days "))


@pytest.fixture(scope="module")
def whole(calm, tmp_path_factory):
    """The tiny study from nothing, on Slurm; steps that would use a GPU ask for one."""
    run = calm.copy(tmp_path_factory.mktemp("whole") / "run")
    run.without("model", "data", "calibration", "prune", "finetune", "predictions", "controls")
    run.without("scores", "perplexity", "efficiency")
    asked = [f"{rule}:gpu=1" for rule in GPU_RULES]
    code, said = run.on_slurm("results/tiny.parquet", "--set-resources", *asked)
    assert code == 0, said[-6000:]
    return run


def test_the_table_is_that_of_a_run_without_slurm(whole, calm):
    SAME(whole.table("tiny"), calm.table("tiny"))
    assert {job["JobState"] for job in whole.jobs()} == {"COMPLETED"}


def test_a_cell_is_three_jobs_at_most(whole):
    """Five cells are measured in as many jobs, the three controls in one."""
    assert Counter(job["what"] for job in whole.jobs()) == {
        "download_model": 2,
        "download_data": 2,
        "calibrate": 1,
        "prune": 2,
        "finetune": 3,
        "evaluate": 5,
        "controls": 1,
    }


def test_gpu_jobs_ask_for_one_gpu_each(whole):
    """Members of a group run in turn, so that a group of three needs one GPU, and one core."""
    for job in whole.jobs():
        wants = job["what"] in ("calibrate", "prune", "finetune", "evaluate")
        assert gpus(job) == int(wants), job
        assert "cpu=1," in job["TRES"] and "node=1," in job["TRES"]
    assert max(memory(job) for job in whole.jobs() if job["what"] == "evaluate") < 2 * 800


def test_members_of_a_group_run_one_after_another(whole):
    """Else one would be timed beside another, in the memory of one."""
    cells = defaultdict(list)
    for stage in ("predictions", "perplexity", "efficiency"):
        for story in whole.stories(stage):
            lines = (whole.folder / f"results/logs/{stage}/{story['key']}.log").read_text()
            times = re.findall(r"^\d+-\d+-\d+ [\d:]+,\d+", lines, re.MULTILINE)
            cells[story["lineage"][-1]["key"]].append((times[0], times[-1]))
    assert [len(spans) for spans in cells.values()] == [3] * 5
    for spans in cells.values():
        spans.sort()
        assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))


def test_a_job_killed_for_memory_is_tried_again_with_more(calm, tmp_path):
    run = calm.copy(tmp_path / "run", project=True).without("finetune", "predictions", "scores")
    run.edit("workflow/lib/prunegrid/running/resources.py", "FIXED_MB = 600", "FIXED_MB = 170")
    code, said = run.on_slurm("results/long.parquet")
    assert code == 0, said[-6000:]
    tuned = [job for job in run.jobs() if job["what"] == "finetune"]
    assert len(tuned) in (2, 3) and tuned[-1]["JobState"] == "COMPLETED"
    for job in tuned[:-1]:
        # Slurm's own word differs with what watches the memory.
        assert job["JobState"] in ("OUT_OF_MEMORY", "FAILED")
        assert "exceeded memory limit" in Path(job["StdOut"]).read_text()
    asked = [memory(job) - 400 for job in tuned]  # Snakemake beside the step takes no more
    assert asked == pytest.approx([170, 255, 340][: len(tuned)], abs=5)
    limits = [limit(job) for job in tuned]
    assert limits == [limits[0] * (n + 1) for n in range(len(tuned))]
    SAME(run.table("long"), calm.table("long"))


def test_a_cancelled_job_is_reported_and_goes_on_where_it_was(calm, tmp_path):
    run = calm.copy(tmp_path / "run").without("finetune", "predictions", "scores")
    process = run.start("results/long.parquet")
    job = wait_for(lambda: run.job("finetune", "RUNNING"))
    wait_for(lambda: list(run.folder.glob("results/scratch/finetune-*/training/*.safetensors")))
    subprocess.run(["scancel", job["JobId"]], check=True)
    code, said = run.finish(process)
    assert code == 0, said[-6000:]
    assert f"SLURM-job '{job['JobId']}' failed, SLURM status is: 'CANCELLED'" in said
    states = [job["JobState"] for job in run.jobs() if job["what"] == "finetune"]
    assert states == ["CANCELLED", "COMPLETED"]
    (story,) = run.stories("finetune")
    assert story["record"]["train"]["resumed_at"]
    SAME(run.table("long"), calm.table("long"))


def test_a_draining_node_delays_and_loses_nothing(calm, tmp_path):
    run = calm.copy(tmp_path / "run").without("finetune", "predictions", "scores")
    process = run.start("results/long.parquet")
    wait_for(lambda: run.job("finetune", "RUNNING"))
    node = subprocess.run(["hostname", "-s"], capture_output=True, text=True).stdout.strip()
    subprocess.run(
        ["scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test"], check=True
    )
    try:
        assert wait_for(lambda: run.job("finetune", "COMPLETED"))  # what runs goes on
        wait_for(lambda: run.job("evaluate", "PENDING"))
        with pytest.raises(AssertionError, match="did not come"):
            wait_for(lambda: run.job("evaluate", "RUNNING") or process.poll() is not None, 10)
    finally:
        subprocess.run(["scontrol", "update", f"NodeName={node}", "State=RESUME"], check=True)
    code, said = run.finish(process)
    assert code == 0, said[-6000:]
    assert [(j["what"], j["JobState"]) for j in run.jobs()] == [
        ("finetune", "COMPLETED"),
        ("evaluate", "COMPLETED"),
    ]
    SAME(run.table("long"), calm.table("long"))


def test_a_fine_tuning_in_two_processes_is_one_job_with_room_for_both(calm, tmp_path):
    run = calm.copy(tmp_path / "run").without("finetune", "perplexity")
    code, said = run.on_slurm("results/ranks.parquet")
    assert code == 0, said[-6000:]
    tuned, evaluated = run.jobs()
    assert (tuned["what"], tuned["NumCPUs"], tuned["NumNodes"]) == ("finetune", "2", "1")
    assert (evaluated["what"], evaluated["NumCPUs"]) == ("evaluate", "1")
    assert memory(tuned) == pytest.approx(2 * 600 + 400, abs=5)
    SAME(run.table("ranks"), calm.table("ranks"))


def test_on_cuda_each_process_asks_for_a_gpu(calm, tmp_path):
    """Slurm's GPUs are fakes here, so the job that gets them says clearly that there are none."""
    run = calm.copy(tmp_path / "run").without("finetune", "perplexity")
    run.configure(lambda tree: tree.update(device="cuda"))
    code, said = run.on_slurm("results/ranks.parquet", "--retries", "0")
    assert code == 1
    (tuned,) = run.jobs()
    assert tuned["JobState"] == "FAILED" and gpus(tuned) == 2
    (reason,) = run.table("ranks")["reason"]
    assert "config.yaml: device" in reason and "is cuda, but torch sees no CUDA devices" in reason

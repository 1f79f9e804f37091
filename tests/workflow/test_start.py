"""What a user meets at the start: errors of the config, own files, a missing device."""

import stat

import pandas

from tests.helpers.runs import ROOT, Run


def test_a_broken_config_is_told_at_once_without_a_traceback(tmp_path):
    run = Run.fresh(tmp_path / "run")

    def break_three(tree):
        tree["models"]["tiny-llama"] = {"source": "https://me:hf_ATokenOfThisForm42@hub/x"}
        tree["prune"]["tiny-wanda-50"]["sparsity"] = 1.5
        tree["studies"]["tiny"]["efficency"] = "tiny"

    run.configure(break_three)
    done = run.snakemake("results/tiny.parquet")
    assert done.returncode != 0
    assert "config.yaml: prune.tiny-wanda-50.sparsity is 1.5" in done.stdout
    assert "did you mean 'efficiency'" in done.stdout
    assert "https://***@hub/x" in done.stdout and "hf_A" not in done.stdout
    assert "Traceback" not in done.stdout
    assert not (run.folder / "results").exists()


def test_a_config_that_is_no_yaml_is_told_with_file_and_line(tmp_path):
    run = Run.fresh(tmp_path / "run")
    (run.folder / "config.yaml").write_text("seed: 0\nmodels: {a: [1, 2}\n")
    done = run.snakemake("-n", "results/tiny.parquet")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "prunegrid: config.yaml, line 2: is no YAML" in done.stdout


def test_a_result_that_no_study_makes_is_refused_in_one_sentence(tmp_path):
    run = Run.fresh(tmp_path / "run")
    for target, told in (
        ("results/tinny.parquet", "there is no study 'tinny'; did you mean 'tiny'?"),
        ("results/tinny.long.parquet", "there is no study 'tinny'; did you mean 'tiny'?"),
        ("results/table3_full.csv", "it is called 'table3-full' now"),
        ("results/tiny.cvs", "a table of tiny has no file '.cvs'; did you mean 'csv'?"),
        (
            "results/artifacts/prune/0123456789abcdef/manifest.json",
            "no study of the config makes the prune 0123456789abcdef",
        ),
    ):
        done = run.snakemake("-n", target)
        assert done.returncode != 0
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("prunegrid: ")]
        assert told in line and "Traceback" not in done.stdout


def test_cuda_where_there_is_none_is_a_clear_row(tmp_path):
    run = Run.fresh(tmp_path / "run")
    run.configure(lambda tree: tree.update(device="cuda"))
    done = run.snakemake("results/one.parquet", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1
    wide = pandas.read_parquet(run.folder / "results/one.parquet")
    assert wide["status"].tolist() == ["failed"]
    assert "torch sees no CUDA device" in wide["reason"].iloc[0]
    assert "set device: cpu" in wide["reason"].iloc[0]


def test_the_command_of_ci_can_be_run():
    mode = (ROOT / ".ci/run").stat().st_mode
    assert mode & stat.S_IXUSR

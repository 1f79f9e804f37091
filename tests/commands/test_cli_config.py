"""Config files and values of a command line, as Snakemake takes them; what a store serves."""

from pathlib import Path

import pytest
import yaml

from prunegrid.commands import cli, cli_config
from prunegrid.common.errors import PrunegridError

MINE = {"dataset": "wikipedia", "grid": {"model": "smollm2-135m"}, "evaluations": ["wikipedia-512"]}


def write(tmp_path, **tree):
    path = tmp_path / f"over{len(list(tmp_path.glob('over*')))}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_values_are_laid_over_files_and_files_over_the_config(tmp_path):
    files = [write(tmp_path, seed=1, threads=3), write(tmp_path, seed=2)]
    found = cli_config.graph(files, ["device=cuda", "memory={model: by-block}"]).config
    assert (found.seed, found.threads, found.device) == (2, 3, "cuda")
    assert found.memory["model"] == "by-block"


@pytest.mark.parametrize(
    ("value", "told"),
    [("device", "is not KEY=VALUE"), ("=cuda", "is not KEY=VALUE"), ("seed=[", "is not YAML")],
)
def test_values_of_another_form_are_told(value, told):
    with pytest.raises(PrunegridError, match=told):
        cli_config.overrides([value])


def test_an_unknown_study_is_told_with_the_nearest():
    with pytest.raises(PrunegridError, match="no study 'demos'.*'demo'"):
        cli_config.graph([], study="demos")


def test_sets_of_files_are_configs_of_their_own(tmp_path):
    one, two = write(tmp_path, seed=1), write(tmp_path, seed=2)
    assert [found.config.seed for found in cli_config.stores([[one], [two], [one, two]])] == [
        1,
        2,
        2,
    ]
    assert len(cli_config.stores([])) == 1


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_store_of_other_machines_is_not_garbage_here(precision):
    named = [f"compute_dtype={precision}"]
    there = cli_config.elsewhere([cli_config.graph([], named)])
    pairs = {(one.config.device, one.config.compute_dtype) for one in there}
    every = {(device, dtype) for device in ("cpu", "cuda") for dtype in ("bfloat16", "float32")}
    assert pairs == every - {("cpu", precision)}
    keys = {node.key for node in cli_config.graph([], ["device=cuda", *named]).all_nodes()}
    assert keys in [{node.key for node in one.all_nodes()} for one in there]


def test_the_commands_take_values_and_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = str(write(tmp_path, studies={"mine": MINE}))
    for command in ("plan", "status"):
        assert cli.main([command, "mine", "--configfile", path, "--config", "device=cuda"]) == 0
    assert cli.main(["gc", "--configfile", path, "--configfile", path, "--config", "seed=3"]) == 0
    assert cli.main(["plan", "mine"]) == 1
    assert "there is no study 'mine'" in capsys.readouterr().err
    assert Path(path).exists()

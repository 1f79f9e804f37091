"""The config: what is accepted, and that every fault is told at once, with place and remedy."""

import copy

import pytest

from prunegrid.common import plugins
from prunegrid.config import finetune_step
from prunegrid.graph.key_settings import Slices
from tests.helpers import shipped
from tests.helpers.shipped import changed, check, faults


@pytest.fixture(scope="module")
def raw():
    return shipped.config()


def test_the_shipped_config_is_valid(raw):
    assert set(check(raw).sections["studies"]) >= {"demo", "table3", "table3-full", "table3-legacy"}


def test_a_file_whose_ending_does_not_tell_needs_a_format(raw, tmp_path):
    (tmp_path / "a.docx").touch()
    mine = {"source": str(tmp_path / "a.docx"), "kind": "text", "columns": {"text": "a"}}
    tree = changed(raw, "datasets", "mine", mine | {"splits": {"test": "all"}})
    assert any("the file's ending does not tell" in str(fault) for fault in faults(tree))


BLOCK_INFLUENCE = {"method": "influence", "pattern": "structured", "sparsity": 0.3}
BLOCK_INFLUENCE |= {"calibration": "c4-128x2048"}
NAMED_CONTRAST = {"name": "x", "a": {"prune": "dense"}, "b": {"prune": "dense"}, "split": "test"}


@pytest.mark.parametrize(
    ("path_and_value", "words"),
    [
        (
            ("studies", "multitask", "published", "rows", [{"piqa": 0.5}]),
            ["studies.multitask.published.rows", "expected a `name` and values"],
        ),
        (
            ("studies", "multitask", "published", {"rows": [{"name": "x", "piqa": 0.5}]}),
            ["studies.multitask.published.source"],
        ),
        (("studdies", {}), ["config.yaml: studdies", "did you mean 'studies'"]),
        (
            ("prune", "wanda-50", "sparsity", 1.5),
            ["prune.wanda-50.sparsity", "1.5", "less than or equal to 1"],
        ),
        (("prune", "wanda-2of4", "pattern", "3:2"), ["prune.wanda-2of4", '"3:2"', "0 < N < M"]),
        (("prune", "wanda-2of4", "pattern", 124), ["quote it", '"2:4"']),
        (
            ("prune", "wanda-50", "spasity", 0.5),
            ["prune.wanda-50.spasity", "did you mean 'sparsity'"],
        ),
        (
            ("prune", "wanda-50", "method", "wands"),
            ["prune.wanda-50.method", "did you mean 'wanda'"],
        ),
        (("prune", "wanda-50", "calibration", None), ["needs calibration"]),
        (("prune", "magnitude-50", "calibration", "c4-128x2048"), ["not used by magnitude"]),
        (
            ("prune", "wanda-50", "calibration", "c4"),
            ["prune.wanda-50.calibration", "not in `calibration`"],
        ),
        (("prune", "wanda-50", "biases", True), ["prune.wanda-50.biases", "cannot prune biases"]),
        (("prune", "magnitude-2of4", "biases", True), ["prune.magnitude-2of4", "of weights"]),
        (("prune", "magnitude-50", "include", "x"), ["prune.magnitude-50.include", "list"]),
        (("finetune", "full", "rank", 8), ["strategy full does not use ['rank']"]),
        (
            ("finetune", "full", "strategy", "ful"),
            ["finetune.full.strategy", "did you mean 'full'"],
        ),
        (("finetune", "full", "epoch", 2), ["finetune.full.epoch", "did you mean 'epochs'"]),
        (("finetune", "full", "loss_on", "al"), ["finetune.full.loss_on", "'al'"]),
        (("finetune", "nf4", "learning_rate", 1.0), ["quantize does not use ['learning_rate']"]),
        (("finetune", "nf4", "precision", None), ["finetune.nf4", "needs `precision`"]),
        (("finetune", "int8", "double_quant", True), ["int8 does not use `double_quant`"]),
        (
            ("finetune", "equal-norms", "preserve_zeros", True),
            ["norms does not use ['preserve_zeros']"],
        ),
        (
            ("finetune", "equal-lora-unmasked", "preserve_zeros", False),
            ["adapter unmasked and preserve_zeros: false exclude each other"],
        ),
        (
            ("finetune", "wiki-reconstruct", "calibration", "wiki"),
            ["finetune.wiki-reconstruct.calibration", "not in `calibration`"],
        ),
        (
            ("finetune", "wiki-reconstruct", "dampning", 0.1),
            ["wiki-reconstruct.dampning", "did you mean 'dampening'"],
        ),
        (
            ("finetune", "wiki-reconstruct", "iterations", 0.5),
            ["wiki-reconstruct.iterations is 0.5", "one like 50"],
        ),
        (
            ("finetune", "wiki-reconstruct", "grain", "submodul"),
            ["finetune.wiki-reconstruct", "grain is 'submodul'", "did you mean 'submodule'"],
        ),
        (
            ("finetune", "wiki-reconstruct", "epochs", 3),
            ["finetune.wiki-reconstruct", "grain linear does not use ['epochs']"],
        ),
        (
            ("finetune", "wiki-reconstruct", "learning_rate", 1e-3),
            ["strategy reconstruct does not use ['learning_rate']"],
        ),
        (("finetune", "wiki-reconstruct", "learning_rates", []), ["lists at least one"]),
        (("finetune", "full", "learning_rate", -1.0), ["finetune.full.learning_rate"]),
        (
            ("models", "opt-125m", "source", "hf:"),
            ["models.opt-125m.source", "expected hf:org/name"],
        ),
        (("models", "opt-125m", "source", "no/such/folder"), ["there is no file or folder"]),
        (
            ("studies", "demo", "grid", 0, "model", "smollm"),
            ["studies.demo", "did you mean 'smollm2-135m'"],
        ),
        (("studies", "demo", "grid", 0, "modell", "x"), ["did you mean 'model'"]),
        (("studies", "demo", "evaluations", ["paper"]), ["did you mean 'papers'"]),
        (
            ("evaluations", "papers", "splits", ["tset"]),
            ["wants the split 'tset'", "did you mean 'test'"],
        ),
        (("evaluations", "papers", "metrics", ["rogue"]), ["did you mean 'rouge'"]),
        (("evaluations", "papers", "baselines", {"x": {"method": "led"}}), ["did you mean 'lead'"]),
        (
            ("evaluations", "papers", "baselines", {"x": {"method": "lead", "count": 3}}),
            ["baselines.x.count is not its setting"],
        ),
        (("metrics", "rouge", "stemer", True), ["did you mean 'stemmer'"]),
        (("efficiency", "bad", {"repetitions": 0}), ["efficiency.bad.repetitions is 0"]),
        (("efficiency", "bad", {"new_tokens": 1}), ["efficiency.bad.new_tokens is 1"]),
        (("efficiency", "bad", {"form": "paked"}), ["efficiency.bad.form", "'packed'"]),
        (("efficiency", "bad", {"values": "int8"}), ["efficiency.bad", "set form: packed"]),
        (("metrics", "bertscore", "model", None), ["metrics.bertscore.model", "is missing"]),
        (("datasets", "aclsum", "columns", {"document": "x"}), ["columns lacks ['summary']"]),
        (("datasets", "aclsum", "prompt", "no place"), ["{document} exactly once"]),
        (("device", "gpu"), ["config.yaml: device", "'gpu'"]),
        (("finetune", "full", "patience", 2), ["`patience` needs `evaluate_every`"]),
        (("finetune", "full", "evaluate_every", 2), ["`evaluate_every` needs `dev_split`"]),
        (("finetune", "full", "token_budget", 10), ["takes the place of `epochs`"]),
        (("finetune", "full", "dev_split", "train"), ["dev_split is 'train', which is learned"]),
        (("finetune", "full", "learning_rates", [1e-4, 1e-3]), ["needs `dev_split`"]),
        (
            ("finetune", "x", {"strategy": "full", "dev_split": "dev", "learning_rates": [1e-4]}),
            ["finetune.x", "at least two"],
        ),
        (("training", {"checkpoint_every": 3}), ["training.checkpoint_every is not a key here"]),
        (("threads", 0), ["config.yaml: threads"]),
        (
            ("studies", "demo", "contrasts", [NAMED_CONTRAST] * 9),
            ["studies.demo.contrasts is a list of 9; expected at most 8"],
        ),
        (("generation", "greedy-96", "top_p", 0.5), ["do_sample"]),
        (("prune", "wanda-50", "sparsity", "30%"), ["prune.wanda-50.sparsity", "did you mean 0.3"]),
        (("prune", "wanda-50", "sparsity", "0.5"), ["0.5, without quotes"]),
        (("finetune", "demo-qlora", "dropout", 10), ["dropout is 10", "did you mean 0.1?"]),
        (
            ("studies", "demo", "grid", 1, "prune", {"method": "magnitude", "sparsity": [0.5, 70]}),
            ["magnitude-70", "did you mean 0.7?"],
        ),
        (
            ("models", "opt-125m", "source", "https://huggingface.co/facebook/opt-125m"),
            ["did you mean hf:facebook/opt-125m?"],
        ),
        (("datasets", "c4", "source", "random:"), ["a source of models alone"]),
        (("models", "opt-125m", "source", "numbers:"), ["a source of datasets alone"]),
        (("device", "GPU"), ["'GPU' is no kind of device; write cuda"]),
        (("prune", "wiki-sparsegpt-2of4", "dampening", "much"), ["one like 0.01"]),
        (
            ("prune", "x", BLOCK_INFLUENCE | {"units": ["heads", "mlp"]}),
            ["prune.x.units", "influence scores blocks", "magnitude or random or taylor or wanda"],
        ),
        (
            (
                "prune",
                "x",
                {"method": "stade", "pattern": "2:4", "calibration": "c4-128x2048"}
                | {"compensate": False, "add_biases": True},
            ),
            ["prune.x.add_biases", "`compensate`"],
        ),
    ],
)
def test_a_fault_names_place_and_remedy(raw, path_and_value, words):
    found = faults(changed(raw, *path_and_value))
    assert any(all(word in fault for word in words) for fault in found), found


def test_a_path_of_a_file_is_not_taken_for_a_name_of_the_hub(raw):
    (found,) = faults(changed(raw, "datasets", "c4", "source", "data/train.jsonl"))
    assert "there is no file or folder" in found and "did you mean" not in found


@pytest.mark.parametrize("names", [["README.md"], ["adapter_model.safetensors", "config.json"]])
def test_a_folder_without_weights_is_told_before_anything_runs(raw, tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    (found,) = faults(changed(raw, "models", "opt-125m", "source", str(tmp_path)))
    assert "models.opt-125m.source" in found and "no weights found" in found


def test_files_and_splits_of_a_local_source_are_looked_for(raw, tmp_path):
    (tmp_path / "a.jsonl").touch()
    mine = {"source": str(tmp_path), "kind": "text", "columns": {"text": "t"}}
    mine |= {"files": {"train": "a.jsonl", "test": "b.jsonl"}}
    mine |= {"splits": {"train": "train[:50%]", "test": "test", "dev": "trian"}}
    found = faults(changed(raw, "datasets", "mine", mine))
    assert len(found) == 2
    assert "splits.dev" in found[0] and "did you mean 'train'" in found[0]
    assert "files.test" in found[1] and "b.jsonl does not exist" in found[1]


@pytest.mark.parametrize(("dataset", "column"), [("c4", "text"), ("aclsum", "document")])
def test_a_calibration_reads_the_column_that_its_data_set_has(raw, dataset, column):
    mine = {"dataset": dataset, "split": next(iter(raw["datasets"][dataset]["splits"]))}
    config = check(changed(raw, "calibration", "mine", mine))
    assert Slices(config).calibration("mine", 0)["column"] == column
    assert check(changed(raw, "calibration", "mine", mine | {"column": column}))
    (other,) = {"text", "document"} - {column}
    (found,) = faults(changed(raw, "calibration", "mine", mine | {"column": other}))
    assert "calibration.mine.column" in found and f"write {column}" in found


def test_what_was_pruned_with_biases_cannot_be_tuned(raw):
    broken = changed(
        raw, "prune", "wiki-wanda-50", {"method": "magnitude", "sparsity": 0.5, "biases": True}
    )
    assert any("demo.grid tunes (demo-qlora) what 'wiki-wanda-50'" in f for f in faults(broken))


def test_all_faults_are_told_at_once(raw):
    broken = changed(raw, "prune", "wanda-50", "sparsity", 1.5)
    broken["devise"] = "cpu"
    broken["finetune"]["full"]["epochs"] = 0
    broken["studies"]["demo"]["evaluations"] = ["nothing"]
    found = "\n".join(faults(broken))
    for word in ("wanda-50.sparsity", "devise", "finetune.full.epochs", "'nothing'"):
        assert word in found


def test_a_broken_profile_is_not_reported_again_by_its_users(raw):
    found = faults(changed(raw, "prune", "wanda-50", "sparsity", 1.5))
    assert len(found) == 1


def test_two_evaluations_of_texts_on_one_split_are_refused(raw):
    broken = copy.deepcopy(raw)
    broken["evaluations"]["papers2"] = dict(broken["evaluations"]["papers"])
    broken["studies"]["demo"]["evaluations"] = ["papers", "papers2"]
    told = "\n".join(faults(broken))
    assert "papers2" in told and "split 'test'" in told


def test_a_community_metric_needs_its_revision(raw):
    broken = changed(raw, "metrics", "length", {"module": "hf:someone/thing"})
    assert "metrics.length.revision is missing" in "\n".join(faults(broken))
    broken["metrics"]["length"]["revision"] = "abc"
    assert check(broken)


@pytest.mark.parametrize("section", ["models", "datasets", "prune", "finetune"])
def test_a_profile_that_is_wrong_is_told_once_and_no_study_of_it_is_blamed(raw, section):
    """Contrasts over its cells, which are left out, and a grid without any, say nothing."""
    study = raw["studies"]["demo"]
    named = f"{study['dataset']} {study['grid']}"
    name = next(name for name in raw[section] if name != "none" and name in named)
    found = faults(changed(raw, section, name, {**raw[section][name], "nonsense": 1}))
    assert len(found) == 1 and f"{section}.{name}" in found[0]


def test_only_nf4_has_scales_to_quantize():
    with pytest.raises(ValueError, match="int8.*`double_quant`"):
        finetune_step.Finetune(strategy="qlora", quantization="int8", double_quant=True)
    assert finetune_step.Finetune(strategy="qlora", quantization="int8").quantization == "int8"


def test_a_strategy_says_its_adapters_and_when_it_ends_in_plain_weights(monkeypatch):
    """By literals of its own file alone: settings that only it knows count too."""
    said = plugins.strategy_facts("lora") | {
        "ADAPTERS": ("merged",), "PLAIN": {"depth": (1,)}, "SETTINGS": {"depth": 1}
    }  # fmt: skip
    monkeypatch.setattr(plugins, "strategy_facts", lambda name: said)
    with pytest.raises(ValueError, match="unmasked.*'merged'"):
        finetune_step.Finetune(strategy="lora", adapter="unmasked")
    assert finetune_step.Finetune(strategy="lora").plain
    assert not finetune_step.Finetune(strategy="lora", depth=2).plain


@pytest.mark.parametrize(
    ("path_and_value", "told"),
    [
        (("retention", "needed"), "write keep_weights"),
        (("finetune", "demo-full", "sparsity", "free"), "write preserve_zeros"),
        (("evaluations", "papers-roles", "learn", "train"), "write train_split"),
        (("datasets", "numbers", "mixture", "against", []), "write disjoint_from"),
    ],
)
def test_a_key_that_was_renamed_names_its_successor(raw, path_and_value, told):
    assert any(told in fault for fault in faults(changed(raw, *path_and_value)))

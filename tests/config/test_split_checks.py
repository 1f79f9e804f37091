"""The splits that a study learns, chooses by and scores: there, fit, and held apart."""

import pytest

from prunegrid.config.sources import overlap
from tests.helpers import shipped
from tests.helpers.shipped import changed, check, faults


@pytest.fixture(scope="module")
def raw():
    return shipped.config()


def tuned(raw, dev_split, **splits):
    raw = changed(raw, "finetune", "demo-full", "dev_split", dev_split)
    raw["datasets"]["aclsum"]["splits"].update(splits)
    raw["studies"] = {"demo": raw["studies"]["demo"]}
    return raw


def test_development_data_are_never_evaluated(raw):
    assert check(tuned(raw, "dev"))
    place = "config.yaml: studies.demo.finetune (demo-full)"
    found = faults(tuned(raw, "test"))
    assert len(found) == 1 and place in found[0]
    assert "development split 'test'" in found[0] and "evaluation 'papers'" in found[0]
    (found,) = faults(tuned(raw, "some", some="test[:20%]"))
    assert place in found and "'some'" in found and "shares rows with 'test'" in found
    (found,) = faults(tuned(raw, "dve"))
    assert "wants the split 'dve'" in found and "did you mean 'dev'" in found


def test_a_text_that_is_scored_is_no_development_data(raw):
    raw = tuned(raw, "dev")
    raw["evaluations"]["seen"] = {"kind": "perplexity", "dataset": "aclsum", "split": "dev"}
    raw["studies"]["demo"]["evaluations"] = ["wikipedia-128", "papers", "seen"]
    (found,) = faults(raw)
    assert "development split 'dev'" in found and "evaluation 'seen'" in found


def test_development_data_are_never_learned(raw):
    place = "config.yaml: studies.demo.finetune (demo-full)"
    assert check(tuned(raw, "dev", train="train[:90%]", dev="train[90%:]"))
    (found,) = faults(tuned(raw, "dev", dev="train[90%:]"))
    assert place in found and "shares rows with 'train'" in found
    (found,) = faults(tuned(raw, "dev", train="train[:90%]", dev="train[80%:]"))
    assert place in found and "shares rows with 'train'" in found
    other = tuned(raw, "dev", held="dev[:50%]")
    assert check(other)
    other["finetune"]["demo-full"]["split"] = "held"
    (found,) = faults(other)
    assert "development split 'dev'" in found and "shares rows with 'held'" in found


@pytest.mark.parametrize(
    ("change", "splits", "shared"),
    [
        ({}, {"seen": "dev"}, True),
        ({}, {"seen": "dev[10:20]"}, True),
        ({}, {"seen": "test"}, False),
        # Another name of the same file.
        ({"files": {"all": "aclsum/dataset/val.jsonl"}}, {"seen": "all[:20%]"}, True),
        ({"files": "aclsum/dataset/val.jsonl", "sha256": "0" * 64}, {"seen": "all"}, True),
        ({"files": "aclsum/dataset/test.jsonl", "sha256": "0" * 64}, {"seen": "all"}, False),
        ({"source": "pypi:other==1"}, {"seen": "dev"}, False),
    ],
)
def test_one_source_under_two_names_is_the_same_rows(raw, change, splits, shared):
    """A development split may not be scored as another profile's text."""
    raw = tuned(raw, "dev")
    raw["datasets"]["again"] = raw["datasets"]["aclsum"] | {"splits": splits} | change
    raw["evaluations"]["seen"] = {"kind": "perplexity", "dataset": "again", "split": "seen"}
    raw["studies"]["demo"]["evaluations"] = ["wikipedia-128", "papers", "seen"]
    if not shared:
        assert check(raw)
        return
    (found,) = faults(raw)
    assert "finetune (demo-full)" in found and "evaluation 'seen'" in found
    assert "shares rows with 'seen' of 'again'" in found


def test_files_of_this_machine_are_compared_by_their_place(raw, tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}\n" * 1000)
    raw = tuned(raw, "dev")
    plain = {"columns": {"document": "d", "summary": "s"}}
    splits = {"train": "all[:50]", "dev": "all[50:60]", "test": "all[60:]"}
    raw["datasets"]["aclsum"] = plain | {"source": f"{tmp_path}/rows.jsonl", "splits": splits}
    raw["evaluations"]["seen"] = {"kind": "perplexity", "dataset": "again", "split": "seen"}
    raw["studies"]["demo"]["evaluations"] = ["wikipedia-128", "papers", "seen"]
    for part, count in (("x[55:]", 1), ("x[60:]", 0)):
        again = plain | {"source": str(tmp_path), "files": {"x": "rows.jsonl"}}
        raw["datasets"]["again"] = again | {"splits": {"seen": part}}
        assert len(faults(raw)) == count if count else check(raw)


def one_study(raw, name):
    raw = changed(raw, "studies", name, "contrasts", [])
    raw["studies"] = {name: raw["studies"][name]}
    return raw


@pytest.mark.parametrize(
    ("split", "part", "shares"),
    [
        ("evaluation", "all[60%:]", False),
        ("some", "all[50%:70%]", True),
        ("some", "all[50%:60%]", None),
    ],
)
def test_what_is_learned_is_not_scored(raw, split, part, shares):
    raw = one_study(raw, "structured-smollm2")
    raw["datasets"]["wikipedia"]["splits"][split] = part
    raw["finetune"]["wiki-chain-full"]["split"] = split
    if shares is None:
        assert check(raw)
        return
    found = faults(raw)  # one for each tuning: of the cells, and longer ones of the arms
    assert "studies.structured-smollm2.finetune (wiki-chain-full)" in found[0], found
    assert f"learns '{split}'" in found[0] and ("shares rows" in found[0]) is shares
    assert all("wiki-chain-full" in fault for fault in found)


def test_summaries_that_are_scored_are_not_learned(raw):
    raw = one_study(raw, "demo")
    raw["finetune"]["demo-full"]["split"] = "test"
    (found,) = faults(raw)
    assert "finetune (demo-full)" in found and "'papers'" in found
    raw["evaluations"]["papers"]["splits"] = ["dev"]
    assert check(raw)


@pytest.mark.parametrize("dataset", ["wikipedia", "again", "mixed"])
def test_what_is_calibrated_on_is_not_scored(raw, dataset):
    raw = one_study(raw, "protocols")
    raw["studies"]["protocols"]["evaluations"] = ["wikipedia-512"]
    raw["datasets"]["again"] = {**raw["datasets"]["wikipedia"], "splits": {"evaluation": "all"}}
    part = {"dataset": "rows", "split": "evaluation", "prompt": "x", "response": "y"}
    plain = {"kind": "rows", "columns": {"text": "text"}, "splits": {"evaluation": "all[:70%]"}}
    raw["datasets"]["rows"] = raw["datasets"]["wikipedia"] | plain
    mixed = {"mixture": {"parts": {"only": part}}, "splits": {"evaluation": "all"}}
    raw["datasets"]["mixed"] = mixed
    raw["calibration"]["wiki-16x256"] |= {"dataset": dataset, "split": "evaluation"}
    (found,) = faults(raw)
    source = "rows" if dataset == "mixed" else dataset
    assert found.startswith(
        "config/studies/protocols.yaml: studies.protocols.prune (wiki-wanda-50) calibrates on "
        f"'evaluation' of '{source}', which evaluation 'wikipedia-512'"
    )
    assert found.endswith("(also in protocols.prune (wiki-wanda-2of4))")


def test_a_refit_is_calibrated_on_no_scored_rows(raw):
    raw = one_study(raw, "recovery")
    raw["calibration"]["refit"] = raw["calibration"]["wiki-16x256"] | {"split": "evaluation"}
    raw["finetune"]["wiki-reconstruct"]["calibration"] = "refit"
    (found,) = faults(raw)
    assert "finetune (wiki-reconstruct)" in found and "calibrates" in found


def test_what_another_model_is_scored_on_may_be_learned(raw):
    """An encoder is asked rows that the decoder beside it learned: no leak."""
    raw = one_study(raw, "architectures-small")
    study = raw["studies"]["architectures-small"]
    raw["datasets"]["papers"] = raw["datasets"]["aclsum"] | {"splits": {"train": "test"}}
    study["grid"][0] |= {"dataset": "papers", "finetune": "demo-full"}
    study |= {"evaluations": ["wikipedia-512", *study["evaluations"][2:]], "cliffs": []}
    assert check(raw)
    study["evaluations"].append("papers-tasks")
    (found,) = faults(raw)
    assert "finetune (demo-full)" in found and "'papers-tasks'" in found
    assert "shares rows with 'test' of 'aclsum-rows'" in found


def test_a_text_is_tuned_on_by_windows(raw):
    raw = tuned(raw, "dev")
    text = {"source": "hf:some/text", "kind": "text", "columns": {"text": "text"}}
    raw["datasets"]["plain"] = text | {"splits": {"train": "train", "dev": "dev", "test": "test"}}
    study = raw["studies"]["demo"]
    study |= {"dataset": "plain", "evaluations": ["wikipedia-512"], "contrasts": []}
    (found,) = faults(raw)
    assert found.startswith("config.yaml: studies.demo.finetune (demo-full) has no window")
    assert "kind text" in found
    assert found.endswith("(also in demo.finetune (demo-qlora))")
    for name in ("demo-full", "demo-qlora"):
        raw["finetune"][name]["window"] = 128
    assert check(raw)
    raw["finetune"]["demo-full"]["split"] = "trian"
    (found,) = faults(raw)
    assert "(demo-full)" in found and "did you mean 'train'" in found
    raw["finetune"]["demo-full"]["split"] = "train"
    study["grid"] = {"model": "smollm2-135m", "prune": ["dense", "wiki-wanda-50"]}
    del study["timed"]
    assert check(raw)
    study["evaluations"] = ["papers"]
    (found,) = faults(raw)
    assert "studies.demo.evaluations (papers) wants summaries" in found


def test_rows_of_summaries_have_no_window(raw):
    raw["finetune"]["demo-full"]["window"] = 128
    found = faults(raw)
    assert found and all("finetune (demo-full)" in f and "window" in f for f in found)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("train", "train", True),
        ("train", "test", False),
        ("train[:90%]", "train", True),
        ("train[:90%]", "train[90%:]", False),
        ("train[:90%]", "train[80%:95%]", True),
        ("all[100:200]", "all[200:]", False),
        ("all[100:200]", "all[199:]", True),
        ("all[100:200]", "test[100:200]", False),
        ("all[:10]", "all[50%:]", False),  # not known without the number of rows
        ("all[-10:]", "all[:5]", False),
        ("all[-10:]", "all", True),
        ("all[-10:]", "test", False),
    ],
)
def test_splits_that_share_rows(one, other, shared):
    assert overlap(one, other) is overlap(other, one) is shared

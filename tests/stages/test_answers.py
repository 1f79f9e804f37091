"""The stage `answers`: flips against dense, and answers that a model recognises or writes."""

import json
import shutil

import pandas
import pytest
import torch

from prunegrid.artifacts.artifact_folder import MANIFEST
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.evaluation.harness import written_answers
from prunegrid.models import checkpoint
from prunegrid.stages import answers
from tests.helpers import benchmark_rows, tiny, tiny_encoders
from tests.helpers.asked_tasks import SETTINGS as ASKED
from tests.helpers.asked_tasks import ask_all

pytestmark = pytest.mark.model

SETTINGS = {**ASKED, "right_by": {"0-openbookqa": "acc", "1-piqa": "acc_norm"}}
FOLDERS = list(SETTINGS["right_by"])


def asked(folder, weights, data):
    """Return the artifact of what weights answered to two tasks."""
    folder.mkdir()
    tasks = [("openbookqa", data["openbookqa"], {"split": "test"})]
    tasks += [("piqa", data["piqa"], {"metrics": ["acc_norm", "acc"]})]
    record, _ = ask_all(folder, weights, *tasks)
    file_io.write_json(folder / "out" / MANIFEST, {"record": record})
    return folder / "out"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two models with what they answered: dense, and another."""
    folder = tmp_path_factory.mktemp("answers")
    data = {
        "openbookqa": benchmark_rows.artifact(folder / "o", test=benchmark_rows.openbookqa(12)),
        "piqa": benchmark_rows.artifact(folder / "p", validation=benchmark_rows.piqa(9)),
    }
    made = {}
    for name, seed in (("dense", 1), ("other", 2)):
        weights = benchmark_rows.model(folder / name, seed=seed)
        made[name] = {"weights": weights, "answers": asked(folder / f"{name}-a", weights, data)}
    made["parents"] = {**made["other"], "dense": made["dense"]["answers"]}
    return made


def run(tmp_path, parents, **changes):
    tmp_path.mkdir(exist_ok=True)
    record = answers.run({**SETTINGS, **changes}, parents, tmp_path, tiny.job())
    read = {
        folder: [
            pandas.read_parquet(tmp_path / folder / f"{n}.parquet") for n in ("scores", "samples")
        ]
        for folder in FOLDERS
    }
    return record, read


def accuracy(artifact, folder, metric):
    scores = pandas.read_parquet(artifact / folder / "scores.parquet")
    return scores[scores["metric"] == metric].set_index("id")["value"]


def test_flips_are_those_of_the_two_artifacts(world, tmp_path):
    record, read = run(tmp_path / "out", world["parents"])
    manifest = file_io.read_json(world["other"]["weights"] / MANIFEST)
    assert record["weights"] == manifest["record"]["weights"]
    for folder, metric in SETTINGS["right_by"].items():
        own = accuracy(world["other"]["answers"], folder, metric)
        dense = accuracy(world["dense"]["answers"], folder, metric)
        summary = record["parts"][folder]["summary"]
        assert summary["flips_right_wrong"]["mean"] == ((dense == 1) & (own == 0)).mean()
        assert summary["flips_wrong_right"]["mean"] == ((dense == 0) & (own == 1)).mean()
        assert summary["recognised"]["mean"] == own.mean()
        asked = file_io.read_json(world["other"]["answers"] / MANIFEST)["record"]["parts"][folder]
        chance = asked["summary"][metric]["chance"]
        assert chance and {m: one["chance"] for m, one in summary.items()} == dict.fromkeys(
            summary
        ) | {"recognised": chance, "produced": chance}
        assert {one["n"] for one in summary.values()} == {len(own)}
        scores = read[folder][0]
        means = scores.groupby("metric")["value"].mean()
        assert means.to_dict() == pytest.approx({m: one["mean"] for m, one in summary.items()})
    assert any(
        part["summary"]["flips_right_wrong"]["mean"] > 0 for part in record["parts"].values()
    )


def greedy(weights, prompt, count):
    """Return the text of so many greedy tokens, each from the whole text before it."""
    loaded = checkpoint.load(weights)
    ids = loaded.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    start = len(ids)
    with torch.no_grad():
        for _ in range(count):
            token = int(loaded.model(torch.tensor([ids])).logits[0, -1].argmax())
            if token == loaded.tokenizer.eos_token_id:
                break
            ids.append(token)
    return loaded.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


def test_what_is_written_is_the_models_own_greedy_text(world, tmp_path):
    _, read = run(tmp_path / "out", world["parents"])
    samples = read["0-openbookqa"][1]
    for row in samples.head(4).to_dict("records"):
        (option,) = row["right_options"]
        # The tokenizer has a token a byte.
        expected = greedy(world["other"]["weights"], row["prompt"], len(option.encode()) + 1)
        # The limit may halve a character.
        assert row["written"].rstrip("\ufffd") == expected.rstrip("\ufffd")


@pytest.mark.parametrize("size", [1, 3, 12])
def test_the_size_of_a_batch_changes_no_answer(world, tmp_path, size):
    one = run(tmp_path / "one", world["parents"])
    two = run(tmp_path / "two", world["parents"], batch_size=size)
    for folder in FOLDERS:
        assert one[0]["parts"][folder] == two[0]["parts"][folder]


def test_dense_has_no_flips(world, tmp_path):
    record, _ = run(tmp_path / "out", world["dense"])
    for part in record["parts"].values():
        assert part["summary"]["flips_right_wrong"]["mean"] == 0
        assert part["summary"]["flips_wrong_right"]["mean"] == 0


class Parrot:
    """Stands for a model's texts: it writes the right option of some items."""

    def __init__(self, every):
        self.every = every

    def __call__(self, loaded, items, *rest):
        return [item.right[0].upper() * (i % self.every == 0) for i, item in enumerate(items)], 0


def test_recognised_and_not_produced_are_right_by_likelihood_and_not_written(
    world, tmp_path, monkeypatch
):
    monkeypatch.setattr(written_answers, "write", Parrot(3))
    record, _ = run(tmp_path / "out", world["parents"])
    for folder, metric in SETTINGS["right_by"].items():
        own = accuracy(world["other"]["answers"], folder, metric).to_numpy() == 1
        written = [place % 3 == 0 for place in range(len(own))]
        summary = record["parts"][folder]["summary"]
        assert summary["produced"]["mean"] == pytest.approx(sum(written) / len(own))
        lost = [a and not b for a, b in zip(own, written, strict=True)]
        assert summary["recognised_not_produced"]["mean"] == pytest.approx(sum(lost) / len(own))


def test_a_prompt_without_room_is_cut_and_counted(world, tmp_path):
    folder = tmp_path / "short"
    weights = benchmark_rows.model(folder, positions=40, seed=2)
    rows = [{**row, "question_stem": "x " * 30} for row in benchmark_rows.openbookqa(3)]
    data = {
        "openbookqa": benchmark_rows.artifact(tmp_path / "o", test=rows),
        "piqa": benchmark_rows.artifact(tmp_path / "p", validation=benchmark_rows.piqa(2)),
    }
    parents = {"weights": weights, "answers": asked(tmp_path / "a", weights, data)}
    record, _ = run(tmp_path / "out", parents)
    assert record["parts"]["0-openbookqa"]["contexts_cut"] == 3


def test_other_weights_or_items_are_refused(world, tmp_path):
    swapped = {**world["parents"], "weights": world["dense"]["weights"]}
    with pytest.raises(AttestationError, match="other weights answered"):
        run(tmp_path / "a", swapped)
    other = tmp_path / "items"
    shutil.copytree(world["dense"]["answers"], other)
    manifest = json.loads((other / MANIFEST).read_text())
    manifest["record"]["parts"]["1-piqa"]["items_sha256"] = "0"
    file_io.write_json(other / MANIFEST, manifest)
    with pytest.raises(AttestationError, match="other items of piqa"):
        run(tmp_path / "b", {**world["parents"], "dense": other})


def test_an_encoder_is_refused(world, tmp_path):
    encoder = tiny_encoders.weights(tmp_path / "encoder", None, task="encoder")
    with pytest.raises(PrunegridError, match="answers needs a causal language model"):
        run(tmp_path / "out", {**world["parents"], "weights": encoder})

"""The stage `tasks`: the harness' own numbers, over our data, on attested weights."""

import json
import math

import pytest
import torch
from sklearn.metrics import f1_score, matthews_corrcoef

from prunegrid.config.tasks import METRICS
from prunegrid.models import checkpoint, open_checkpoint
from tests.helpers import benchmark_rows, tiny
from tests.helpers.asked_tasks import ask, ask_all
from tests.helpers.asked_tasks import weights as weights  # a fixture
from tests.helpers.tuning import tune

pytestmark = pytest.mark.model


def log_likelihood(weights, context, continuation):
    """The sum of log-probabilities of a continuation's bytes after a context."""
    loaded = checkpoint.load(weights)
    ids = loaded.tokenizer(context + continuation, add_special_tokens=False)["input_ids"]
    start = len(loaded.tokenizer(context, add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        logits = loaded.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(logits[i - 1, ids[i]]) for i in range(start, len(ids)))


def directly(weights, folder, task, file, columns, split):
    """What lm_eval itself says, called as its users call it: a model's folder, a task's YAML."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    definition = {
        "task": task,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: str(file)}, "cache_dir": str(folder / "cache")},
        "test_split": split,
        "output_type": "multiple_choice",
        **columns,
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True}
            for name in ("acc", "acc_norm")
        ],
    }
    place = folder / "direct"
    place.mkdir()
    (place / "task.yaml").write_text(json.dumps(definition))
    return simple_evaluate(
        model="hf",
        model_args={"pretrained": str(weights), "dtype": "float32"},
        tasks=[task],
        task_manager=TaskManager(include_path=str(place), include_defaults=False),
        batch_size=4,
        device="cpu",
    )


@pytest.mark.parametrize(
    ("task", "rows", "columns"),
    [
        (
            "piqa",
            benchmark_rows.piqa(24),
            {
                "doc_to_text": "Question: {{goal}}\nAnswer:",
                "doc_to_target": "label",
                "doc_to_choice": "{{[sol1, sol2]}}",
            },
        ),
        (
            "openbookqa",
            benchmark_rows.openbookqa(24),
            {
                "doc_to_text": "question_stem",
                "doc_to_target": "{{choices.label.index(answerKey.lstrip())}}",
                "doc_to_choice": "{{choices.text}}",
            },
        ),
    ],
)
def test_the_numbers_are_those_of_the_harness_called_directly(
    tmp_path, weights, task, rows, columns
):
    data = benchmark_rows.artifact(tmp_path / "data", validation=rows)
    record, scores, samples = ask(tmp_path, weights, task, data, metrics=["acc", "acc_norm"])
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    direct = directly(weights, tmp_path, task, file, columns, "validation")
    found = direct["results"][task]
    for metric in ("acc", "acc_norm"):
        assert record["summary"][metric]["mean"] == found[f"{metric},none"]
        assert record["summary"][metric]["stderr"] == found[f"{metric}_stderr,none"]
        items = scores[scores["metric"] == metric]["value"].tolist()
        assert items == [sample[metric] for sample in direct["samples"][task]]
    told = [json.loads(text) for text in samples["responses"]]
    asked = direct["samples"][task]
    for mine, theirs in zip(told, asked, strict=True):
        replies = list(zip(mine, theirs["resps"], strict=True))
        assert all(one[0][1] == two[0][1] for one, two in replies)
        sums = [two[0][0] for _, two in replies]
        # A context is read once for all its options, so sums are rounded otherwise.
        assert [one[0][0] for one, _ in replies] == pytest.approx(sums, rel=1e-6)
    assert record["summary"]["acc"]["n"] == record["rows"] == len(rows)
    assert record["harness"] == "lm-eval 0.4.13" and record["version"] == "1.0"


def test_answers_are_the_likeliest_continuations(tmp_path, weights):
    rows = benchmark_rows.piqa(6)
    data = benchmark_rows.artifact(tmp_path / "data", validation=rows)
    record, scores, samples = ask(tmp_path, weights, "piqa", data, metrics=["acc", "acc_norm"])
    right = {"acc": [], "acc_norm": []}
    for row, told in zip(rows, samples["responses"], strict=True):
        choices = [row["sol1"], row["sol2"]]
        context = f"Question: {row['goal']}\nAnswer:"
        sums = [log_likelihood(weights, context, f" {choice}") for choice in choices]
        assert [reply[0][0] for reply in json.loads(told)] == pytest.approx(sums, rel=1e-4)
        by_length = [total / len(choice) for total, choice in zip(sums, choices, strict=True)]
        right["acc"].append(float(sums.index(max(sums)) == row["label"]))
        right["acc_norm"].append(float(by_length.index(max(by_length)) == row["label"]))
    for metric, expected in right.items():
        assert scores[scores["metric"] == metric]["value"].tolist() == expected
        assert record["summary"][metric]["mean"] == pytest.approx(sum(expected) / 6)
    assert record["summary"]["acc"]["chance"] == 0.5
    assert record["summary"]["acc"]["majority"] is None  # each item has choices of its own
    assert samples["prompt"][0] == f"Question: {rows[0]['goal']}\nAnswer:"
    assert list(samples["continuations"][0]) == [f" {rows[0]['sol1']}", f" {rows[0]['sol2']}"]


def test_a_group_takes_each_subjects_rows_and_shots(tmp_path, weights):
    rows = benchmark_rows.mmlu(2)
    shots = benchmark_rows.mmlu(1, seed=1)
    data = benchmark_rows.artifact(tmp_path / "data", test=rows, dev=shots)
    record, scores, samples = ask(
        tmp_path, weights, "mmlu", data, split="test", by="subject", shots=1, shots_from="dev"
    )
    assert record["summary"]["acc"]["n"] == len(rows) == len(scores)
    assert record["summary"]["acc"]["mean"] == pytest.approx(scores["value"].mean())
    assert record["summary"]["acc"]["chance"] == 0.25
    assert record["shots"] == 1 and record["subtasks"]["mmlu_anatomy"]["shots"] == 1
    anatomy = samples[samples["subtask"] == "mmlu_anatomy"]
    own = [row["question"] for row in rows if row["subject"] == "anatomy"]
    shown = next(row for row in shots if row["subject"] == "anatomy")
    for prompt, question in zip(anatomy["prompt"], own, strict=True):
        assert shown["question"] in prompt and question in prompt
        assert f"Answer: {'ABCD'[shown['answer']]}" in prompt


def test_hellaswags_own_preparation_of_rows_is_kept(tmp_path, weights):
    rows = benchmark_rows.hellaswag(5)
    data = benchmark_rows.artifact(tmp_path / "data", validation=rows)
    record, _, samples = ask(tmp_path, weights, "hellaswag", data, metrics=["acc", "acc_norm"])
    assert record["summary"]["acc"]["chance"] == 0.25
    assert samples["prompt"][0].startswith("Housework 0: Somebody wants to")
    assert all("[step]" not in choice for some in samples["continuations"] for choice in some)
    assert [json.loads(text) for text in samples["target"]] == [int(r["label"]) for r in rows]


def test_metrics_of_all_items_together_have_no_items(tmp_path, weights):
    rows = benchmark_rows.mrpc(20)
    data = benchmark_rows.artifact(tmp_path / "data", validation=rows)
    record, scores, samples = ask(tmp_path, weights, "mrpc", data, metrics=["acc", "f1"])
    guesses = [json.loads(text)["f1"] for text in samples["metrics"]]
    truth, said = zip(*guesses, strict=True)
    assert list(truth) == [row["label"] for row in rows]
    assert record["summary"]["f1"]["mean"] == pytest.approx(f1_score(truth, said))
    assert record["summary"]["f1"]["stderr"] > 0
    assert set(scores["metric"]) == {"acc"}
    share = sum(truth) / len(truth)
    assert record["summary"]["acc"]["majority"] == pytest.approx(max(share, 1 - share))
    assert record["summary"]["f1"]["items"] is False
    assert within(record["summary"]["f1"], 0, 1)


def test_a_correlation_is_at_chance_at_zero(tmp_path, weights):
    data = benchmark_rows.artifact(tmp_path / "data", validation=benchmark_rows.cola(20))
    record, _, samples = ask(tmp_path, weights, "cola", data, metrics=["mcc"])
    truth, said = zip(*[json.loads(text)["mcc"] for text in samples["metrics"]], strict=True)
    assert record["summary"]["mcc"]["mean"] == pytest.approx(matthews_corrcoef(truth, said))
    assert record["summary"]["mcc"]["chance"] == 0.0
    assert within(record["summary"]["mcc"], -1, 1)


def within(score, least, most):
    """Whether a score's interval holds it and lies in the metric's range."""
    return least <= score["low"] <= score["mean"] <= score["high"] <= most


def test_an_own_definition_is_run_as_it_stands(tmp_path, weights):
    define = {
        "output_type": "multiple_choice",
        "doc_to_text": "{{sentence}} =",
        "doc_to_choice": ["no", "yes"],
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 3},
    }
    rows = benchmark_rows.cola(7)
    data = benchmark_rows.artifact(tmp_path / "data", validation=rows)
    record, _, samples = ask(tmp_path, weights, "mine", data, define=define, rows=4)
    assert record["version"] == "3" and record["summary"]["acc"]["n"] == 4
    assert samples["prompt"].tolist() == [f"{row['sentence']} =" for row in rows[:4]]


def test_prompts_that_are_cut_are_counted(tmp_path):
    short = benchmark_rows.model(tmp_path / "short", positions=64)
    rows = benchmark_rows.piqa(3) + [{"goal": "g", "sol1": "a", "sol2": "b", "label": 0}]
    data = benchmark_rows.artifact(tmp_path / "data", validation=rows)
    record, _, samples = ask(tmp_path, short, "piqa", data)
    lengths = [
        len((prompt + choice).encode())
        for prompt, some in zip(samples["prompt"], samples["continuations"], strict=True)
        for choice in some
    ]
    assert record["requests"] == 8
    assert 0 < record["contexts_cut"] == sum(length > 65 for length in lengths) < 8


def test_benchmarks_of_one_artifact_are_those_asked_alone(tmp_path, weights):
    """Each over its own rows and by its own settings, the same task twice among them."""
    piqa = benchmark_rows.artifact(tmp_path / "piqa", validation=benchmark_rows.piqa(6))
    mrpc = benchmark_rows.artifact(tmp_path / "mrpc", validation=benchmark_rows.mrpc(8))
    asked = [
        ("piqa", piqa, {"metrics": ["acc", "acc_norm"]}),
        ("mrpc", mrpc, {"metrics": ["f1"]}),
        ("piqa", piqa, {"rows": 2}),
    ]
    whole, parts = ask_all(tmp_path, weights, *asked)
    assert whole["weights"] == checkpoint.load(weights).record
    assert [part[0]["rows"] for part in parts] == [6, 8, 2]
    for place, (one, part) in enumerate(zip(asked, parts, strict=True)):
        alone = tmp_path / str(place)
        alone.mkdir()
        _, (expected,) = ask_all(alone, weights, one)
        assert part[0] == expected[0]
        assert part[1].equals(expected[1]) and part[2].equals(expected[2])


def test_the_config_knows_the_harness_metrics():
    import lm_eval.api.metrics  # noqa: F401 (it fills the registry)
    from lm_eval.api.registry import metric_registry

    assert set(metric_registry) == METRICS


def test_the_same_questions_have_the_same_answers_by_the_same_weights_alone(tmp_path, weights):
    data = benchmark_rows.artifact(tmp_path / "data", validation=benchmark_rows.piqa(8))
    records = []
    for name in ("a", "b"):
        place = tmp_path / name
        place.mkdir()
        records.append(ask(place, weights, "piqa", data)[0])
    assert records[0] == records[1]
    other = benchmark_rows.model(tmp_path / "other", seed=2)
    place = tmp_path / "c"
    place.mkdir()
    record = ask(place, other, "piqa", data)[0]
    assert record["items_sha256"] == records[0]["items_sha256"]
    assert record["answers_sha256"] != records[0]["answers_sha256"]
    assert math.isfinite(records[0]["summary"]["acc"]["stderr"])


@pytest.mark.parametrize("packing", ["nf4", "int8"])
def test_packed_weights_with_their_adapter_are_asked_as_they_are(tmp_path, packing):
    """The log-likelihoods are those of the model that loading gives, adapter and masks included."""
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    made, out = tune(tmp_path, parent, "qlora", quantization=packing, learning_rate=2e-2)
    define = {
        "output_type": "multiple_choice",
        "doc_to_text": "text : {{goal}} summary :",
        "doc_to_choice": ["w1", "w2", "w3 w4"],
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    rows = [{"goal": f"w{n} w{n + 5}", "label": n % 3} for n in range(5)]
    data = benchmark_rows.artifact(tmp_path / "rows", validation=rows)
    place = tmp_path / "asked"
    place.mkdir()
    record, _, samples = ask(place, out, "mine", data, define=define)
    assert record["weights"] == made["weights"] == open_checkpoint.load(out).record
    model, tokenizer = open_checkpoint.load(out).model, open_checkpoint.load(out).tokenizer
    for row, told in zip(rows, samples["responses"], strict=True):
        for choice, (reply,) in zip(define["doc_to_choice"], json.loads(told), strict=True):
            ids = tokenizer(f"text : {row['goal']} summary : {choice}")["input_ids"]
            start = len(ids) - len(choice.split())
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
            total = sum(float(logits[i - 1, ids[i]]) for i in range(start, len(ids)))
            assert reply[0] == pytest.approx(total, rel=1e-3)

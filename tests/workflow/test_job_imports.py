"""What each kind of job imports: large libraries only where they are called.

peft imports bitsandbytes itself, and pyarrow imports pandas where it makes a table of lists.
"""

import json

import pytest

LARGE = {
    *("peft", "evaluate", "bitsandbytes", "bert_score", "lm_eval", "datasets", "pandas"),
    *("torch", "transformers"),
}
MODELS = {"torch", "transformers"}
ADAPTER = {"peft", "bitsandbytes"}
# (stage, a part of the label): all of LARGE that its jobs import.
CALLED = {
    ("model", ""): MODELS,
    ("data", ""): {"datasets", "pandas"},
    ("calibration", ""): MODELS,
    ("prune", "tiny-wanda-50"): MODELS,
    ("prune", "tiny-sparsegpt-2of4"): MODELS,
    ("finetune", "tiny-full"): MODELS,
    ("finetune", "tiny-lora"): MODELS | ADAPTER,
    ("finetune", "tiny-qlora"): MODELS | ADAPTER,
    ("predictions", "tiny-llama > generate"): MODELS | {"pandas"},
    ("predictions", "tiny-lora"): MODELS | {"pandas"},  # merged: plain weights
    ("predictions", "tiny-qlora"): MODELS | ADAPTER | {"pandas"},
    ("perplexity", "tiny-llama > tiny-ppl"): MODELS | {"pandas"},
    ("perplexity", "tiny-qlora"): MODELS | ADAPTER | {"pandas"},
    ("efficiency", "tiny-llama > efficiency"): MODELS | {"bitsandbytes"},  # sizes in NF4 and int8
    ("efficiency", "tiny-qlora"): MODELS | ADAPTER,
    ("controls", ""): MODELS | {"bert_score", "pandas"},
    ("scores", "tiny-llama > score"): MODELS | {"bert_score", "pandas"},
}


@pytest.fixture(scope="module")
def jobs(finished):
    found = [json.loads(p.read_text()) for p in (finished.folder / "imports").glob("*.json")]
    assert len(found) > len(CALLED)
    return found


@pytest.mark.parametrize("kind", CALLED, ids=" ".join)
def test_a_job_imports_what_it_calls(jobs, kind):
    stage, part = kind
    of_kind = [
        set(job["modules"])
        for job in jobs
        if job["node"] and job["node"]["stage"] == stage and part in job["node"]["label"]
    ]
    assert of_kind
    for modules in of_kind:
        assert LARGE & modules == CALLED[kind]


def test_a_table_is_made_without_models(jobs):
    (modules,) = [set(job["modules"]) for job in jobs if job["node"] is None]
    assert LARGE & modules == {"pandas"}


def test_only_large_libraries_make_a_start_large(jobs):
    """Some 3,000 modules are torch's and transformers' own; a step adds few to them."""
    for job in jobs:
        large = LARGE & set(job["modules"])
        if large == MODELS:
            ours = [name for name in job["modules"] if name.partition(".")[0] == "prunegrid"]
            assert len(job["modules"]) < 3300 and len(ours) < 90
        elif "torch" not in large:
            assert len(job["modules"]) < 1800

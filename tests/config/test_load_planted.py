"""Mistakes planted in the shipped config: each is told once, at its place, and no other is made up.

Alone, and two at a time: in one profile, in a profile and a study that uses it, and far apart.
"""

import copy
import itertools

import pytest

from tests.helpers import shipped

# Where, what is written there, and a word that the error says; a mistake a line.
PLANTED = [
    (("studdies",), {}, "did you mean 'studies'"),
    (("device",), "cuda:1", "CUDA_VISIBLE_DEVICES=1"),
    (("compute_dtype",), "float16", "float32"),
    (("models", "smollm2-135m", "source"), "meta/no-such", "hf:meta/no-such"),
    (("models", "gpt2-xl", "tsk"), "encoder", "did you mean 'task'"),
    (("models", "opt-350m", "task"), "causal", "causal-lm"),
    (("datasets", "aclsum", "source"), "papers.jsonl", "no file or folder"),
    (("datasets", "c4", "source"), "hf:", "hf:org/name"),
    (("datasets", "billsum", "prompt"), "Summary:", "{document}"),
    (("datasets", "wikipedia", "splits", "evaluation"), "all[60%", "slice"),
    (("calibration", "c4-128x2048", "dataset"), "c5", "did you mean 'c4'"),
    (("calibration", "wiki-16x256", "split"), "callibration", "did you mean 'calibration'"),
    (("calibration", "wiki-16x256", "column"), "document", "write text"),
    (("prune", "wanda-50", "sparsity"), 50, "did you mean 0.5?"),
    (("prune", "wanda-50", "scop"), "row", "did you mean 'scope'"),
    (("prune", "wiki-wanda-50", "method"), "wands", "did you mean 'wanda'"),
    (("prune", "wiki-sparsegpt-2of4", "blocksize"), "128", "128"),
    (("prune", "wiki-sparsegpt-2of4", "pattern"), "4:2", "0 < N < M"),
    (("prune", "magnitude-2of4", "calibration"), "wiki-16x256", "not used by magnitude"),
    (("finetune", "demo-full", "epochs"), 0, "greater than or equal to 1"),
    (("finetune", "demo-full", "rank"), 4, "does not use ['rank']"),
    (("finetune", "demo-qlora", "learning_rte"), 1e-3, "did you mean 'learning_rate'"),
    (("finetune", "full", "strategy"), "fully", "did you mean 'full'"),
    (("generation", "greedy-96", "max_new_tokens"), "96", "96, without quotes"),
    (("generation", "greedy-96", "top_p"), 0.9, "do_sample"),
    (("metrics", "rouge", "module"), "rogue", "did you mean 'rouge'"),
    (("metrics", "bertscore_minilm", "layr"), 3, "did you mean 'layer'"),
    (("tasks", "piqa", "shots"), 3, "shots_from"),
    (("tasks", "mmlu", "split"), "tset", "did you mean 'test'"),
    (("evaluations", "papers", "splits"), ["tset"], "did you mean 'test'"),
    (("evaluations", "papers", "metrics"), ["rouge", "lenght"], "did you mean 'length'"),
    (("evaluations", "wikipedia-128", "kind"), "perplex", "did you mean 'perplexity'"),
    (("evaluations", "wikipedia-512", "window"), 1, "greater than or equal to 2"),
    (("efficiency", "quick", "warmpu"), 1, "did you mean 'warmup'"),
    (("studies", "demo", "efficency"), "quick", "did you mean 'efficiency'"),
    (("studies", "demo", "grid", 0, "model"), "org/own", "hf:org/own"),
    (("studies", "demo", "contrasts", 1, "metric"), "rouge9", "not measured"),
    (("studies", "table3", "dataset"), "bilsum", "did you mean 'billsum'"),
    (("studies", "recovery", "evaluations"), ["paper"], "did you mean 'papers'"),
    (("claims", "wanda-over-magnitude", "kind"), "bettr", "did you mean 'better'"),
]
RAW = shipped.config()


def planted(*mistakes):
    """Return the faults of the shipped config with these mistakes in it."""
    raw = copy.deepcopy(RAW)
    for path, value, _ in mistakes:
        inner = raw
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
    return shipped.faults(raw)


@pytest.fixture(scope="module")
def alone():
    return {mistake[0]: planted(mistake) for mistake in PLANTED}


def test_each_mistake_is_told_once_at_its_place(alone):
    for path, _, word in PLANTED:
        assert len(alone[path]) == 1, (path, alone[path])
        (fault,) = alone[path]
        assert word in fault, (path, fault)
        # The users of a split that is not there are named, where no profile shows it.
        assert all(str(key) in fault for key in path[:2]), fault


def pairs():
    """Return pairs of mistakes: neighbours of the list, and some far apart."""
    near = zip(PLANTED, PLANTED[1:], strict=False)
    far = [(PLANTED[n], PLANTED[(n * 7 + 11) % len(PLANTED)]) for n in range(len(PLANTED))]
    return [pair for pair in itertools.chain(near, far) if pair[0] is not pair[1]]


def title(pair):
    return " + ".join(".".join(map(str, path)) for path, *_ in pair)


@pytest.mark.parametrize("pair", pairs(), ids=title)
def test_two_mistakes_are_both_told_and_nothing_else(alone, pair):
    found = planted(*pair)
    assert sorted(found) == sorted(alone[pair[0][0]] + alone[pair[1][0]])

"""The stage `tasks` refuses what does not fit, code from elsewhere, and weights that are others."""

import pytest

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models import open_checkpoint
from tests.helpers import benchmark_rows
from tests.helpers.asked_tasks import ask, ask_all
from tests.helpers.asked_tasks import weights as weights  # a fixture

pytestmark = pytest.mark.model

LOOSE = {
    "output_type": "multiple_choice",
    "doc_to_text": "question",
    "doc_to_choice": "{{[sol1, sol2]}}",
    "doc_to_target": "label",
}


def test_other_weights_than_the_recorded_ones_are_never_asked(tmp_path, weights):
    other = benchmark_rows.model(tmp_path / "other", seed=2)
    (other / "manifest.json").write_text((weights / "manifest.json").read_text())
    data = benchmark_rows.artifact(tmp_path / "data", validation=benchmark_rows.piqa(3))
    with pytest.raises(AttestationError, match="sha256"):
        ask(tmp_path, other, "piqa", data)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("task", "changes", "text"),
    [
        ("piqas", {}, "did you mean 'piqa'"),
        ("piqa", {"metrics": ["accuracy"]}, "has no metric 'accuracy'.*did you mean 'acc'"),
        ("mmlu", {}, "stands for 57 tasks.*`by`"),
        ("mmlu", {"by": "subject"}, "there is no column 'subject'"),
        ("openbookqa", {}, "cannot make 'openbookqa' of these rows.*'choices' is undefined"),
        ("sst2", {}, "cannot make 'sst2' of these rows.*'sentence' is undefined"),
        ("mine", {"define": LOOSE}, "there is no column 'question', which is doc_to_text"),
    ],
)
def test_what_does_not_fit_is_told_before_weights_are_read(
    tmp_path, weights, monkeypatch, task, changes, text
):
    monkeypatch.setattr(open_checkpoint, "load", lambda *_, **__: pytest.fail("weights were read"))
    data = benchmark_rows.artifact(tmp_path / "data", validation=benchmark_rows.piqa(3))
    with pytest.raises(PrunegridError, match=text):
        ask(tmp_path, weights, task, data, **changes)


def test_a_template_runs_no_code(tmp_path, weights):
    target = tmp_path / "it-ran"
    define = {
        **{**LOOSE, "doc_to_choice": ["no", "yes"]},
        "doc_to_text": "{{ cycler.__init__.__globals__.os.system('touch " + str(target) + "') }}",
    }
    data = benchmark_rows.artifact(tmp_path / "data", validation=benchmark_rows.piqa(3))
    with pytest.raises(PrunegridError, match="SecurityError.*'__init__'.*unsafe"):
        ask(tmp_path, weights, "mine", data, define=define)
    assert not target.exists()


@pytest.mark.parametrize("more", [{}, {"hf_evaluate": True}])
def test_a_metric_from_elsewhere_is_not_run(tmp_path, weights, more):
    target, script = tmp_path / "it-ran", tmp_path / "mine" / "mine.py"
    script.parent.mkdir()
    script.write_text(f"open({str(target)!r}, 'w')\nimport evaluate\n")
    metric = {"metric": str(script.parent), "aggregation": "mean", "higher_is_better": True}
    define = {
        **{**LOOSE, "doc_to_text": "goal", "doc_to_choice": ["no", "yes"]},
        "metric_list": [metric | more],
    }
    data = benchmark_rows.artifact(tmp_path / "data", validation=benchmark_rows.piqa(3))
    with pytest.raises(PrunegridError, match="is code from elsewhere"):
        ask(tmp_path, weights, "mine", data, define=define)
    assert not target.exists()


@pytest.mark.parametrize(
    ("task", "text"), [("piqas", "did you mean 'piqa'"), ("mmlu", "stands for 57 tasks.*`by`")]
)
def test_no_weights_are_read_where_the_last_benchmark_has_no_definition(
    tmp_path, weights, monkeypatch, task, text
):
    data = benchmark_rows.artifact(tmp_path / "data", validation=benchmark_rows.piqa(3))
    monkeypatch.setattr(open_checkpoint, "load", lambda *_, **__: pytest.fail("weights were read"))
    with pytest.raises(PrunegridError, match=text):
        ask_all(tmp_path, weights, ("piqa", data, {}), (task, data, {}))
    assert not list((tmp_path / "out").iterdir())

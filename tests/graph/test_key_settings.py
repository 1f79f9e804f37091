"""Scores and controls depend on what their metrics and controls read, and on nothing else."""

from pathlib import Path

from prunegrid.common import packed_kernels
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.tables.table_plan import study_plan
from tests.helpers import ROOT, shipped


def graph_of_texts(*changes):
    """Return the graph of a study of one cell, evaluated by texts, its config changed."""
    raw = shipped.config()
    grid = {"model": "smollm2-135m"}
    raw["studies"] = {"s": {"dataset": "aclsum", "evaluations": ["papers"], "grid": grid}}
    for change in changes:
        change(raw)
    return Graph(validate(raw, shipped.FILES, ROOT), ROOT)


def scores_nodes(*changes):
    """Return {"cell": its scores, "controls": of the same evaluation}."""
    graph = graph_of_texts(*changes)
    (controls,) = {part.node for part in graph.controls("s").values()}
    return {"cell": graph.plans("s")[0].texts["test"][1], "controls": controls}


def without_controls(*names):
    """Return a change of the config that takes controls out."""

    def change(raw):
        for name in names:
            del raw["evaluations"]["papers"]["baselines"][name]

    return change


def test_scores_depend_on_the_data_and_the_prompt_only_where_a_metric_reads_them():
    def metrics(*names):
        return lambda raw: raw["evaluations"]["papers"].update(metrics=list(names))

    def prompted(raw):
        raw["datasets"]["aclsum"]["prompt"] = "{document}\nTL;DR"

    always = {"metrics", "documents", "controls", "seed"}
    for metric, read in (("length", set()), ("copying", {"split"}), ("echo", {"template"})):
        found = scores_nodes(metrics(metric))
        assert found["cell"].settings.keys() == {"metrics", *read}
        assert found["controls"].settings.keys() == {*always, *read}
        data = {"data"} if "split" in read else set()
        assert set(found["cell"].parents) == {"predictions", *data}
        assert set(found["controls"].parents) == {"data"}
    unread = without_controls("prompt-echo")
    for changes, reruns in (
        ([metrics("copying")], {"cell", "controls"}),
        ([metrics("copying"), unread], {"cell"}),
        ([metrics("echo"), unread], {"cell", "controls"}),
    ):
        before, after = scores_nodes(*changes), scores_nodes(*changes, prompted)
        assert {label for label in before if before[label].key != after[label].key} == reruns


def test_scores_are_pinned_to_what_their_metrics_call(tmp_path):
    """Packages follow the metrics, whatever was predicted; a model's are those that run it."""
    own, theirs = tmp_path / "own.py", tmp_path / "theirs.py"
    declared = "COLUMNS = {}\nPACKAGES = ('sacrebleu', 'of-theirs')\n"
    own.write_text(f"{declared}def compute(predictions, references):\n    return {{}}\n")
    theirs.write_text(declared)  # without `compute` it is a module of `evaluate`

    def metrics(*names):
        def change(raw):
            raw["metrics"]["own"] = {"module": str(own)}
            raw["metrics"]["theirs"] = {"module": str(theirs)}
            raw["metrics"]["hub"] = {"module": "hf:exact_match"}
            raw["evaluations"]["papers"].update(metrics=list(names))

        cell, controls = (node.pins.keys() for node in scores_nodes(change).values())
        assert cell == controls
        return cell

    always = {"pandas", "pyarrow"}
    torch = {"torch", "transformers", "tokenizers", "safetensors", "numpy"}
    assert metrics("length") == always
    assert metrics("rouge", "length") == always | {"rouge-score", "nltk"}
    assert metrics("bleu") == metrics("chrf") == metrics("own") == always | {"sacrebleu"}
    assert metrics("theirs") == always | {"sacrebleu", "evaluate"}
    assert metrics("hub", "length") == always | {"evaluate"}
    bert = always | torch | {"bert-score"}
    assert metrics("bertscore_minilm") == bert
    assert metrics("bertscore_minilm", "bleu", "rouge") == bert | {
        "sacrebleu",
        "rouge-score",
        "nltk",
    }


def test_a_seed_reaches_controls_where_one_draws():
    def reruns(*changes):
        before = scores_nodes(*changes)
        after = scores_nodes(*changes, lambda raw: raw.update(seed=7))
        return {label for label in before if before[label].key != after[label].key}

    assert reruns() == reruns(without_controls("other-reference")) == {"controls"}
    assert reruns(without_controls("other-reference", "shuffled-reference")) == set()


def test_controls_of_a_data_set_and_split_are_one_node_that_knows_no_names():
    def rename(raw):
        controls = raw["evaluations"]["papers"]["baselines"]
        raw["evaluations"]["papers"]["baselines"] = {f"my-{n}": c for n, c in controls.items()}
        raw["evaluations"]["mine"] = raw["evaluations"].pop("papers")
        raw["studies"]["s"]["evaluations"] = ["mine"]

    graph, renamed = graph_of_texts(), graph_of_texts(rename)
    (node,) = {part.node for part in graph.controls("s").values()}
    assert {part.node.key for part in renamed.controls("s").values()} == {node.key}
    parts = {name: part.ref["folder"] for (_, name, _), part in graph.controls("s").items()}
    assert parts["lead-60"] == "0-lead" and parts["shuffled-reference"] == "6-shuffled_reference"
    assert [name for _, name, _ in renamed.controls("s")] == [f"my-{name}" for name in parts]
    plans = [study_plan(graph, "s", ROOT) for graph in (graph, renamed)]
    assert plans[0]["key"] != plans[1]["key"]  # the table shows the names
    assert [entry["role"] for entry in plans[0]["baselines"]] == [
        "baseline", "oracle", "oracle", *["gaming"] * 4,
    ]  # fmt: skip


def test_controls_count_the_code_of_each_and_how_a_metric_by_a_model_is_run():
    node = scores_nodes()["controls"]
    assert set(node.parents) == {"data", "bertscore_minilm.model"}
    assert {"prunegrid.evaluation.baselines.lead", "prunegrid.stages.controls:run"} <= {*node.roots}
    assert {Path(root).stem for root in node.roots} >= {"rouge", "bertscore", "labels"}

    def metrics(raw):
        raw["evaluations"]["papers"].update(metrics=["rouge"])

    def threads(raw):
        raw.update(threads=3)

    assert scores_nodes(threads)["controls"].key != node.key
    plain = scores_nodes(metrics)["controls"]
    assert scores_nodes(metrics, threads)["controls"].key == plain.key
    assert (node.compute_dtype, plain.compute_dtype) == ("float32", None)
    fewer = scores_nodes(metrics, without_controls("lead-60"))["controls"]
    assert fewer.code != plain.code


def local_keys(tmp_path, source):
    """Return {label: key} of a study over data and a model that are files of this machine."""
    raw = shipped.config()
    files = {"train": "train.jsonl", "test": "test.jsonl"}
    raw["datasets"]["mine"] = {
        "source": source, "files": files, "columns": {"document": "b", "summary": "g"},
        "splits": {"train": "train", "test": "test"},
    }  # fmt: skip
    raw["models"]["mine"] = {"source": "model"}
    grid = {"model": "mine", "prune": "magnitude-2of4", "finetune": ["none", "demo-full"]}
    raw["studies"] = {"s": {"dataset": "mine", "evaluations": ["papers"], "grid": grid}}
    raw["evaluations"]["papers"]["metrics"] = ["length"]
    graph = Graph(validate(raw, shipped.FILES, tmp_path), ROOT)
    return {node.label: node.key for node in graph.all_nodes()}


def test_keys_cover_the_files_that_are_read_and_no_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train.jsonl", "test.jsonl", "model/config.json", "model/model.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    before = local_keys(tmp_path, ".")
    for name in ("README.md", "results/artifacts/x/y", "model/NOTES.txt", "model/original/a.pth"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("anything")
    assert local_keys(tmp_path, ".") == before
    (tmp_path / "train.jsonl").write_text("other rows")
    after = local_keys(tmp_path, ".")
    assert after["data mine"] != before["data mine"]
    assert after["model mine"] == before["model mine"]
    (tmp_path / "model/model.safetensors").write_text("other weights")
    assert local_keys(tmp_path, ".")["model mine"] != before["model mine"]


def test_the_kernel_and_the_values_of_packed_weights_reach_their_timing_alone(monkeypatch):
    def keys(kernel="plain", **form):
        monkeypatch.setenv(packed_kernels.VARIABLE, kernel)

        def change(raw):
            raw["efficiency"]["quick"].update(form)
            raw["studies"]["s"]["efficiency"] = "quick"

        (plan,) = graph_of_texts(change).plans("s")
        others = [node.key for node in plan.nodes() if node is not plan.efficiency]
        return plan.efficiency.key, others

    dense = keys()
    packed = keys(form="packed")
    assert keys("avx2") == dense
    timings = {dense[0], packed[0], keys("avx2", form="packed")[0]}
    assert len(timings | {keys(form="packed", values="int8")[0]}) == 4
    assert packed[1] == dense[1]

"""Encoders and encoder-decoders through the whole workflow, to their cliffs."""

import json

import pandas
import pytest
import yaml

from tests.helpers import benchmark_rows
from tests.helpers.runs import Run

OVERLAY = """
datasets:
  tiny-classes: {source: classes.jsonl, kind: rows, columns: {text: sentence}, splits: {train: "all[:60%]", test: "all[60%:]"}}
  tiny-pairs: {source: "numbers:", columns: {document: en, summary: fr}, splits: {train: "all[:40]", test: "all[40:52]"}, prompt: "fr: {document}"}
models:
  tiny-m2m100:
    source: "random:"
    config: {model_type: m2m_100, d_model: 32, encoder_layers: 1, decoder_layers: 1, encoder_ffn_dim: 64, decoder_ffn_dim: 64, encoder_attention_heads: 4, decoder_attention_heads: 4, max_position_embeddings: 96, encoder_layerdrop: 0.0, decoder_layerdrop: 0.0}
    task: seq2seq-lm
finetune:
  tiny-seq2seq: {strategy: seq2seq, max_steps: 4, learning_rate: 1.0e-2}
evaluations:
  tiny-head: {kind: classification, dataset: tiny-classes, train_split: train, split: test, items: [{text: "{{sentence}}", label: "{{label}}"}], epochs: 4, learning_rate: 1.0e-2, batch_size: 8, max_tokens: 32}
  tiny-fr: {kind: translation, dataset: tiny-pairs, split: test, generation: tiny, metrics: [bleu_char, chrf]}
efficiency:
  tiny-passes: {passes: true, warmup: 1, repetitions: 2, prompt_tokens: 8, new_tokens: 4, sizes: true}
studies:
  cliffs:
    dataset: tiny-pairs
    grid:
      - {model: tiny-bert, dataset: tiny-classes, prune: &levels [dense, {method: [magnitude], scope: layer, sparsity: [0.9]}]}
      - {model: tiny-m2m100, steps: [[{finetune: tiny-seq2seq}, {prune: *levels}]]}
    evaluations: [tiny-head, tiny-fr]
    efficiency: tiny-passes
    cliffs:
      - {split: tiny-head, metric: acc, margin: 0.2}
      - {split: tiny-fr, metric: chrf, margin: 90.0}
"""  # noqa: E501


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = Run.fresh(tmp_path_factory.mktemp("cliffs") / "run")
    text = "".join(json.dumps(row) + "\n" for row in benchmark_rows.cola(50))
    (run.folder / "classes.jsonl").write_text(text)

    def lay_over(tree):
        for section, profiles in yaml.safe_load(OVERLAY).items():
            tree[section].update(profiles)

    run.configure(lay_over)
    run.make_artifacts("cliffs")
    done = run.snakemake("results/cliffs.parquet")
    assert done.returncode == 0, done.stdout[-6000:]
    return run


def table(run, name):
    return pandas.read_parquet(run.folder / f"results/cliffs.{name}parquet")


def test_each_architecture_has_its_own_scores_and_all_have_sizes(run):
    wide = table(run, "")
    assert set(wide["status"]) == {"ok"} and len(wide) == 4
    bert, m2m = (wide[wide["model"] == f"tiny-{n}"] for n in ("bert", "m2m100"))
    assert bert["tiny-head_acc"].notna().all() and bert["tiny-head_mcc"].notna().all()
    assert m2m["tiny-head_acc"].isna().all() and bert["tiny-fr_chrf"].isna().all()
    for metric in ("bleu_char", "chrf", "chrf_corpus"):
        assert m2m[f"tiny-fr_{metric}"].between(0, 100).all()
    assert bert["heads_sha256"].nunique() == 2 and m2m["heads_sha256"].isna().all()
    assert wide["weights_sha256"].nunique() == 4
    assert m2m["finetune"].tolist() == ["tiny-seq2seq"] * 2 and m2m["generation"].notna().all()
    pruned = wide["sparsity_target"].notna()
    assert wide[pruned]["sparsity_prunable"].between(0.899, 0.901).all()
    for form in ("dense_float32", "packed", "gzip"):
        assert wide[f"bytes_{form}"].notna().all()
    assert wide["prefill_tokens_per_second"].gt(0).all()
    assert wide["decode_tokens_per_second"].isna().all()


def test_the_cliffs_are_told_in_table_page_and_figure(run):
    found = table(run, "cliffs.")
    assert found.groupby(["model", "split"]).size().tolist() == [2, 2]
    assert found["reason"].isna().all() and found["sparsity"].notna().all()
    fr = found[found["split"] == "tiny-fr"]
    # Nothing is worse by 90 points of chrF here: the margin is what decides.
    assert fr["held"].all() and fr.loc[fr["cliff"], "prune"].tolist() == ["magnitude-0.9"]
    text = (run.folder / "results/cliffs.md").read_text()
    assert "Cliffs (the highest sparsity" in text and "gzip MB" in text
    drawing = (run.folder / "results/cliffs.svg").read_text()
    assert "chrF, tiny-fr" in drawing and "cliff at 90%" in drawing
    page = (run.folder / "results/cliffs.examples.md").read_text()
    assert "its artifact is gone" not in page and "tiny-m2m100" in page


def test_the_table_verifies_and_is_made_once(run):
    done = run.prunegrid("verify", "results/cliffs.parquet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run.plan("results/cliffs.parquet") == {}

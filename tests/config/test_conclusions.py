"""Published conclusions in the config: faults are told, and the example of the docs works."""

import re

import pytest
import yaml

from prunegrid.commands import cli
from prunegrid.common.source_code import LIBRARY
from prunegrid.config.load import validate
from prunegrid.tables.claims import comparisons, page
from tests.helpers import shipped
from tests.helpers.claim_world import World, bear

ROOT = LIBRARY.parent.parent
CONFIG = shipped.config()
MINE = """
claims:
  mine:
    kind: better
    says: A keeps more than B.
    source: notes
    scope: {model: opt-125m, split: wikitext, metric: ppl_*}
    a: {method: wanda, pattern: "2:4"}
    b: {method: ria}
    match: [finetune]
"""
MEASURED = "metric: ppl_*}"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("model: opt-125m", "model: opt-126m", "scope.model is 'opt-126m', which names no model"),
        ("{model", "{study: table4, model", "scope.study is 'table4', which names no study"),
        ("{model", "{dataset: [billsum, x], model", "scope.dataset is 'x', which names no dataset"),
        ("split: wikitext", "split: wikitexts", "scope.split is 'wikitexts', which names no split"),
        ("ppl_*", "rouge3", "scope.metric is 'rouge3', which names no metric; did you mean"),
        ("split:", "splits:", "scope.splits is not a key here; did you mean 'split'?"),
        ("match:", "margins: 1.0\n    match:", "mine.margins is not a key here"),
        ("match:", "with_more: rep5\n    match:", "mine.with_more is 'rep5', which names no"),
        ("kind: better", "kind: best", "kind is 'best'; did you mean 'better'?"),
        ("says:", "sais:", "mine.says is missing"),
        ("{method: ria}", "{methods: ria}", "mine.b.methods names 'methods', which is no column"),
        ("[finetune]", "[fine]", "mine.match.0 names 'fine', which is no column of the table"),
        ("{method: ria}", "{method: {a: b}}", "expected a value, or a list of values"),
        ("kind: better", "kind: chance\n    margin: 1.0", "mine.margin is not a key here"),
        ("kind: better", "kind: measure\n    tolerance: 0.1", "give `at_most` or `at_least`"),
        (MEASURED, "metric: strategy}", "mine.scope.metric is 'strategy', which is no number"),
        (MEASURED, "metric: file_byte}", "names 'file_byte', which is no column of the table"),
        (MEASURED, "metric: [file_bytes, parameters]}", "name one column of the table"),
    ],
)
def test_what_a_claim_names_wrongly_is_told_with_its_file_and_key(
    tmp_path, monkeypatch, capsys, old, new, words
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.yaml"
    assert old in MINE
    measured = "kind: measure\n    at_most: 1.0\n    tolerance: 0.1"
    text = MINE.replace("kind: better", measured) if old == MEASURED else MINE
    file.write_text(text.replace(old, new))
    assert cli.main(["claims", "-c", "mine.yaml"]) == 1
    told = capsys.readouterr().err
    assert words in told and "mine.yaml: claims.mine" in told
    assert "1 error(s)" in told or "sais" in told
    assert not (tmp_path / "results").exists()


def test_a_metric_that_does_not_declare_its_columns_is_known_by_how_they_begin(tmp_path):
    tree = shipped.config()
    tree["metrics"]["mine"] = {"module": "hf:org/mine", "revision": "abc"}
    tree["claims"] = yaml.safe_load(MINE)["claims"]
    for metric in ("mine", "mine_f1"):
        tree["claims"]["mine"]["scope"]["metric"] = metric
        assert validate(tree, shipped.FILES, tmp_path).sections["claims"]["mine"]


def test_the_example_of_the_docs_works_as_it_stands(tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs/reference/claims.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1]
    (tmp_path / "mine.yaml").write_text(example)
    monkeypatch.chdir(tmp_path)
    tree = CONFIG | yaml.safe_load(example)
    ((name, claim),) = validate(tree, shipped.FILES, ROOT).sections["claims"].items()
    (tmp_path / "results").mkdir()
    tables = bear(World("demo"), claim, "for").tables()
    for kind, frame in (("", tables.wide), (".long", tables.long), (".pairs", tables.pairs)):
        frame.drop(columns="cell", errors="ignore").to_parquet(f"results/demo{kind}.parquet")
    assert cli.main(["claims", "-c", "mine.yaml"]) == 0
    assert f"holds        {name}: {claim.says}" in capsys.readouterr().out
    page_text = (tmp_path / "results/claims.md").read_text(encoding="utf-8")
    assert f"**holds.** {claim.says} Drawn by {claim.source}." in page_text
    assert all(f"| `{kind}` |" in text for kind in comparisons.KINDS)
    assert all(f"`{column}`" in text for column in page.COLUMNS)

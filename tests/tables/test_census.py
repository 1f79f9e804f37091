"""The table of a census: rows that add up, both ways to show zeros, failed cells, equal files."""

import json
import math

import pandas
import pytest

from prunegrid.artifacts import artifact_folder, dropped
from prunegrid.commands import verify
from prunegrid.common import file_io
from prunegrid.tables import census, census_figures

EDGES = [0.001, 0.1, 10.0]
# (name, kind, stack, block, blocks, counts)
TENSORS = [
    ("embed", "embedding", None, None, None, [1, 2, 3, 4, 0]),
    ("enc.0.q", "attention", "enc", 0, 2, [5, 0, 1, 10, 0]),
    ("enc.0.b", "bias", "enc", 0, 2, [2, 0, 0, 0, 0]),
    ("enc.1.q", "attention", "enc", 1, 2, [0, 0, 0, 15, 1]),
    ("dec.0.m", "mlp", "dec", 0, 1, [0, 7, 0, 1, 0]),
    ("norm", "norm", None, None, None, [0, 0, 0, 3, 0]),
]
PLAN = {"study": "c", "kind": "census", "title": "A title", "key": "k", "edges": EDGES}
PLAN |= {"zeros": "apart", "embeddings": True}
CELL = {"model": "m", "prune": "dense", "finetune": "none", "dataset": None, "seed": None}


def tensors():
    names = ["name", "kind", "stack", "block", "blocks"]
    rows = [dict(zip(names, entry[:5], strict=True)) for entry in TENSORS]
    for row, entry in zip(rows, TENSORS, strict=True):
        row |= {"parameters": sum(entry[5])} | {f"bin_{i}": n for i, n in enumerate(entry[5])}
    return pandas.DataFrame(rows).astype({"block": "Int64", "blocks": "Int64"})


def rows(**changes):
    facts = {"sha256": "a" * 64, "precision": "float32"}
    found = census.group_rows(PLAN | changes, CELL, "folder", facts, tensors())
    return pandas.DataFrame(found)


def counts(frame, **group):
    for name, value in group.items():
        frame = frame[frame[name].isna() if value is None else frame[name] == value]
    return frame["count"].tolist()


def test_every_group_adds_up_to_its_parameters():
    frame = rows()
    for _, group in frame.groupby(["group", "stack", "block", "kind"], dropna=False):
        assert group["count"].sum() == group["parameters"].iloc[0]
        assert group["share"].sum() == pytest.approx(1)
    total = sum(sum(entry[5]) for entry in TENSORS)
    sums = frame.groupby("group")["count"].sum()
    assert sums["all"] == sums["block"] == sums["kind"] == total
    assert sums["without embeddings"] == total - 10


def test_groups_hold_what_they_say():
    frame = rows()
    assert counts(frame, group="all") == [8, 9, 4, 33, 1]
    assert counts(frame, group="without embeddings") == [7, 7, 1, 29, 1]
    assert counts(frame, group="block", stack="enc", block=0) == [7, 0, 1, 10, 0]
    assert counts(frame, group="block", stack=None) == [1, 2, 3, 7, 0]
    assert counts(frame, group="kind", kind="attention") == [5, 0, 1, 25, 1]
    depths = frame[frame["group"] == "block"].drop_duplicates(["stack", "block"])
    found = {(s, b): d for s, b, d in depths[["stack", "block", "depth"]].to_numpy()}
    assert (found["enc", 0], found["enc", 1], found["dec", 0]) == (0.25, 0.75, 0.5)


def test_bins_say_where_they_begin_and_end():
    found = rows().query("group == 'all'")
    assert found["bin"].tolist() == [
        *("0", "(0, 0.001)", "[0.001, 0.1)", "[0.1, 10)", "[10, inf)"),
    ]
    assert found["low"].tolist() == [0, 0, *EDGES]
    assert found["high"].tolist()[:-1] == [0, *EDGES] and math.isnan(found["high"].iloc[-1])


def test_the_original_counts_zeros_in_the_first_bin_and_no_embeddings():
    frame = rows(zeros="within", embeddings=False)
    assert set(frame["group"]) == {"without embeddings", "block", "kind"}
    assert counts(frame, group="without embeddings") == [14, 1, 29, 1]
    assert frame["bin"].iloc[0] == "[0, 0.001)"
    assert counts(frame, group="block", stack=None) == [0, 0, 3, 0]
    assert "embedding" not in set(frame["kind"].dropna())


def test_the_table_for_a_paper_has_a_row_for_each_cell_and_kind_of_weights(plan, tmp_path):
    census.tabulate_census(plan, tmp_path / "results")
    text = (tmp_path / "results/c.tex").read_text()
    assert r"\begin{tabular}{llrrrrrr}" in text and r"\toprule" in text
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip().splitlines()
    assert all(line.endswith(r" \\") and line.count(" & ") == 7 for line in body)
    assert [line.split(" & ")[1] for line in body][:2] == ["all", "without embeddings"]
    assert "1 cells were not counted" in text


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A plan of two cells, one of which was counted and one of which failed."""
    monkeypatch.chdir(tmp_path)
    cells = []
    for name in ("a", "b"):
        ref = {"path": f"census/{name}", "key": name, "stage": "census", "label": f"{name} census"}
        ref["status"] = f"status/{name}.json"
        weights = {"path": f"model/{name}", "key": f"w{name}", "stage": "model", "label": name}
        chain = [weights | {"status": f"status/w{name}.json"}]
        columns = CELL | {"model": name}
        cells.append({"columns": columns, "chain": chain, "ancestors": [*chain, ref]})
        cells[-1]["census"] = ref
    with artifact_folder.writing(tmp_path / "census/a") as out:
        tensors().to_parquet(out / "tensors.parquet")
        files = artifact_folder.list_files(out)
        record = {"weights": {"sha256": "a" * 64, "precision": "float32"}}
        manifest = {"key": "a", "files": files, "content": artifact_folder.content_digest(files)}
        manifest |= {"record": record, "parents": {"weights": {"key": "wa"}}}
        file_io.write_json(out / artifact_folder.MANIFEST, manifest)
    file_io.write_json(tmp_path / "status/wb.json", {"state": "failed", "reason": "no such hub"})
    return PLAN | {"cells": cells, "pins": {}}


def test_a_failed_cell_is_a_row_and_withholds_nothing(plan, tmp_path):
    assert census.tabulate_census(plan, tmp_path / "results") is False
    frame = pandas.read_parquet(tmp_path / "results/c.parquet")
    assert list(frame.columns) == [column.name for column in census.COLUMNS]
    (failed,) = frame[frame["status"] == "failed"].to_dict("records")
    assert failed["model"] == "b" and "no such hub" in failed["reason"]
    done = frame[frame["status"] == "ok"]
    assert set(done["weights_sha256"]) == {"a" * 64} and done["count"].notna().all()
    text = (tmp_path / "results/c.md").read_text()
    assert "FAILED: b" in text and "A title" in text and "a" * 64 in text
    manifest = json.loads((tmp_path / "results/c.manifest.json").read_text())
    assert manifest["complete"] is False and list(manifest["leaves"]) == ["census/a/manifest.json"]
    csv = pandas.read_csv(tmp_path / "results/c.csv")
    assert len(csv) == len(frame) and list(csv) == list(frame.dropna(axis=1, how="all"))


@pytest.mark.parametrize("damage", ["{", "[]", '{"content": 5}', "[" * 100_000, None])
def test_a_broken_manifest_withholds_nothing(plan, tmp_path, damage):
    place = tmp_path / "census/b" / artifact_folder.MANIFEST
    place.parent.mkdir()
    if damage is None:
        place.mkdir()
    else:
        place.write_text(damage)
    assert census.tabulate_census(plan, tmp_path / "results") is False
    frame = pandas.read_parquet(tmp_path / "results/c.parquet")
    assert set(frame["model"]) == {"a", "b"} and "failed" in set(frame["status"])
    manifest = json.loads((tmp_path / "results/c.manifest.json").read_text())
    assert list(manifest["leaves"]) == ["census/a/manifest.json"]


def test_dropped_weights_are_no_fault_of_a_census(plan, tmp_path, caplog):
    census.tabulate_census(plan, tmp_path / "results")
    with artifact_folder.writing(tmp_path / "model/a") as out:
        (out / "model.safetensors").write_bytes(bytes(8))
        files = artifact_folder.list_files(out)
        body = {"key": "wa", "files": files, "content": artifact_folder.content_digest(files)}
        file_io.write_json(out / artifact_folder.MANIFEST, body)
    dropped.drop(tmp_path / "model/a")
    assert verify.census_differences(tmp_path / "results/c.parquet", plan) == []
    assert "were dropped, and are not counted again" in caplog.text
    (tmp_path / "model/a" / artifact_folder.DROPPED).write_text("{}")
    (fault,) = verify.census_differences(tmp_path / "results/c.parquet", plan)
    assert "prunegrid repair" in fault


def test_equal_tables_give_equal_files(plan, tmp_path):
    plan["cells"] = plan["cells"][:1]
    for place in ("one", "two"):
        assert census.tabulate_census(plan, tmp_path / place)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    assert {p.suffix for p in (tmp_path / "one").iterdir()} >= {".png", ".svg", ".csv", ".md"}


def test_an_artifact_of_other_weights_is_no_row(plan, tmp_path):
    plan["cells"][0]["chain"][0]["key"] = "other"
    (row,) = census.cell_rows(plan, plan["cells"][0])
    assert row["status"] == "failed" and "another artifact" in row["reason"]


def test_the_bars_are_the_shares():
    frame = rows().astype({column.name: column.dtype for column in census.COLUMNS[5:6]})
    figure = census_figures.draw_bars(frame, "t")
    assert [axis.get_yscale() for axis in figure.axes] == ["linear", "log"] * 2
    heights = [patch.get_height() for patch in figure.axes[0].patches]
    assert heights == pytest.approx([100 * n / 55 for n in (8, 9, 4, 33, 1)])
    assert "%" in figure.axes[0].get_ylabel() and figure.axes[0].get_xlabel() == "|w|"


def test_each_stack_is_a_panel_over_its_depth():
    figure = census_figures.draw_depth(rows(), "t")
    titles = [axis.get_title() for axis in figure.axes if axis.get_visible()]
    assert titles == ["m: enc", "m: dec"]  # as they run
    zeros, *_, top = figure.axes[0].lines
    assert zeros.get_xdata().tolist() == [0.25, 0.75]
    assert zeros.get_ydata()[0] == pytest.approx(100 * 7 / 18)
    assert math.isnan(zeros.get_ydata()[1])  # none there: a logarithm has no place for it
    assert top.get_ydata()[1] == pytest.approx(100 / 16)
    assert "depth" in figure.axes[1].get_xlabel()


def test_cells_are_told_apart_by_what_was_done_to_them():
    named = CELL | {"prune": "w50", "seed": 3}
    assert census_figures.cell_name(CELL) == "m"
    assert census_figures.cell_name(named) == "m / w50 / seed 3"

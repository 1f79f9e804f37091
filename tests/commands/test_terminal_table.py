"""`prunegrid show`: which columns a width holds, short intervals, marks, sorting, CSV."""

from __future__ import annotations

import io

import pandas
import pytest
from rich.console import Console

from prunegrid.commands import cli, show, terminal_table
from prunegrid.commands.study_sheet import of_frames
from prunegrid.commands.terminal_table import BEST, WORST, Field, Sheet
from prunegrid.common.errors import PrunegridError


def drawn(fields: list[Field], width: int, fit: bool = True) -> list[str]:
    """Return the lines of a table in a terminal of a width."""
    console = Console(file=io.StringIO(), width=width)
    show.print_table(fields, console, fit)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def columns(count: int) -> list[Field]:
    """Return a name and a number of columns of ten characters."""
    names = Field("prune", ["a", "b"], is_name=True)
    return [names, *(Field(f"column {n}xx", [1.0, 2.0]) for n in range(count))]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_a_table_is_as_wide_as_the_terminal_and_not_wider(width):
    lines = drawn(columns(30), width)
    assert max(map(len, lines)) <= width
    assert lines[0].split()[0] == "prune" or "prune" in lines[1]
    shown = len(terminal_table.fitted(columns(30), width))
    assert shown == len(terminal_table.fitted(columns(29), width)) < 31


def test_a_wider_terminal_shows_more_and_a_narrow_one_the_first_two():
    counts = [len(terminal_table.fitted(columns(9), width)) for width in (5, 40, 80, 400)]
    assert counts[0] == 3 and counts == sorted(counts) and counts[-1] == 10


def test_every_interval_has_one_form():
    even = terminal_table.scores([0.3456, None], [0.3256, None], [0.3656, None])
    assert even == ["0.346 (0.326–0.366)", ""]
    lopsided = terminal_table.scores([95.7, 1323.0], [92.0, 1009.0], [101.0, 1729.0])
    assert lopsided == [" 95.7 (92.0–101.0)", "1,323 (1,009–1,729)"]
    assert terminal_table.scores([7.0], [None], [None]) == ["7.0"]
    assert terminal_table.scores([0.1], [-0.2], [0.4]) == ["0.100 (-0.200 to 0.400)"]


def test_a_narrow_terminal_shows_the_two_scores_first():
    def score(name):
        texts = ["1.0 (0.5–1.5)"]
        return Field(name, [1.0], texts=texts, bounds=([0.5], [1.5]))

    whole = [Field("prune", ["a"], is_name=True), Field("zeros", ["0%"])]
    whole += [score("one"), score("two"), Field("a large number", [1]), Field("MB", [538])]
    names = [one.name for one in terminal_table.fitted(whole, 40)]
    assert names == ["prune", "one", "two", "MB"]  # what is wider than the room left is skipped
    remark = " ".join(drawn(whole, 40)[-4:])
    assert "no room for zeros, a large number" in remark and "--csv" in remark


def test_one_rouge_stands_for_all_of_its_kind():
    wide, tall = frames()
    tall = pandas.concat([tall.assign(metric=name) for name in ("rouge1", "rougeLsum", "rep4")])
    shown = [one.name for one in of_frames(wide, tall).chosen([])]
    assert "test rougeLsum" in shown and "test rep4" in shown and "test rouge1" not in shown
    shown = [
        one.name for one in of_frames(wide, tall, {"show": ["rouge1", "rougeLsum"]}).chosen([])
    ]
    assert "test rouge1" in shown and "test rougeLsum" in shown


def test_a_disturbed_timing_is_marked():
    wide, tall = frames()
    speeds = wide.assign(decode_tokens_per_second=[9.0, 8.0, 7.0])
    speeds["speed_disturbed"] = [None, "another process", None]
    lines = drawn(of_frames(speeds, tall).chosen([]), 120)
    assert sum("§" in line for line in lines) == 2 and "remeasure" in lines[-1]


@pytest.mark.parametrize(
    ("values", "higher", "expected"),
    [
        ([1.0, 3.0, 2.0], True, [WORST, BEST, ""]),
        ([1.0, 3.0, 2.0], False, [BEST, WORST, ""]),
        ([1.0, None, 2.0], True, [WORST, "", BEST]),
        ([1.0, 1.0, 2.0], True, ["", "", BEST]),
        ([1.0, 1.0], True, ["", ""]),
        ([1.0, 2.0], None, ["", ""]),
    ],
)
def test_best_and_worst_have_signs(values, higher, expected):
    assert terminal_table.marks(values, higher) == expected


def test_the_untouched_model_is_neither_best_nor_worst():
    wide, tall = frames()
    score = of_frames(wide, tall).find("test acc")
    assert score.marks == ["", WORST, BEST]


def test_signs_are_ascii_where_the_terminal_is():
    fields = [Field("x", [1.0, 2.0], texts=["1 §", "2–3"], marks=[BEST, WORST])]
    console = Console(file=io.StringIO(), width=80)
    console.print(terminal_table.table(fields, "ascii"))
    assert "+ 1 *" in console.file.getvalue() and "- 2-3" in console.file.getvalue()


def test_no_colours_in_a_pipe_and_a_width_of_its_own(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal_table.console().width == 100
    monkeypatch.setenv("COLUMNS", "64")
    found = terminal_table.console()
    found.print(terminal_table.table(of_frames(*frames()).fields[:4]))
    assert found.width == 64 and "\x1b" not in capsys.readouterr().out


def test_rows_are_sorted_both_ways_and_nulls_are_last():
    whole = Sheet(
        [
            Field("name", ["a", "b", "c"], is_name=True),
            Field("x", [2, None, 1], bounds=([1, None, 0], [3, None, 2]), marks=[BEST, "", WORST]),
        ]
    )
    whole.sort("x")
    assert whole.fields[0].texts == ["c", "a", "b"]
    assert whole.fields[1].bounds == ([0, 1, None], [2, 3, None])
    assert whole.fields[1].marks == [WORST, BEST, ""]
    whole.sort("x:desc")
    assert whole.fields[0].values == ["a", "c", "b"]


def frames() -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Return a table of three cells, and its scores."""
    same = {"model": "m", "dataset": "d", "status": "ok", "weight_precision": "float32"}
    cells = [("dense", "none", 0.0, 0.9), ("w", "none", 0.5, 1 / 3), ("w", "full", 0.5, 0.5)]
    wide, tall = [], []
    for prune, finetune, zeros, score in cells:
        key = {"prune": prune, "finetune": finetune, "seed": None}
        wide.append(same | key | {"sparsity_effective": zeros, "file_bytes": 538_000_000})
        about = {"kind": "cell", "split": "test", "metric": "acc", "higher_is_better": True}
        bounds = {"value": score, "low": score - 0.1, "high": score + 0.1}
        tall.append(same | key | about | bounds)
    return pandas.DataFrame(wide), pandas.DataFrame(tall)


def test_columns_are_those_of_the_table_or_a_split_and_metric():
    whole = of_frames(*frames())
    names = [one.name for one in whole.chosen(["status", "test acc", "file_bytes"])]
    assert names == ["prune", "finetune", "status", "test acc", "file_bytes"]
    assert whole.find("acc test") is whole.find("test acc") is whole.find("test_acc")
    assert [one.name for one in whole.chosen(["finetune"])] == ["prune", "finetune"]


def test_scores_that_the_study_names_stand_first():
    wide, tall = frames()
    second = tall.assign(metric="own", value=[1.0, 2.0, 3.0])
    both = pandas.concat([tall, second])
    usual = [one.name for one in of_frames(wide, both).chosen([])]
    named = [one.name for one in of_frames(wide, both, {"show": ["own"]}).chosen([])]
    assert "test acc" in usual and "test own" in named and "test acc" not in named


def test_a_study_whose_cells_all_failed_has_their_rows():
    wide, tall = frames()
    failed = wide.assign(status="failed", sparsity_effective=pandas.NA, file_bytes=pandas.NA)
    for scores in (None, tall.iloc[:0]):
        lines = drawn(of_frames(failed, scores).chosen([]), 60)
        assert sum("failed" in line for line in lines) == 3


def test_an_unknown_column_names_the_nearest():
    with pytest.raises(PrunegridError, match="did you mean 'file_bytes'"):
        of_frames(*frames()).find("flie_bytes")


def test_csv_has_full_precision_and_the_bounds():
    wide, tall = frames()
    text = terminal_table.csv(of_frames(wide, tall).chosen([]))
    back = pandas.read_csv(io.StringIO(text))
    assert back["test acc"].tolist() == tall["value"].tolist()
    assert back["test acc low"].tolist() == tall["low"].tolist()
    assert back["file_bytes"].tolist() == [538_000_000] * 3


def test_a_column_that_is_asked_for_is_shown_whole():
    digest = "0123456789abcdef" * 4
    fields = [Field("prune", ["a"], is_name=True), Field("digest", [digest])]
    text = "".join(line.split()[-1] for line in drawn(fields, 40, fit=False)[2:])
    assert digest in text.replace("a" + digest[:1], digest[:1])


def test_the_command_writes_a_census(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    rows = []
    for prune, share in (("dense", 0.125), ("m50", 0.5)):
        cell = {"model": "m", "prune": prune, "finetune": "none", "dataset": None, "seed": None}
        cell |= {"status": "ok", "reason": None, "parameters": 80}
        for group in ("all", "block"):
            for label, part in (("0", share), ("[0, inf)", 1 - share)):
                rows.append(cell | {"group": group, "bin": label, "share": part})
    pandas.DataFrame(rows).to_parquet("results/weights.parquet")
    assert cli.main(["show", "weights"]) == 0
    text = capsys.readouterr().out
    assert "12.5" in text and "87.5" in text and "2 cells, 0 failed" in text
    assert cli.main(["show", "weights", "--csv", "--sort", "0:desc"]) == 0
    back = pandas.read_csv(io.StringIO(capsys.readouterr().out))
    assert back["prune"].tolist() == ["m50", "dense"] and back["0"].tolist() == [0.5, 0.125]

"""Probes: right answers, the same items at every call, and no answer without reading."""

import re
from collections import Counter
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.config.sources import probes as names
from prunegrid.data.probes import brackets, sums
from prunegrid.stages import probe as stage

PROBES = {"sums": sums, "brackets": brackets}
LEAST = 500


@pytest.fixture(scope="module", params=PROBES)
def probe(request):
    module = PROBES[request.param]
    return module, module.items()


def told(items, value):
    """The share of items whose right option has the largest value; a tie is guessed."""
    hits = 0.0
    for item in items:
        values = [value(item, option) for option in item["options"]]
        best = [place for place, one in enumerate(values) if one == max(values)]
        hits += (item["answer"] in best) / len(best)
    return hits / len(items)


def test_every_probe_is_tested():
    assert names() == tuple(sorted(PROBES))


def test_items_are_the_same_at_every_call(probe):
    module, items = probe
    assert items == module.items() and len(items) >= LEAST
    assert len({item["question"] for item in items}) == len(items)
    assert len({item["id"] for item in items}) == len(items)


def test_no_place_and_no_length_of_an_option_tells_the_right_one(probe):
    module, items = probe
    for length in module.LENGTHS:
        chosen = [item for item in items if item["length"] == length]
        assert len(chosen) == len(items) / len(module.LENGTHS)
        for place in range(4):
            share = told(chosen, lambda item, option, p=place: item["options"].index(option) == p)
            assert share == module.CHANCE == 0.25
        for sign in (1, -1):
            assert told(chosen, lambda _, option, s=sign: s * len(option)) == module.CHANCE


def test_every_slice_has_items_of_all_lengths(probe):
    module, items = probe
    assert [item["length"] for item in items[: len(module.LENGTHS)]] == list(module.LENGTHS)


def test_the_right_option_is_the_sum_and_no_other_is():
    for item in sums.items():
        first, second = map(int, re.fullmatch(r"(\d+) \+ (\d+) =", item["question"]).groups())
        assert {len(str(first)), len(str(second))} == {item["length"]}
        assert int(item["options"][item["answer"]]) == first + second
        assert len(set(item["options"])) == 4


def test_the_options_of_a_sum_do_not_tell_it_by_their_digits():
    """Each is as far from the others as the right one, and equally often of each rank."""
    items = sums.items()
    for sign in (1, -1):
        assert told(items, lambda _, option, s=sign: s * int(option)) == sums.CHANCE

    def near(item, option):
        return sum(a == b for other in item["options"] for a, b in zip(option, other, strict=True))

    assert told(items, near) == sums.CHANCE
    assert told(items, lambda _, option: int(option) % 2) == pytest.approx(sums.CHANCE, abs=0.03)


def test_the_right_bracket_closes_the_last_that_is_open():
    for item in brackets.items():
        row, before = item["question"].replace(" ", ""), ""
        assert len(row) == item["length"]
        while row != before:
            before, row = row, re.sub(r"\(\)|\[\]|{}|<>", "", row)
        assert len(row) >= 2 and item["options"] == [")", "]", "}", ">"]
        assert item["options"][item["answer"]] == {"(": ")", "[": "]", "{": "}", "<": ">"}[row[-1]]


def test_neither_end_of_a_row_of_brackets_tells_the_right_one():
    items = brackets.items()
    opening = dict(zip(brackets.CLOSING, brackets.OPENING, strict=True))
    assert told(items, lambda item, option: item["question"][0] == opening[option]) == 0.25
    assert told(items, lambda item, option: item["question"][-1] == option) == 0.25
    last = told(items, lambda item, option: item["question"].rfind(opening[option]))
    assert last == pytest.approx(0.25, abs=0.05)
    # A model that counts, and knows no order, has more: the page of tasks says how much.
    counted = told(
        items,
        lambda item, o: item["question"].count(opening[o]) - item["question"].count(o),
    )
    assert counted == pytest.approx(0.59, abs=0.01)


def made(folder, **changes):
    settings = {"source": {"kind": "probe", "name": "sums"}, "format": None}
    settings |= {"splits": {"few": "all[:12]", "rest": "all[12:]"}} | changes
    return stage.run(settings, {}, folder, SimpleNamespace(where="test"))


def test_the_stage_writes_slices_of_the_items(tmp_path):
    record = made(tmp_path)
    few, rest = (pq.read_table(tmp_path / f"{n}.parquet").to_pylist() for n in ("few", "rest"))
    assert few + rest == sums.items() and len(few) == 12
    assert Counter(item["length"] for item in few) == dict.fromkeys(sums.LENGTHS, 2)
    assert record["source"]["name"] == "probe:sums"
    assert record["splits"]["few"] == {"from": "all[:12]", "rows": 12, "columns": list(few[0])}
    with pytest.raises(PrunegridError, match="slices of all"):
        made(tmp_path, splits={"test": "test"})

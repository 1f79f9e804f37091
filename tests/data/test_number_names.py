"""Number names: known ones, each number its own name, and the stage that makes data of them."""

from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.data.number_names import LANGUAGES, LIMIT, name
from prunegrid.stages import numbers

KNOWN = {
    0: ("zero", "null", "zéro"),
    1: ("one", "eins", "un"),
    21: ("twenty-one", "einundzwanzig", "vingt et un"),
    71: ("seventy-one", "einundsiebzig", "soixante et onze"),
    80: ("eighty", "achtzig", "quatre-vingts"),
    81: ("eighty-one", "einundachtzig", "quatre-vingt-un"),
    99: ("ninety-nine", "neunundneunzig", "quatre-vingt-dix-neuf"),
    101: ("one hundred one", "einhunderteins", "cent un"),
    200: ("two hundred", "zweihundert", "deux cents"),
    342: ("three hundred forty-two", "dreihundertzweiundvierzig", "trois cent quarante-deux"),
    1001: ("one thousand one", "eintausendeins", "mille un"),
    80_000: ("eighty thousand", "achtzigtausend", "quatre-vingt mille"),
    101_200: (
        "one hundred one thousand two hundred",
        "einhunderteintausendzweihundert",
        "cent un mille deux cents",
    ),
}


@pytest.mark.parametrize("number", KNOWN)
def test_known_names(number):
    assert tuple(name(number, language) for language in LANGUAGES) == KNOWN[number]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_numbers_have_one_name(language):
    assert len({name(number, language) for number in range(20_000)}) == 20_000


@pytest.mark.parametrize("number", [-1, LIMIT])
def test_numbers_without_a_name(number):
    with pytest.raises(ValueError, match="expected 0 ≤ number"):
        name(number, "de")


def make(folder, **changes):
    settings = {"kind": "summaries", "columns": {"document": "en", "summary": "fr"}}
    settings |= {"splits": {"train": "all[:90%]", "test": "all[90%:]"}} | changes
    return numbers.run(settings, {}, folder, SimpleNamespace(where="numbers"))


def test_a_data_set_of_names(tmp_path):
    record = make(tmp_path)
    rows = {s: pq.read_table(tmp_path / f"{s}.parquet").to_pylist() for s in ("train", "test")}
    assert {split: len(found) for split, found in rows.items()} == {"train": 1800, "test": 200}
    every = [row for found in rows.values() for row in found]
    assert {int(row["id"]) for row in every} == set(range(numbers.SIZE))
    for row in every[::97]:
        assert row["document"] == name(int(row["id"]), "en")
        assert row["summary"] == name(int(row["id"]), "fr")
    # Slices of the same order: neither split has all of the large numbers.
    assert min(int(r["id"]) for r in rows["test"]) < 50 and record["same_texts"] == {}
    with pytest.raises(PrunegridError, match="has no split 'train'.*slices of all"):
        make(tmp_path, splits={"train": "train"})

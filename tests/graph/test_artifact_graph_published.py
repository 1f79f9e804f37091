"""The keys of the shipped studies, as they were published."""

import json

from tests.helpers import golden_keys


def test_the_keys_of_shipped_studies_are_the_published_ones():
    """A change of code that changes no result changes none; see tests/helpers/golden_keys.py."""
    published = json.loads(golden_keys.GOLDEN.read_text(encoding="utf-8"))
    now = golden_keys.keys()
    for study in golden_keys.STUDIES:
        assert now[study] == published[study], f"other keys: {study}"

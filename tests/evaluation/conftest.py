"""Predictions that are scored."""

import pandas as pd
import pytest


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "reference": ["the act pays farmers", "taxes fall", "a b c d e"],
            "prediction": ["the act pays", "", "a b c d a b c d"],
            "hit_limit": [False, False, True],
        }
    )

"""From a study to its cells."""

import pytest

from prunegrid.config.config_files import ConfigError
from prunegrid.config.grid import expand
from prunegrid.config.load import validate
from tests.helpers import ROOT, shipped


def config(**study):
    raw = shipped.config()
    base = {"dataset": "aclsum", "evaluations": ["papers"]}
    raw["studies"] = {"s": base | study}
    return validate(raw, shipped.FILES, ROOT)


def names(**study):
    return [
        (c.model, c.names("prune"), c.names("finetune"), c.seed)
        for c in expand(config(**study), "s")
    ]


def test_a_grid_is_a_product():
    found = names(
        grid={
            "model": "smollm2-135m",
            "prune": ["dense", "magnitude-50"],
            "finetune": ["none", "full"],
        }
    )
    assert len(found) == 4
    assert ("smollm2-135m", "magnitude-50", "full", 0) in found


def test_include_and_exclude():
    grid = {
        "model": "smollm2-135m",
        "prune": ["dense", "magnitude-50"],
        "finetune": ["none", "full"],
    }
    found = names(
        grid=grid,
        exclude=[{"prune": "dense", "finetune": ["full"]}],
        include=[{"model": "smollm2-135m", "prune": "magnitude-2of4"}],
    )
    assert [(p, f) for _, p, f, _ in found] == [
        ("dense", "none"),
        ("magnitude-50", "none"),
        ("magnitude-50", "full"),
        ("magnitude-2of4", "none"),
    ]


def test_inline_products_vary_what_is_listed():
    prune = {
        "method": ["magnitude", "wanda"],
        "sparsity": [0.3, 0.5, 0.7],
        "calibration": "wiki-16x256",
    }
    with pytest.raises(ConfigError, match="not used by magnitude"):
        names(grid={"model": "smollm2-135m", "prune": prune})
    prune = {"method": "wanda", "sparsity": [0.3, 0.5, 0.7], "calibration": "wiki-16x256"}
    found = names(grid={"model": "smollm2-135m", "prune": [prune, "dense"]})
    assert [p for _, p, _, _ in found] == ["wanda-0.3", "wanda-0.5", "wanda-0.7", "dense"]


def test_a_seed_that_reaches_nothing_is_no_replicate():
    grid = {
        "model": "smollm2-135m",
        "prune": ["dense", "magnitude-50", "wiki-wanda-50"],
        "seed": [0, 1, 2],
    }
    found = names(grid=grid)
    assert [(p, s) for _, p, _, s in found] == [
        ("dense", None),
        ("magnitude-50", None),
        ("wiki-wanda-50", 0),
        ("wiki-wanda-50", 1),
        ("wiki-wanda-50", 2),
    ]


def test_table3_has_the_fourteen_rows():
    conf = validate(shipped.config(), shipped.FILES, ROOT)
    assert len(expand(conf, "table3")) == 14
    assert len(expand(conf, "table3-legacy")) == 14
    # dense/none, and magnitude/none, draw nothing: one cell each where the others have three seeds
    assert len(expand(conf, "table3-full")) == 2 * (40 * 3 - 4 * 2)


def test_learning_rates_are_tried_and_a_listed_learning_rate_is_varied():
    tuned = {"strategy": ["full", "lora"], "dev_split": "dev", "learning_rates": [1e-4, 1e-3]}
    found = names(grid={"model": "smollm2-135m", "prune": "dense", "finetune": tuned})
    assert [f for _, _, f, _ in found] == ["full", "lora"]
    tuned = {"strategy": "full", "learning_rate": [1e-4, 1e-3]}
    found = names(grid={"model": "smollm2-135m", "prune": "dense", "finetune": tuned})
    assert [f for _, _, f, _ in found] == ["full-0.0001", "full-0.001"]


def test_inline_profiles_of_two_methods_keep_all_their_cells():
    tuned = {"strategy": ["lora", "qlora"], "rank": [8, 16]}
    found = names(grid={"model": "smollm2-135m", "prune": "dense", "finetune": tuned})
    assert sorted(f for _, _, f, _ in found) == ["lora-16", "lora-8", "qlora-16", "qlora-8"]


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (
            {"prune": [{"method": "magnitude", "sparsity": s} for s in (0.3, 0.5)]},
            "gives two profiles the name 'magnitude'",
        ),
        ({"steps": 5}, "must be a list of chains"),
        ({"steps": [{"prune": "dense"}]}, "must be a list of chains"),
        ({"prune": [["dense"]]}, "expected names of `prune`"),
        ({"steps": [[{"finetune": "qlora"}, {"prune": "magnitude-50"}]]}, "after qlora"),
        ({"steps": [[{"finetune": "nf4"}, {"finetune": "full"}]]}, "full after nf4"),
        (
            {"steps": [[{"finetune": "equal-lora-unmasked"}, {"finetune": "nf4"}]]},
            "nf4 after equal-lora-unmasked",
        ),
        (
            {
                "steps": [
                    [
                        {"prune": "magnitude-50"},
                        {"finetune": "full"},
                        {"finetune": "wiki-reconstruct"},
                    ]
                ]
            },
            "must come right after pruning",
        ),
        (
            {
                "steps": [
                    [{"prune": "magnitude-50"}, {"finetune": "full"}],
                    [{"finetune": "full"}, {"prune": "magnitude-50"}],
                ]
            },
            "two cells that the table could not tell apart",
        ),
    ],
)
def test_a_grid_that_would_mislead_is_refused(study, words):
    with pytest.raises(ConfigError, match=words):
        names(grid={"model": "smollm2-135m", **study})


def test_an_exclusion_that_matches_nothing_is_refused():
    with pytest.raises(ConfigError, match="matches no cell"):
        names(grid={"model": "smollm2-135m"}, exclude=[{"prune": "magnitud-50"}])

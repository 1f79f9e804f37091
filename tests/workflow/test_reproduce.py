"""The study `reproduce`: published values are held against what is measured, and drift fails it."""

import pandas
import yaml

from tests.helpers import hub_world, shipped
from tests.helpers.hub_server import hub_server
from tests.helpers.runs import Run

COLUMN = "wikitext_ppl_2048_nonoverlap_special"
CELLS = {"model": "opt-125m", "prune": ["dense", "magnitude-2of4"]}


def test_drift_from_published_values_fails_loudly_and_measured_ones_pass(tmp_path):
    """A small random OPT under the real one's name is as far off as a broken engine would be."""
    study = shipped.config()["studies"]["reproduce"]
    published = [e for e in study["expected"] if matches(e["cells"])]
    assert len(published) == 2 and all(e["column"] == COLUMN for e in published)
    folder = tmp_path / "run"
    folder.mkdir()
    with hub_server(hub_world.build(tmp_path / "hub", train=4, test=2, ca_test=2)) as hub:
        place = {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
        place |= {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1"}
        run = Run(folder)
        expect(folder, published)
        done = run.snakemake("results/reproduce.parquet", **place)
        assert done.returncode != 0
        logged = " ".join(path.read_text() for path in folder.glob("results/logs/**/*.log"))
        for entry in published:
            said = f"prune: {entry['cells']['prune']}: {COLUMN}: off by +"
            assert said in logged, logged[-2000:]
        text = (folder / "results/reproduce.md").read_text()
        assert "27.66" in text and "off by" in text
        wide = pandas.read_parquet(folder / "results/reproduce.parquet")
        assert set(wide["status"]) == {"ok"}, "what was measured is there all the same"
        found = wide.set_index("prune")[COLUMN]
        expect(folder, [e | {"value": float(found[e["cells"]["prune"]])} for e in published])
        plan = run.plan("results/reproduce.parquet", **place)
        assert set(plan) == {"aggregate"}, "other expectations measure nothing again"
        again = run.snakemake("results/reproduce.parquet", **place)
    assert again.returncode == 0, again.stdout[-3000:]


def matches(cells) -> bool:
    return cells["model"] == CELLS["model"] and cells["prune"] in CELLS["prune"]


def expect(folder, expected):
    study = {"grid": CELLS, "expected": expected}
    (folder / "config.yaml").write_text(yaml.safe_dump({"studies": {"reproduce": study}}))

"""The files of a config: overlays, what they merge, and faults told with their file and line."""

import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.config.config_files import ConfigError, read_files
from prunegrid.config.load import load
from tests.helpers import ROOT, shipped
from tests.helpers.shipped import check


@pytest.fixture(scope="module")
def raw():
    return shipped.config()


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [1, 2\nb: 3\n", 2), ("a:\n  b: 1\n c: 2\n", 3), ("a: 1\n\tb: 2\n", 2)],
)
def test_a_file_that_is_no_yaml_is_told_with_its_line(tmp_path, text, line):
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    with pytest.raises(PrunegridError) as caught:
        read_files([broken])
    assert str(caught.value).startswith(f"{broken}, line {line}: is no YAML")
    assert "\n" not in str(caught.value)


def test_a_fault_of_an_overlay_names_the_overlay(raw, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("prune:\n  w90: {method: wanda, sparsity: 2.0, calibration: c4-128x2048}\n")
    files = [*shipped.FILES, mine]
    with pytest.raises(ConfigError, match=r"mine\.yaml: prune\.w90\.sparsity"):
        check(read_files(files), files)


def test_overlays_merge_by_key_and_replace_lists(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("seed: 7\nstudies: {demo: {evaluations: [wikipedia-512]}}\n")
    merged = read_files([*shipped.FILES, mine])
    assert merged["seed"] == 7
    assert merged["studies"]["demo"]["evaluations"] == ["wikipedia-512"]
    assert merged["studies"]["demo"]["dataset"] == "aclsum"


def test_a_profile_that_two_shipped_files_define_is_an_error(tmp_path):
    for file in shipped.FILES:
        place = tmp_path / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    (tmp_path / "config/studies/mine.yaml").write_text("prune: {wanda-50: {method: dense}}\n")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {}, [], tmp_path)
    (fault,) = caught.value.faults
    assert fault.startswith("config/studies/mine.yaml: prune.wanda-50 is defined in config/methods")
    over = {"prune": {"wanda-50": {"sparsity": 0.25}}}
    (tmp_path / "config/studies/mine.yaml").unlink()
    assert load(tmp_path, over, [], tmp_path).profile("prune", "wanda-50").sparsity == 0.25

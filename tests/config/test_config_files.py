"""Files of --configfile, which Snakemake reads before anything of this project."""

import pytest

from prunegrid.config.config_files import check_given


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text("seed: 1\n")
    (tmp_path / "broken.yaml").write_text("seed: 1\nmodels: {a: {source: x}\n")
    (tmp_path / "twice.yaml").write_text("seed: 1\nseed: 2\n")
    (tmp_path / "results").mkdir()
    (tmp_path / "results/s.parquet").write_bytes(b"PAR1\xff\xfe")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--configfile broken.yaml -- results/s.parquet", r"broken\.yaml, line 3: is no YAML"),
        ("--configfile=broken.yaml results/s.parquet", "line 3"),
        ("-n --configfile good.yaml broken.yaml", "line 3"),
        ("--configfile twice.yaml", r"twice\.yaml, line 2: `seed` stands twice"),
        ("--configfile gone.yaml", r"gone\.yaml: cannot be read"),
        ("--configfile good.yaml results/s.parquet", r"s\.parquet: is no config file; put --"),
    ],
)
def test_a_file_that_cannot_be_read_ends_the_command_in_a_sentence(words, told):
    with pytest.raises(SystemExit, match=f"^prunegrid: .*{told}" if "twice" not in words else told):
        check_given(["snakemake", *words.split()])


@pytest.mark.parametrize(
    "words",
    ["", "results/s.parquet", "--configfile good.yaml -- results/s.parquet", "--config a=1 x=2"],
)
def test_other_words_are_left_alone(words):
    check_given(["snakemake", "--cores", "2", *words.split()])

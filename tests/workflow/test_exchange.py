"""A finished study in the formats of others, and cited: what is written is what was made."""

import base64
import json
import re
import subprocess
from pathlib import Path

import pandas
import pytest

from prunegrid.artifacts.dropped import drop
from prunegrid.common.file_io import file_sha256
from tests.helpers import ROOT
from tests.helpers.runs import table

FORMATS = ROOT / ".venv-formats/bin/python"
METADATA = "ro-crate-metadata.json"


def export(run, form, folder, *options):
    done = run.prunegrid("export-rows", "tiny", str(folder), "--format", form, *options)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def crate(finished, tmp_path_factory):
    return export(finished, "ro-crate", tmp_path_factory.mktemp("crate") / "made")


@pytest.fixture(scope="module")
def records(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records") / "made"
    return export(finished, "every-eval-ever", folder, "--organization", "Example")


def graph(folder):
    """Return {@id: entity} of a crate."""
    entities = json.loads((folder / METADATA).read_text())["@graph"]
    assert len({one["@id"] for one in entities}) == len(entities)
    return {one["@id"]: one for one in entities}


def ids(values):
    return [one["@id"] for one in values]


def of_type(entities, kind):
    return {k: one for k, one in entities.items() if kind in [one["@type"], *one["@type"]]}


def test_every_file_of_a_crate_is_there_with_its_digest_and_none_else(finished, crate):
    entities = graph(crate)
    files = of_type(entities, "File")
    here = {k: one for k, one in files.items() if not k.startswith("ni:")}
    found = {p.relative_to(crate).as_posix() for p in crate.rglob("*") if p.is_file()}
    assert found == {METADATA, *here}
    for name, one in here.items():
        assert file_sha256(crate / name) == one["sha256"]
        assert (crate / name).stat().st_size == int(one["contentSize"])
    named = {k: one for k, one in files.items() if k not in here}
    assert named
    for address, one in named.items():
        place = finished.folder / "results" / one["name"]
        assert file_sha256(place) == one["sha256"]
        digest = base64.urlsafe_b64decode(address.rpartition(";")[2] + "=")
        assert digest.hex() == one["sha256"]
    assert ids(entities["./"]["hasPart"]) == list(files)
    # The weights and rows of others are named and not copied.
    copied = {name.split("/")[1] for name in here if name.startswith("artifacts/")}
    assert {"prune", "scores", "predictions"} <= copied
    assert not list((crate / "artifacts/model").rglob("*.safetensors"))
    assert {Path(one["name"]).parts[1] for one in named.values()} == {"model", "data"}


def test_every_step_of_the_run_is_in_the_crate_with_what_it_read_and_made(finished, crate):
    entities = graph(crate)
    actions = of_type(entities, "CreateAction")
    manifests = [
        json.loads(path.read_text())
        for path in (finished.folder / "results/artifacts").glob("*/*/manifest.json")
    ]
    steps = {f"#{one['stage']}-{one['key']}": one for one in manifests}
    assert actions.keys() == {*steps, "#run", "#table"}
    for name, manifest in steps.items():
        action = actions[name]
        digests = {one["sha256"] for one in manifest["files"].values()}
        assert digests <= {entities[one]["sha256"] for one in ids(action["result"])}
        read = set(ids(action["object"]))
        for parent in manifest["parents"].values():
            made = actions[f"#{parent['stage']}-{parent['key']}"]
            assert set(ids(made["result"])) <= read
        took = {
            entities[one]["name"]: entities[one]["value"] for one in ids(action["resourceUsage"])
        }
        assert int(took["seconds"]) == round(manifest["seconds"] * 1000)
        assert action["startTime"] <= action["endTime"] <= actions["#run"]["endTime"]
        tool = entities[action["instrument"]["@id"]]
        packages = {entities[one]["name"] for one in ids(tool["softwareRequirements"])}
        assert manifest["versions"].keys() <= packages
        assert "agent" not in action
    controls = of_type(entities, "ControlAction").values()
    assert {one["object"]["@id"] for one in controls} == {*steps, "#table"}
    assert set(ids(entities["#run"]["result"])) >= {
        "tiny.parquet",
        "tiny.tex",
        "tiny.manifest.json",
    }


def test_who_ran_the_study_ran_its_steps_and_a_text_for_people_is_about_the_crate(
    finished, tmp_path
):
    folder = export(finished, "ro-crate", tmp_path / "made", "--organization", "Example")
    entities = graph(folder)
    actions = [one for one in entities.values() if str(one["@type"]).endswith("Action")]
    assert actions and {one["agent"]["@id"] for one in actions} == {"#author"}
    assert entities["./"]["author"] == entities["./"]["publisher"] == {"@id": "#author"}
    assert all(one["description"] for one in actions)
    assert entities["README.md"]["about"] == {"@id": "./"}
    assert "tiny.parquet" in (folder / "README.md").read_text()


def test_every_score_of_a_cell_is_in_its_record(finished, records):
    tall = pandas.read_parquet(finished.folder / "results/tiny.long.parquet")
    cells, wide = tall[tall["kind"] == "cell"], table(finished).set_index("weights_sha256")
    paths = sorted(records.rglob("*.json"))
    assert len(paths) == len(wide) and len({path.parent for path in paths}) == len(wide)
    count = 0
    for path in paths:
        body = json.loads(path.read_text())
        details = body["model_info"]["additional_details"]
        row = wide.loc[details["weights_sha256"]]
        own = cells[(cells["prune"] == row["prune"]) & (cells["finetune"] == row["finetune"])]
        own = own.dropna(subset=["value"]).set_index(["split", "metric"])
        for one in body["evaluation_results"]:
            score = own.loc[one["evaluation_name"], one["metric_config"]["metric_name"]]
            assert one["score_details"]["score"] == score["value"]
            bounds = one["score_details"]["uncertainty"].get("confidence_interval")
            assert (bounds is None) == pandas.isna(score["low"])
            if bounds:
                assert (bounds["lower"], bounds["upper"]) == (score["low"], score["high"])
            assert one["score_details"]["uncertainty"]["num_samples"] == score["n"]
        assert len(body["evaluation_results"]) == len(own)
        count += len(own)
        assert details["sparsity_effective"] == str(row["sparsity_effective"])
        assert str(finished.folder) not in path.read_text()
    assert count == cells["value"].notna().sum()
    assert body["source_metadata"]["source_organization_name"] == "Example"


def test_the_methods_are_cited_with_the_settings_of_the_steps(finished):
    done = finished.prunegrid("cite", "tiny")
    assert done.returncode == 0, done.stderr
    text, _, entries = done.stdout.partition("\n@")
    keys = re.findall(r"^(?:@|)\w+{(\w+),$", "@" + entries, re.MULTILINE)
    assert "@" not in text and keys == sorted(set(keys))
    assert {one for keys in re.findall(r"cite{(.+?)}", text) for one in keys.split(",")} == {*keys}
    works = {"frantar2023sparsegpt", "sun2024simple", "dettmers2023qlora", "hu2022lora"}
    assert works | {"lin2004rouge", "zhang2020bertscore", "liu2019text"} <= {*keys}
    assert "zhang2024plug" not in keys
    plain = " ".join(text.split())
    for said in (
        r"tiny-wanda-50: wanda~\cite{sun2024simple}, unstructured, sparsity 0.5,",
        "calibrated on 4 windows of 32 tokens of tiny-text, split calibration",
        r"2:4~\cite{mishra2021accelerating}, blocksize 128, dampening 0.01",
        "learning rate 0.01",
        "over 4 windows of tiny-text",
        "Texts of 6 documents of tiny-notes",
        "Contrasts: 2 declared",
    ):
        assert said in plain, said
    assert "temperature" not in plain  # nothing was sampled


def test_what_cannot_be_exported_says_so_and_leaves_no_folder(finished, tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    cases = {
        ("tiny", "ro-crat", tmp_path / "a"): "did you mean 'ro-crate'",
        ("tinny", "ro-crate", tmp_path / "a"): "did you mean 'tiny'",
        ("tiny", "ro-crate", there): "there already",
    }
    for (study, form, folder), words in cases.items():
        done = finished.prunegrid("export-rows", study, str(folder), "--format", form)
        assert done.returncode == 1 and words in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == [there] and not list(there.iterdir())


def test_an_altered_artifact_is_in_no_crate(finished, tmp_path):
    run = finished.copy(tmp_path / "copy")
    scores = next(run.folder.glob("results/artifacts/scores/*/scores.parquet"))
    scores.write_bytes(scores.read_bytes() + b" ")
    done = run.prunegrid("export-rows", "tiny", "crate", "--format", "ro-crate")
    assert done.returncode == 1 and "scores.parquet" in done.stderr
    assert not (run.folder / "crate").exists()


def test_dropped_weights_are_named_and_their_step_has_no_times(finished, tmp_path):
    run = finished.copy(tmp_path / "copy")
    folder = run.folder / table(run).iloc[1]["artifact"]
    assert drop(folder) > 0
    entities = graph(export(run, "ro-crate", tmp_path / "made"))
    action = entities[f"#{folder.parent.name}-{folder.name}"]
    assert "startTime" not in action and "endTime" not in action
    results = [entities[one] for one in ids(action["result"])]
    by_name = {Path(one["name"]).name: one["@id"] for one in results}
    assert by_name["model.safetensors"].startswith("ni:")
    assert by_name["dropped.json"].startswith("artifacts/")


def validate(*arguments):
    """Run a Python program in the environment of the validators."""
    assert FORMATS.exists(), "make test-formats sets up the validators"
    return subprocess.run(
        [str(FORMATS), *map(str, arguments)], capture_output=True, text=True, check=False
    )


CHECK = ROOT / "tests/helpers/check_crate.py"
EVERY_EVAL_EVER = "from every_eval_ever.validator.validate import main; raise SystemExit(main())"
CFFCONVERT = "from cffconvert.cli.cli import cli; cli()"


@pytest.mark.formats
def test_roc_validator_finds_nothing_that_a_provenance_run_crate_must_have(crate, tmp_path):
    done = validate(CHECK, crate, tmp_path / "cache", "REQUIRED")
    assert done.returncode == 0 and not done.stdout.strip(), done.stdout + done.stderr
    whole = (crate / METADATA).read_text()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / METADATA).write_text(whole.replace("OrganizeAction", "ControlAction"))
    done = validate(CHECK, broken, tmp_path / "cache", "REQUIRED")
    assert done.returncode == 1
    assert "A ControlAction must reference a HowToStep" in done.stdout
    assert "does not include the Data Entity" in done.stdout


# What it recommends beside, and nothing here knows: the addresses of prunegrid and of who ran the
# study, Snakemake's version, and a place on the web for files that are named by their digest.
UNKNOWN = (
    "SoftwareApplication id SHOULD be an absolute URI",
    "Application SHOULD have a url",
    "organization SHOULD have a URL",
    "SHOULD have a version or softwareVersion https://pypi.org/project/snakemake/",
    "uses scheme 'ni'",
)


@pytest.mark.formats
def test_of_what_roc_validator_recommends_only_what_is_unknown_is_missing(finished, tmp_path):
    licence = "https://spdx.org/licenses/CC-BY-4.0"
    said = ("--organization", "Example", "--licence", licence)
    folder = export(finished, "ro-crate", tmp_path / "made", *said)
    done = validate(CHECK, folder, tmp_path / "cache", "RECOMMENDED")
    issues = done.stdout.strip().splitlines()
    assert issues and not done.stderr.strip(), done.stderr
    assert [one for one in issues if not any(known in one for known in UNKNOWN)] == []


@pytest.mark.formats
def test_every_eval_ever_takes_every_record_without_a_warning(records):
    paths = sorted(records.rglob("*.json"))
    done = validate("-c", EVERY_EVAL_EVER, "--format", "json", *paths)
    assert done.returncode == 0, done.stdout + done.stderr
    reports = json.loads(done.stdout)
    assert len(reports) == len(paths)
    assert all(one["valid"] and not one["warnings"] for one in reports)
    body = json.loads(paths[0].read_text())
    del body["model_info"]["additional_details"]["deployment_type"]
    moved = paths[0].with_name("00000000-0000-4000-8000-000000000000.json")
    moved.write_text(json.dumps(body))
    assert validate("-c", EVERY_EVAL_EVER, moved).returncode == 1
    moved.unlink()


@pytest.mark.formats
def test_the_citation_file_is_one():
    done = validate("-c", CFFCONVERT, "--validate", "-i", ROOT / "CITATION.cff")
    assert done.returncode == 0 and "are valid" in done.stdout, done.stdout + done.stderr

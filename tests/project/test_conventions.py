"""What catalogs, hosts and readers look for is there, and says what the project is."""

import re
import tomllib

import pytest
import yaml

import prunegrid
from tests.helpers import ROOT

FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
FORMS.remove(ROOT / ".github/ISSUE_TEMPLATE/config.yml")


def read(name):
    return yaml.safe_load((ROOT / name).read_text())


def test_the_citation_file_names_this_version_and_licence():
    citation = read("CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == prunegrid.__version__
    assert citation["license"] == project["license"]
    assert citation["title"] == project["name"] and citation["cff-version"] == "1.2.0"


def test_the_workflow_catalog_finds_what_it_wants():
    usage = read(".snakemake-workflow-catalog.yml")["usage"]
    assert usage["mandatory-flags"].keys() == {"desc", "flags"}
    assert set(usage["software-stack-deployment"]) == {"conda", "apptainer", "apptainer+conda"}
    rules = "\n".join(p.read_text() for p in (ROOT / "workflow/rules").glob("*.smk"))
    assert usage["software-stack-deployment"]["conda"] == ("conda:" in rules)
    assert usage["report"] == ("report" in rules)
    assert (ROOT / "config/README.md").is_file() and (ROOT / "workflow/Snakefile").is_file()
    assert (ROOT / "workflow/profiles/default/config.yaml").is_file()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_one_that_its_host_takes(path):
    form = yaml.safe_load(path.read_text())
    assert form.keys() <= {"name", "description", "title", "labels", "body"}
    assert form["name"] and form["description"]
    names = [field["id"] for field in form["body"]]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[\w-]+", name) for name in names)
    for field in form["body"]:
        assert field["type"] in ("input", "textarea", "dropdown", "checkboxes")
        assert field["attributes"]["label"]
        assert field.keys() <= {"type", "id", "attributes", "validations"}
        assert all(type(value) is bool for value in field.get("validations", {}).values())
        if field["type"] == "checkboxes":
            assert all(option["label"] for option in field["attributes"]["options"])


def test_the_image_is_built_of_the_lock_by_the_makefile():
    text = (ROOT / "Dockerfile").read_text()
    targets = (ROOT / "Makefile").read_text()
    assert re.search(r"RUN make .* env TORCH_BACKEND=", text) and "requirements.lock" in targets
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    image = re.search(r"FROM python:(\d+)\.(\d+)-", text)
    assert tuple(map(int, image.groups())) >= tuple(map(int, needed[2:].split(".")))
    # What the build copies must not be left out.
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {"workflow", "config", "envs", "requirements.lock", "Makefile"} & set(ignored)


def test_links_and_files_of_the_guide_for_contributors_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / target).exists(), target
    for path in re.findall(r"`((?:workflow|tests)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path

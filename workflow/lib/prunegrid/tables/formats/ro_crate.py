"""A Provenance Run Crate (0.5) of a study: workflow, steps with inputs and outputs, tables.

The crate holds the tables, the workflow's files, and the files of every step that are small and the
study's own. Weights, and models and data of others, are named by their SHA-256 (an `ni:` address,
RFC 6920) and their size: they stay in `results/artifacts`. What no file records is left out, such
as who ran a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import file_sha256, write_json
from prunegrid.common.source_code import LIBRARY
from prunegrid.tables.crate import COMPLETED, Crate, Entity, ref, refs, told_time, written
from prunegrid.tables.formats import Said
from prunegrid.tables.study_tables import StudyTables

METADATA = "ro-crate-metadata.json"
CRATE = "https://w3id.org/ro/crate/1.1"
WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
PROFILES = {
    **{
        f"https://w3id.org/ro/wfrun/{kind}/0.5": (f"{kind.title()} Run Crate", "0.5")
        for kind in ("process", "workflow", "provenance")
    },
    WORKFLOW_CRATE: ("Workflow RO-Crate", "1.0"),
}
TERMS = "https://w3id.org/ro/terms/workflow-run#"
LANGUAGE = "https://w3id.org/workflowhub/workflow-ro-crate#snakemake"
BIOSCHEMAS = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
UNSAID = "Not stated by its author. Models and data keep the licences of their sources."
MAIN, AUTHOR = "Snakefile", "#author"
ENGINE = {
    "@id": "https://pypi.org/project/snakemake/",
    "@type": "SoftwareApplication",
    "name": "Snakemake",
    "url": "https://snakemake.github.io",
}
README = "README.md"
PROJECT = (MAIN, "workflow/rules/*.smk", "workflow/scripts/*.py", "envs/*", "requirements.lock")


def write(tables: StudyTables, out: Path, said: Said) -> list[str]:
    """Fill the folder `out` with the crate; return what it holds and what it only names.

    Raises:
        AttestationError: an artifact was changed.
    """
    crate = Crate(out, tables.manifest["prunegrid"])
    for node in tables.refs().values():
        crate.step(node)
    _table(crate, tables)
    _finish(crate, tables, said)
    held = sum(not one.startswith("ni:") for one in crate.files)
    return [f"{held} files in the crate, {len(crate.files) - held} named by their SHA-256"]


def _table(crate: Crate, tables: StudyTables) -> None:
    """Add the tables, and the step that made them out of the leaves."""
    manifest = tables.manifest_path
    paths = [tables.folder / name for name in tables.manifest["files"]]
    for path in paths:
        if file_sha256(path) != tables.manifest["files"][path.name]:
            remedy = f"run `prunegrid run {tables.name}` again"
            raise PrunegridError("not the table's file", where=str(path), remedy=remedy)
    results = [crate.put(path, path.name) for path in (*paths, manifest)]
    folders = {Path(leaf).parent for leaf in tables.manifest["leaves"]}
    inputs = [one for path, ids in crate.results.items() if Path(path) in folders for one in ids]
    action = {"@id": "#table", "name": f"table of {tables.name}", "object": refs(inputs)}
    action |= {"result": refs(results), "endTime": told_time(written(manifest))}
    crate.action("aggregate", {**action, "actionStatus": COMPLETED})


def _finish(crate: Crate, tables: StudyTables, said: Said) -> None:
    """Write the metadata of the whole crate."""
    root = LIBRARY.parents[1]
    paths = sorted({path for part in PROJECT for path in root.glob(part) if path.is_file()})
    for path in paths:
        crate.put(path, path.relative_to(root).as_posix())
    _readme(crate, tables)
    steps = [
        {"@id": _step_of(tool), "@type": "HowToStep", "workExample": ref(tool)}
        for tool in crate.tools
    ]
    controls = [
        {"@id": f"{action['@id']}-control", "@type": "ControlAction"}
        | {"name": f"orchestrate {action['name']}", "object": ref(action["@id"])}
        | {"description": f"Snakemake's call of the step {action['name']}"}
        | {"instrument": ref(_step_of(action["instrument"]["@id"]))}
        for action in crate.actions.values()
    ]
    crate.files[MAIN] |= _workflow(tables, [*crate.tools], [one["@id"] for one in steps])
    actions = [*_run(crate, tables, controls), *controls, *crate.actions.values()]
    if said.organization:  # who ran the study ran its steps
        actions = [one | {"agent": ref(AUTHOR)} for one in actions]
    graph = [*_root(tables, said), *steps, *crate.tools.values(), ENGINE, *actions]
    graph += [*crate.others.values(), *crate.files.values()]
    graph[1]["hasPart"] = refs(crate.files)
    graph[1]["mentions"] = refs(["#run", "#engine", *crate.actions])
    own = {term: TERMS + term for term in ("sha256", "resourceUsage")}
    write_json(crate.out / METADATA, {"@context": [f"{CRATE}/context", own], "@graph": graph})


def _readme(crate: Crate, tables: StudyTables) -> None:
    """Write and add a text that says what the crate holds, for people."""
    title = tables.plan["title"] or tables.name
    parts = {
        f"{tables.name}.parquet": "and the files of that name: tables, figures and page",
        "artifacts/<stage>/<key>/": "a step's manifest, and its files that are small and its own",
        f"{MAIN}`, `workflow/`, `envs/": "the workflow",
        METADATA: "every step with its settings, versions, time and memory, what it read and made",
    }
    lines = [f"- `{name}`: {what}." for name, what in parts.items()]
    text = f"# {title}\n\nThe study `{tables.name}`, made by prunegrid {crate.version}, as a "
    text += (
        "Provenance Run Crate. Files that are not in it are named by their SHA-256 and size.\n\n"
    )
    text += "\n".join(lines) + "\n"
    file_io.write_text(crate.out / README, text)
    crate.own(README, about=ref("./"))


def _run(crate: Crate, tables: StudyTables, controls: Sequence[Entity]) -> list[Entity]:
    """Return the run of the workflow, and that of Snakemake with its steps."""
    action = crate.actions["#table"]
    run = {"@id": "#run", "@type": "CreateAction", "name": f"run of the study {tables.name}"}
    run |= {"description": tables.plan["title"] or tables.name, "instrument": ref(MAIN)}
    run |= {"object": refs(crate.inputs), "result": action["result"]}
    run |= {"endTime": action["endTime"], "actionStatus": COMPLETED}
    run |= {"startTime": told_time(min(crate.started))} if crate.started else {}
    organized = {"@id": "#engine", "@type": "OrganizeAction", "name": "run of Snakemake"}
    organized |= {"instrument": ref(ENGINE["@id"]), "result": ref("#run")}
    organized["description"] = f"Snakemake runs the steps of the study {tables.name}"
    return [run, organized | {"object": refs(one["@id"] for one in controls)}]


def _step_of(tool: str) -> str:
    """Return the @id of the step of the workflow that a tool implements."""
    return f"{MAIN}#{tool.partition('#')[2]}"


def _root(tables: StudyTables, said: Said) -> list[Entity]:
    """Return the metadata's own entity, that of the crate, and those of its profiles."""
    licence = said.licence or UNSAID
    root = {"@id": "./", "@type": "Dataset", "name": tables.plan["title"] or tables.name}
    root["license"] = ref(licence) if licence.startswith("http") else licence
    root["description"] = f"Tables of the prunegrid study {tables.name}, and every step of its run"
    day = written(tables.manifest_path).date().isoformat()
    root |= {"datePublished": day, "mainEntity": ref(MAIN)}
    root["conformsTo"] = refs(PROFILES)
    own = {"@id": METADATA, "@type": "CreativeWork", "about": ref("./")}
    own["conformsTo"] = refs([CRATE, WORKFLOW_CRATE])
    profiles = [
        {"@id": address, "@type": "CreativeWork", "name": name, "version": version}
        for address, (name, version) in PROFILES.items()
    ]
    language = {"@id": LANGUAGE, "@type": "ComputerLanguage", "name": "Snakemake"}
    language |= {"identifier": ref("https://doi.org/10.1093/bioinformatics/bts480")}
    known = [own, root, *profiles, language]
    if licence.startswith("http"):
        known.append({"@id": licence, "@type": "CreativeWork", "name": licence})
    if said.organization:
        known.append({"@id": AUTHOR, "@type": "Organization", "name": said.organization})
        root |= {"publisher": ref(AUTHOR), "author": ref(AUTHOR)}
    return known


def _workflow(tables: StudyTables, tools: Sequence[str], steps: Sequence[str]) -> Entity:
    """Return what is said of the workflow beside the facts of its file."""
    types = ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]
    facts = {"@type": types, "name": "prunegrid", "version": tables.manifest["prunegrid"]}
    facts |= {"programmingLanguage": ref(LANGUAGE), "conformsTo": ref(BIOSCHEMAS)}
    facts["license"] = "Apache-2.0"
    return facts | {"hasPart": refs(tools), "step": refs(steps)}

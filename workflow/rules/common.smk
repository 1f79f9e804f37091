# What all rules share: the validated config, the graph of artifacts, and what a job asks of them.
# No function has an effect beside what it returns, but for the one setting in `table_inputs`.
import itertools
import re

from prunegrid.artifacts import dropped
from prunegrid.artifacts.job_status import forget_failures, mark_interrupted
from prunegrid.artifacts.lock import LIVE
from prunegrid.common.errors import PrunegridError
from prunegrid.common.logs import redact
from prunegrid.config.load import load
from prunegrid.graph import pending
from prunegrid.graph.artifact_graph import Graph
from prunegrid.running import interruption
from prunegrid.running import snakemake_bridge as bridge
from prunegrid.running.rule_values import RuleValues
from prunegrid.tables import model_links, table_names
from prunegrid.tables import table_plan as tables

RESULTS = bridge.results_folder(workflow)
try:
    ROOT = bridge.own_folder(workflow).parents[1]
    CONFIG = load(ROOT, config, bridge.laid_over(workflow, ROOT), Path.cwd())
    GRAPH = Graph(CONFIG, ROOT, RESULTS)
    GRAPH.config.require_resolved()
except PrunegridError as error:
    # One clear text instead of a traceback through the Snakefile.
    sys.exit(f"prunegrid: {redact(str(error))}")
bridge.mark_run(workflow)

PLANS = {}  # of the tables that this run is asked for, each made once
JOB = RuleValues(GRAPH, workflow, PLANS)
# Where conda is asked for and missing, jobs run in the environment that Snakemake runs in.
ENVS = [f"../../envs/{name}.yaml" for name in ("models", "table")]
MODELS_ENV, TABLE_ENV = (None, None) if bridge.lacks_conda(workflow) else ENVS


def studies(kind=None):
    """Return a pattern of the names of all studies, or of those of a kind."""
    found = GRAPH.config.sections["studies"].items()
    names = [re.escape(n) for n, study in found if kind in (None, study.kind)]
    # No study of this kind: a pattern that matches nothing.
    return "|".join(names) or r"\."


def table_plan(wildcards):
    """Return the plan of a study's table."""
    if wildcards.study not in PLANS:
        PLANS[wildcards.study] = tables.study_plan(GRAPH, wildcards.study, ROOT)
    return PLANS[wildcards.study]


def table_inputs(wildcards):
    """Return what a table reads; where the one at hand is not its plan's, the mark of this run too.

    That is newer than any table, so Snakemake makes the table again. Else times decide nothing.
    """
    bridge.keys_decide(workflow)
    stale = tables.is_stale(table_plan(wildcards), RESULTS)
    return JOB.of_table(wildcards.study) + ([bridge.in_place(LIVE)] if stale else [])


def table_files(kind):
    """Return the files of a table, those that a report shows marked as such."""
    shown = {"html": "page", "csv": "table", "png": "plot", "depth.png": "depth"}
    marked, found = report, []
    for path in table_names.outputs("{study}", kind):
        told = shown.get(path.removeprefix("results/{study}."))
        labels = {"kind": told}
        found += [marked(path, category="{study}", labels=labels) if told else path]
    return found


def unknown_result(wildcards):
    """Say which table may be meant by a name in results/ that is none."""
    told = table_names.meant_by(wildcards.unknown, GRAPH.config)
    sys.exit(f"prunegrid: results/{wildcards.unknown}: {told}")


# Of the members of a group only one has its turn at a time.
resource_scopes:
    in_turn="local",


wildcard_constraints:
    key="[0-9a-f]{16}",
    study=studies(),

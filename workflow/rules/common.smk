# What all rules share: the validated config, the graph of artifacts, how a rule finds its node.
# No rules here, and no function has an effect beside what it returns.
import re

from prunegrid.artifacts import dropped
from prunegrid.artifacts.artifact_folder import is_dropped
from prunegrid.artifacts.lock import LIVE
from prunegrid.common.errors import PrunegridError
from prunegrid.common.logs import redact
from prunegrid.config.load import load
from prunegrid.config.renamed import successor
from prunegrid.graph import pending
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.stage_facts import stage_facts
from prunegrid.running import snakemake_bridge as bridge
from prunegrid.running.resources import memory_mb, minutes
from prunegrid.tables import table_plan as tables

try:
    GRAPH = Graph(
        load(ROOT, config, bridge.laid_over(workflow, ROOT), Path.cwd()), ROOT
    )
    GRAPH.config.require_resolved()
except PrunegridError as error:
    # One clear text instead of a traceback through the Snakefile.
    sys.exit(f"prunegrid: {redact(str(error))}")
bridge.mark_run(workflow)

PLANS = {}  # of the tables that this run is asked for, each made once
STUDY = "|".join(map(re.escape, GRAPH.config.sections["studies"])) or "none"
# Without conda no rule has an environment: jobs run in the one that Snakemake runs in.
ENVS = [f"../../envs/{name}.yaml" for name in ("models", "table")]
MODELS_ENV, TABLE_ENV = ENVS if bridge.has_conda(workflow) else (None, None)


wildcard_constraints:
    key="[0-9a-f]{16}",
    study=STUDY,


def studies(kind):
    """Return a pattern of the names of all studies of a kind."""
    found = GRAPH.config.sections["studies"].items()
    # No study of this kind: a pattern that matches nothing.
    return "|".join(re.escape(n) for n, study in found if study.kind == kind) or r"\."


def found(wildcards):
    """Return the node of a job."""
    return GRAPH.find(wildcards.stage, wildcards.key)


def node(wildcards):
    """Return all that a job needs, in plain builtins."""
    me, facts = found(wildcards), stage_facts(wildcards.stage)
    alone = {"alone": bridge.alone_on(workflow)} if facts.measures_memory else {}
    # A group that fails is run again, so a submitted job drops nothing: the run does at its end.
    retire = [] if workflow.remote_exec else pending.retired_by(GRAPH, me, PLANS)
    return {**me.params(), **alone, "does": facts.does, "retire": retire}


def parents(wildcards):
    """Return the manifests that a job reads.

    They are ancient: an artifact's key is in its path, so its time says nothing.
    """
    me = found(wildcards)
    made = Path(me.manifest).exists()
    # An artifact that is there does not run again because weights that it has read are made again.
    read = [
        p.manifest for p in me.parents.values() if not (made and is_dropped(p.path))
    ]
    return [ancient(manifest) for manifest in dict.fromkeys(read)]


def group(wildcards):
    """Return the group in which a cluster runs a job; None where it runs by itself."""
    return stage_facts(wildcards.stage).group


def threads(wildcards):
    """Return the cores of a job; a timing takes all, so that nothing runs beside it."""
    if stage_facts(wildcards.stage).measures_memory and bridge.cores(workflow):
        return bridge.cores(workflow)
    uses_torch = "torch" in found(wildcards).pins
    return processes(wildcards) * (GRAPH.config.threads if uses_torch else 1)


def processes(wildcards):
    """Return how many processes train together."""
    return found(wildcards).settings.get("processes", 1)


def gpus(wildcards):
    """Return how many devices a job takes."""
    return int(found(wildcards).device == "cuda") * processes(wildcards)


# `input` makes Snakemake ask again once the weights exist whose size decides.
def memory(wildcards, input, attempt):
    """Return the megabytes that a job is estimated to need, Snakemake's own among them."""
    return memory_mb(found(wildcards), attempt) + bridge.beside_mb(workflow)


def runtime(wildcards, input, attempt):
    """Return the minutes that a job may take."""
    return minutes(found(wildcards), attempt)


def table_inputs(wildcards):
    """Return what a table reads; where the one at hand is not its plan's, the mark of this run too.

    That is newer than any table, so Snakemake makes the table again. Else times decide nothing.
    """
    bridge.keys_decide(workflow)
    read = [ancient(leaf.manifest) for leaf in GRAPH.study_leaves(wildcards.study)]
    return [*read, LIVE] if tables.is_stale(table_plan(wildcards)) else read


def table_plan(wildcards):
    """Return the plan of a study's table."""
    if wildcards.study not in PLANS:
        PLANS[wildcards.study] = tables.study_plan(GRAPH, wildcards.study, ROOT)
    return PLANS[wildcards.study]

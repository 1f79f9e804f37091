# What all rules share: the validated config, the graph of artifacts, how a rule finds its node.
# No rules here.
import re

from prunegrid.artifacts import dropped as retention
from prunegrid.artifacts.artifact_folder import is_dropped
from prunegrid.common.errors import PrunegridError
from prunegrid.common.logs import redact
from prunegrid.config.load import load
from prunegrid.config.renamed import successor
from prunegrid.graph import benchmark_batches as joined
from prunegrid.graph import pending
from prunegrid.graph import shared_hessians as companions
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import with_ancestors
from prunegrid.graph.stage_facts import stage_facts
from prunegrid.running.resources import memory_mb, minutes
from prunegrid.running import kept_attempts as tries
from prunegrid.running import snakemake_bridge as engine
from prunegrid.tables import table_plan as tables

engine.settle(workflow)
engine.settle_submitted(workflow)
REQUESTED = engine.Inherited("PRUNEGRID_STUDIES")  # whose tables this run was asked for
APART = engine.Inherited("PRUNEGRID_APART")  # data whose tasks are led apart (`joined`)
try:
    GRAPH = Graph(
        load(ROOT, config, engine.laid_over(workflow, ROOT), Path.cwd()),
        ROOT,
        REQUESTED,
    )
    GRAPH.config.require_resolved()
except PrunegridError as error:
    # One clear text instead of a traceback through the Snakefile.
    sys.exit(f"prunegrid: {redact(str(error))}")

PLANS = {}  # of the tables of studies
STUDY = "|".join(map(re.escape, GRAPH.config.sections["studies"])) or "none"


# Of the members of a group only one has it at a time (`together`).
resource_scopes:
    in_turn="local",


wildcard_constraints:
    key="[0-9a-f]{16}",
    study=STUDY,


def studies(kind):
    """Return a pattern of the names of all studies of a kind."""
    found = GRAPH.config.sections["studies"].items()
    # Without any, what no study can be called.
    return "|".join(re.escape(n) for n, study in found if study.kind == kind) or r"\."


def found(wildcards):
    """Return the node of a job."""
    return GRAPH.find(wildcards.stage, wildcards.key)


def node(wildcards):
    """Return all that a job needs, in plain builtins."""
    me = found(wildcards)
    also = {}
    if me.stage == "prune":
        also = companions.params(GRAPH, me, REQUESTED)
    elif me.stage == "tasks":
        others = joined.others(GRAPH, me, REQUESTED, APART)
        also = {"also": [other.params() for other in others]}
    facts = stage_facts(me.stage)
    also |= {"alone": engine.alone_on(workflow)} if facts.measures_memory else {}
    return {**me.params(), **also, "does": facts.does, "retire": retired(me)}


def retired(node):
    """Return the weights that may go once a node is made; none in a submitted job.

    Where a member of its group fails, Snakemake takes the manifests of the others away and makes them
    again: the run that submits drops what is needless at its end.
    """
    return [] if workflow.remote_exec else pending.retired_by(GRAPH, node, REQUESTED)


def parents(wildcards):
    """Return the manifests that a job reads.

    They are ancient: an artifact's key is in its path, so its time says nothing.
    """
    engine.settle_run(workflow, GRAPH.config)
    me = found(wildcards)
    made = Path(me.manifest).exists()
    # What is made does not run again because weights that it has read are made again.
    read = [
        p.manifest for p in me.parents.values() if not (made and is_dropped(p.path))
    ]
    if me.stage == "prune" and not workflow.remote_exec:
        # A submitted job has waited for its leader: of those that are left another would lead here.
        leader = companions.leader(GRAPH, me, REQUESTED)
        read += [leader.manifest] if leader is not me else []
    elif me.stage == "tasks":
        others = joined.others(GRAPH, me, REQUESTED, APART)
        read += [p.manifest for other in others for p in other.parents.values()]
    return [ancient(manifest) for manifest in dict.fromkeys(read)]


def together(wildcards):
    """Return the group in which a cluster runs a job; None where it runs by itself.

    All that is measured of one set of weights is a group, with the transformation that makes them if
    there is one, and all controls of a data set. Its members run one after another, so that it
    asks for the most that one of them needs.
    """
    kind = stage_facts(wildcards.stage).group
    if kind is None:
        return None
    if wildcards.stage == "transform":
        return engine.group(workflow, kind, wildcards.key)
    measured = found(wildcards)
    measured = measured.parents.get("predictions", measured)
    role = "weights"
    if measured.stage == "baseline":
        kind, role = "controls", "data"
    return engine.group(workflow, kind, measured.parents[role].key)


def in_turn(wildcards):
    """Return what a member of a group takes of the others: all of their turn."""
    return int(stage_facts(wildcards.stage).group is not None)


def threads(wildcards):
    """Return the cores of a job; a timing takes all, so that nothing runs beside it."""
    facts = stage_facts(wildcards.stage)
    if facts.measures_memory and engine.cores(workflow):
        return engine.cores(workflow)
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
    return memory_mb(found(wildcards), attempt) + engine.beside_mb(workflow)


def runtime(wildcards, input, attempt):
    """Return the minutes that a job may take."""
    me = found(wildcards)
    others = joined.others(GRAPH, me, REQUESTED, APART) if me.stage == "tasks" else []
    return sum(minutes(one, attempt) for one in (me, *others))


def table_inputs(wildcards):
    """Return what the table reads; force it where the one at hand is not this config's.

    A table knows its key, so neither a lost .snakemake nor a changed config leaves an old one
    standing.
    """
    REQUESTED.add(wildcards.study)
    engine.settle_run(workflow, GRAPH.config)
    engine.without_timers(workflow)
    if tables.is_stale(table_plan(wildcards)):
        kind = GRAPH.config.profile("studies", wildcards.study).kind
        engine.force(workflow, tables.outputs(wildcards.study, kind))
    for key in joined.troubled(GRAPH, wildcards.study):
        APART.add(key)
    asked = (GRAPH, wildcards.study, REQUESTED, APART)
    engine.lock_also(workflow, [node.manifest for node in joined.led(*asked)])
    return [ancient(leaf.manifest) for leaf in joined.leaves(*asked)]


def table_plan(wildcards):
    """Return the plan of a study's table; asked for several times, made once."""
    if wildcards.study not in PLANS:
        PLANS[wildcards.study] = tables.study_plan(GRAPH, wildcards.study, ROOT)
    return PLANS[wildcards.study]

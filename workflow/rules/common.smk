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

GPU = 1 if GRAPH.config.device == "cuda" else 0
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


def node(stage):
    """Return a function from wildcards to the params of the node of this stage."""

    def params(wildcards):
        found = GRAPH.find(stage, wildcards.key)
        return {**found.params(), "retire": retired(found)}

    return params


def timed_node(stage):
    """Return a function from wildcards to the params of a node that is timed, alone."""
    params = node(stage)
    return lambda wildcards: {**params(wildcards), "alone": engine.alone_on(workflow)}


def retired(node):
    """Return the weights that may go once a node is made; none in a submitted job.

    Where a member of its group fails, Snakemake takes the manifests of the others away and makes them
    again: the run that submits drops what is needless at its end.
    """
    return [] if workflow.remote_exec else pending.retired_by(GRAPH, node, REQUESTED)


def together(stage):
    """Return a function from wildcards to the group in which a cluster runs a node of this stage.

    All that is measured of one set of weights is a group, with the transformation that makes them if
    there is one, and all controls of a data set. Its members run one after another, so that it
    asks for the most that one of them needs.
    """

    def group(wildcards):
        if stage == "transform":
            return engine.group(workflow, "evaluate", wildcards.key)
        me = GRAPH.find(stage, wildcards.key)
        measured = me.parents.get("predictions", me)
        kind, role = "evaluate", "weights"
        if measured.stage == "baseline":
            kind, role = "controls", "data"
        return engine.group(workflow, kind, measured.parents[role].key)

    return group


def gpus(stage, wildcards):
    """Return how many devices the node of this stage takes."""
    return int(GRAPH.find(stage, wildcards.key).device == "cuda")


def for_each_process(stage, count):
    """Return a function from wildcards to `count` for each process of the node of this stage."""
    return lambda wildcards: count * GRAPH.find(stage, wildcards.key).settings.get(
        "processes", 1
    )


def memory(stage):
    """Return a function that estimates the memory of the node of this stage."""
    # `input` makes Snakemake ask again once the weights exist whose size decides.
    return lambda wildcards, input, attempt: (
        memory_mb(GRAPH.find(stage, wildcards.key), attempt)
        + engine.beside_mb(workflow)
    )


def runtime(stage):
    """Return a function that estimates the minutes that the node of this stage may take."""
    return lambda wildcards, input, attempt: minutes(
        GRAPH.find(stage, wildcards.key), attempt
    )


def parents(stage):
    """Return a function from wildcards to the manifests that the node of this stage reads.

    They are ancient: an artifact's key is in its path, so its time says nothing.
    """

    def manifests(wildcards):
        engine.settle_run(workflow, GRAPH.config)
        me = GRAPH.find(stage, wildcards.key)
        made = Path(me.manifest).exists()
        # What is made does not run again because weights that it has read are made again.
        found = [p for p in me.parents.values() if not (made and is_dropped(p.path))]
        return [ancient(parent.manifest) for parent in found]

    return manifests


def shared_parents(wildcards):
    """Return the parents of a prune node, and the leader of its companions where it has one."""
    found = parents("prune")(wildcards)
    me = GRAPH.find("prune", wildcards.key)
    # A submitted job has waited for its leader: of those that are left another would lead here.
    first = me if workflow.remote_exec else companions.leader(GRAPH, me, REQUESTED)
    return found if first is me else [*found, ancient(first.manifest)]


def shared_node(wildcards):
    """Return the params of a prune node, with the cells that it prunes beside its own."""
    me = GRAPH.find("prune", wildcards.key)
    found = companions.params(GRAPH, me, REQUESTED)
    return {**found, "retire": retired(me)}


def joined_nodes(wildcards):
    """Return the nodes that a job for benchmarks makes, the one it is called by first."""
    me = GRAPH.find("tasks", wildcards.key)
    return [me, *joined.others(GRAPH, me, REQUESTED, APART)]


def joined_parents(wildcards):
    """Return the manifests that a job for benchmarks reads."""
    found = parents("tasks")(wildcards)
    _, *others = joined_nodes(wildcards)
    found += [ancient(p.manifest) for other in others for p in other.parents.values()]
    return list(dict.fromkeys(found))


def joined_node(wildcards):
    """Return the params of a job for benchmarks, with those that it makes beside its own."""
    me, *others = joined_nodes(wildcards)
    also = [other.params() for other in others]
    return {**me.params(), "also": also, "retire": retired(me)}


def joined_runtime(wildcards, input, attempt):
    """Return the minutes that a job for benchmarks may take."""
    return sum(minutes(one, attempt) for one in joined_nodes(wildcards))


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

"""
The table of a study: one row a cell, from the manifests of its artifacts.

REQUIRED INPUTS
    predictions, scores, perplexities and timings of every cell, and of the controls

OUTPUTS
    results/{study}.parquet        one row a cell (columns: docs/table.md)
    results/{study}.long.parquet   cell x split x metric, with intervals, and the controls
    results/{study}.pairs.parquet  cells of one seed or several compared with each other
    results/{study}.contrasts.parquet   the contrasts that it declares, a verdict each
    results/{study}.cliffs.parquet      scores along rising sparsities, where cliffs are sought
    results/{study}.controls.parquet  each control against the best cell; metrics flagged
    results/{study}.examples.parquet  one row an example: its label and scores
    results/{study}.examples.md       a few documents with all that was made of them
    results/{study}.csv, .md, .png, .svg, .manifest.json
    of a census: one row a bin of a group (docs/census.md), and .depth.png, .depth.svg
"""


localrules:
    aggregate,
    census_table,
    partial,


rule aggregate:
    input:
        table_inputs,
    output:
        table="results/{study}.parquet",
        long="results/{study}.long.parquet",
        pairs="results/{study}.pairs.parquet",
        contrasts="results/{study}.contrasts.parquet",
        cliffs="results/{study}.cliffs.parquet",
        controls="results/{study}.controls.parquet",
        examples="results/{study}.examples.parquet",
        page="results/{study}.examples.md",
        csv=report("results/{study}.csv", category="{study}", labels={"kind": "table"}),
        markdown="results/{study}.md",
        plot=report("results/{study}.png", category="{study}", labels={"kind": "plot"}),
        drawing="results/{study}.svg",
        manifest="results/{study}.manifest.json",
    log:
        "results/logs/aggregate/{study}.log",
    benchmark:
        "results/benchmarks/aggregate/{study}.tsv"
    wildcard_constraints:
        study=studies("evaluations"),
    conda:
        TABLE_ENV
    params:
        plan=table_plan,
        partial=False,
    message:
        "aggregate: {wildcards.study}"
    script:
        "../scripts/aggregate.py"


rule census_table:
    input:
        table_inputs,
    output:
        table="results/{study}.parquet",
        csv=report("results/{study}.csv", category="{study}", labels={"kind": "table"}),
        markdown="results/{study}.md",
        plot=report("results/{study}.png", category="{study}", labels={"kind": "plot"}),
        drawing="results/{study}.svg",
        depth=report(
            "results/{study}.depth.png", category="{study}", labels={"kind": "depth"}
        ),
        depth_drawing="results/{study}.depth.svg",
        manifest="results/{study}.manifest.json",
    log:
        "results/logs/aggregate/{study}.log",
    benchmark:
        "results/benchmarks/aggregate/{study}.tsv"
    wildcard_constraints:
        study=studies("census"),
    conda:
        TABLE_ENV
    params:
        plan=table_plan,
        partial=False,
    message:
        "census table: {wildcards.study}"
    script:
        "../scripts/aggregate.py"


rule partial:
    output:
        temp("results/status/{study}.partial"),
    log:
        "results/logs/aggregate/{study}.partial.log",
    conda:
        TABLE_ENV
    params:
        plan=table_plan,
        partial=True,
    message:
        "aggregate what there is of {wildcards.study}"
    script:
        "../scripts/aggregate.py"


def unknown_study(wildcards):
    """Say which study may be meant by a name that is none."""
    known = GRAPH.config.sections["studies"]
    told = successor(wildcards.unknown, known)
    raise WorkflowError(f"there is no study '{wildcards.unknown}'; {told}")


rule unknown_study:
    input:
        unknown_study,
    output:
        "results/{unknown}.parquet",
    wildcard_constraints:
        unknown=rf"(?!(?:{STUDY})\.)[A-Za-z0-9][A-Za-z0-9_-]*",


onstart:
    bridge.start(workflow, GRAPH.config)


onsuccess:
    dropped.retire(pending.retired(GRAPH, PLANS))


onerror:
    bridge.write_partial_tables(workflow, config, PLANS)

"""
The table of a study: one row a cell, from the manifests of its artifacts.

REQUIRED INPUTS
    predictions, scores, perplexities and timings of every cell, and of the controls

OUTPUTS
    results/{study}.parquet        one row a cell (columns: docs/reference/table.md)
    results/{study}.long.parquet   cell x split x metric, with intervals, and the controls
    results/{study}.*.parquet      pairs, contrasts, cliffs, controls, examples (docs/reference/columns.md)
    results/{study}.html           one page of all of it, to be opened in a browser; .examples.md: texts
    results/{study}.csv, .md, .tex, .png, .svg, .manifest.json
    results/models/{study}/        links to the weights of its cells, by their names (no outputs)
    of a census: one row a bin of a group, and .depth.png, .depth.svg (docs/reference/census.md)
"""


rule aggregate:
    input:
        table_inputs,
    output:
        table_files("evaluations"),
    log:
        JOB.here("results/logs/aggregate/{study}.log"),
    benchmark:
        JOB.here("results/benchmarks/aggregate/{study}.tsv")
    wildcard_constraints:
        study=studies("evaluations"),
    localrule: True
    conda:
        TABLE_ENV
    params:
        plan=table_plan,
    message:
        "aggregate: {wildcards.study}"
    script:
        "../scripts/aggregate.py"


use rule aggregate as census_table with:
    output:
        table_files("census"),
    wildcard_constraints:
        study=studies("census"),
    message:
        "census table: {wildcards.study}"


# A workflow that imports this one may have tables of its own.
if Path(workflow.basedir) in (ROOT, ROOT / "workflow"):

    rule unknown_result:
        input:
            unknown_result,
        output:
            "results/{unknown}",
        wildcard_constraints:
            unknown=rf"(?!(?:{table_names.pattern(GRAPH.config)})$)[^/]+",


onstart:
    expected = bridge.expected_steps(GRAPH, PLANS)
    bridge.start(workflow, GRAPH.config, RESULTS, expected)
    forget_failures(itertools.chain(*map(tables.statuses, PLANS.values())))


onsuccess:
    dropped.retire(pending.retired(GRAPH, PLANS))
    model_links.tidy(RESULTS)


onerror:
    lacking = {n: p for n, p in PLANS.items() if not tables.is_whole(p, RESULTS)}
    if interruption.is_told():
        mark_interrupted(itertools.chain(*map(tables.statuses, PLANS.values())))
        for name in [n for n in lacking if tables.is_finished(n, RESULTS)]:
            bridge.tell_kept(name, RESULTS)
            del lacking[name]
    bridge.write_partial_tables(workflow, lacking, RESULTS)

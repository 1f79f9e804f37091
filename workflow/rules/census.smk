"""
How large the weights of models are: counts by size, read from their files a piece at a time.

REQUIRED INPUTS
    weights  the model, or the last step of its chain; plain weights

OUTPUTS
    results/artifacts/census/{key}/tensors.parquet  one row a parameter: kind, block, counts by bin
    results/{study}.parquet                         one row a bin of a group (docs/census.md)
    results/{study}.csv, .md, .manifest.json
    results/{study}.png, .svg                       shares by bin, a bar a model
    results/{study}.depth.png, .depth.svg           shares over the depth, a line a bin
"""


localrules:
    census_table,


rule census:
    input:
        parents("census"),
    output:
        "results/artifacts/census/{key}/manifest.json",
    log:
        "results/logs/census/{key}.log",
    benchmark:
        "results/benchmarks/census/{key}.tsv"
    conda:
        "../../envs/models.yaml"
    threads: GRAPH.config.threads
    resources:
        mem_mb=memory("census"),
        runtime=runtime("census"),
    params:
        node=node("census"),
    message:
        "census: {params.node[label]}"
    script:
        "../scripts/step.py"


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
        "../../envs/table.yaml"
    params:
        plan=table_plan,
        partial=False,
    message:
        "census table: {wildcards.study}"
    script:
        "../scripts/aggregate.py"

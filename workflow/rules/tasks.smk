"""
Benchmarks by lm-evaluation-harness, and the data that they and mixtures are made of.

REQUIRED INPUTS
    rows            none: the source stands in config.yaml (datasets of kind rows)
    parts, against  of a mixture: what is mixed, and what must not be in it
    weights, data   of a task: digest and sparsity are measured in memory and compared

OUTPUTS
    results/artifacts/rows/{key}/<split>.parquet     all columns of the source
    results/artifacts/mixture/{key}/<split>.parquet  id, document (a whole prompt), summary, task
    results/artifacts/tasks/{key}/scores.parquet     metric, id, value: one row an item and metric
    results/artifacts/tasks/{key}/samples.parquet    what was asked and answered, item by item
    and the same of the other tasks of these weights that are missing (prunegrid.graph.benchmark_batches)
"""


rule rows:
    output:
        "results/artifacts/rows/{key}/manifest.json",
    log:
        "results/logs/rows/{key}.log",
    benchmark:
        "results/benchmarks/rows/{key}.tsv"
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=memory("rows"),
        runtime=runtime("rows"),
    params:
        node=node("rows"),
    message:
        "download: {params.node[label]}"
    script:
        "../scripts/step.py"


rule mixture:
    input:
        parents("mixture"),
    output:
        "results/artifacts/mixture/{key}/manifest.json",
    log:
        "results/logs/mixture/{key}.log",
    benchmark:
        "results/benchmarks/mixture/{key}.tsv"
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=memory("mixture"),
        runtime=runtime("mixture"),
    params:
        node=node("mixture"),
    message:
        "mix: {params.node[label]}"
    script:
        "../scripts/step.py"


rule tasks:
    input:
        joined_parents,
    output:
        "results/artifacts/tasks/{key}/manifest.json",
    log:
        "results/logs/tasks/{key}.log",
    benchmark:
        "results/benchmarks/tasks/{key}.tsv"
    group:
        together("tasks")
    conda:
        "../../envs/models.yaml"
    threads: GRAPH.config.threads
    resources:
        mem_mb=memory("tasks"),
        runtime=joined_runtime,
        gpu=GPU,
        in_turn=1,
    params:
        node=joined_node,
    message:
        "ask: {params.node[label]}"
    script:
        "../scripts/step.py"

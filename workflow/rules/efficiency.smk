"""
Time and memory of one set of weights, measured in a fresh process with nothing beside it.

REQUIRED INPUTS
    weights  the evaluated artifact

OUTPUTS
    results/artifacts/efficiency/{key}/efficiency.json  every repetition; medians in the manifest
"""


rule efficiency:
    input:
        parents("efficiency"),
    output:
        "results/artifacts/efficiency/{key}/manifest.json",
    log:
        "results/logs/efficiency/{key}.log",
    benchmark:
        "results/benchmarks/efficiency/{key}.tsv"
    conda:
        "../../envs/models.yaml"
    # All cores, so that nothing runs beside it; torch still uses the config's threads.
    threads: workflow.cores or GRAPH.config.threads
    resources:
        mem_mb=memory("efficiency"),
        runtime=runtime("efficiency"),
        gpu=GPU,
    params:
        node=node("efficiency"),
    message:
        "efficiency: {params.node[label]}"
    script:
        "../scripts/step.py"

"""
Time and memory of one set of weights, measured in a fresh process with nothing beside it.

REQUIRED INPUTS
    weights  the evaluated artifact

OUTPUTS
    results/artifacts/efficiency/{key}/efficiency.json  every repetition; medians in the manifest
    results/artifacts/passes/{key}/efficiency.json      the same of whole forward passes
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
    group:
        together("efficiency")
    conda:
        "../../envs/models.yaml"
    # All cores, so that nothing runs beside it; torch still uses the config's threads.
    threads: engine.cores(workflow) or GRAPH.config.threads
    resources:
        mem_mb=memory("efficiency"),
        runtime=runtime("efficiency"),
        gpu=GPU,
        in_turn=1,
    params:
        node=node("efficiency"),
    message:
        "efficiency: {params.node[label]}"
    script:
        "../scripts/step.py"


rule passes:
    input:
        parents("passes"),
    output:
        "results/artifacts/passes/{key}/manifest.json",
    log:
        "results/logs/passes/{key}.log",
    benchmark:
        "results/benchmarks/passes/{key}.tsv"
    group:
        together("passes")
    conda:
        "../../envs/models.yaml"
    # All cores, so that nothing runs beside it; torch still uses the config's threads.
    threads: engine.cores(workflow) or GRAPH.config.threads
    resources:
        mem_mb=memory("passes"),
        runtime=runtime("passes"),
        gpu=GPU,
        in_turn=1,
    params:
        node=node("passes"),
    message:
        "passes: {params.node[label]}"
    script:
        "../scripts/step.py"

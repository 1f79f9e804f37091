"""
Speed of one set of weights in turns with the untouched model's, with no other job beside it; memory.

REQUIRED INPUTS
    weights  the evaluated artifact
    dense    the untouched model of its chain, where the weights are others

OUTPUTS
    results/artifacts/efficiency/{key}/efficiency.json  every turn; medians and ratios in the manifest
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
        node=timed_node("efficiency"),
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
        node=timed_node("passes"),
    message:
        "passes: {params.node[label]}"
    script:
        "../scripts/step.py"

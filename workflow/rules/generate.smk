"""
Predictions: what the attested weights answer, and the controls that need no weights.

REQUIRED INPUTS
    weights  the evaluated artifact; digest and sparsity are measured in memory and compared
    data     the split to summarise

OUTPUTS
    results/artifacts/predictions/{key}/predictions.parquet  id, reference, prediction, lengths
    results/artifacts/baseline/{key}/predictions.parquet     the same columns
"""


rule generate:
    input:
        parents("predictions"),
    output:
        "results/artifacts/predictions/{key}/manifest.json",
    log:
        "results/logs/predictions/{key}.log",
    benchmark:
        "results/benchmarks/predictions/{key}.tsv"
    group:
        together("predictions")
    conda:
        "../../envs/models.yaml"
    threads: GRAPH.config.threads
    resources:
        mem_mb=memory("predictions"),
        runtime=runtime("predictions"),
        gpu=GPU,
        in_turn=1,
    params:
        node=node("predictions"),
    message:
        "generate: {params.node[label]}"
    script:
        "../scripts/step.py"


rule baseline:
    input:
        parents("baseline"),
    output:
        "results/artifacts/baseline/{key}/manifest.json",
    log:
        "results/logs/baseline/{key}.log",
    benchmark:
        "results/benchmarks/baseline/{key}.tsv"
    group:
        together("baseline")
    conda:
        "../../envs/models.yaml"
    threads: 1
    resources:
        mem_mb=memory("baseline"),
        runtime=runtime("baseline"),
        in_turn=1,
    params:
        node=node("baseline"),
    message:
        "baseline: {params.node[label]}"
    script:
        "../scripts/step.py"

"""
A model changed without training rows, zeros kept: refitted to its dense one, or in another precision.

REQUIRED INPUTS
    weights      the model, or the step before in the chain
    dense        the weights before pruning, where they are refitted to
    calibration  results/artifacts/calibration/{key}/, where weights are refitted

OUTPUTS
    results/artifacts/transform/{key}/                 a plain folder, or base/ (packed)
    results/artifacts/transform/{key}/transform.json  what was done, by linear
"""


rule transform:
    input:
        parents("transform"),
    output:
        "results/artifacts/transform/{key}/manifest.json",
    log:
        "results/logs/transform/{key}.log",
    benchmark:
        "results/benchmarks/transform/{key}.tsv"
    group:
        together("transform")
    conda:
        "../../envs/models.yaml"
    threads: GRAPH.config.threads
    resources:
        mem_mb=memory("transform"),
        runtime=runtime("transform"),
        gpu=GPU,
        in_turn=1,
    params:
        node=node("transform"),
    message:
        "transform: {params.node[label]}"
    script:
        "../scripts/step.py"

"""
The rule that all stages share: one artifact, made by the stage's module in prunegrid/stages.

Each stage's rule is this one by another name. A stage says in its module what it needs.
"""


rule step:
    input:
        parents,
    output:
        "results/artifacts/{stage}/{key}/manifest.json",
    log:
        "results/logs/{stage}/{key}.log",
    benchmark:
        "results/benchmarks/{stage}/{key}.tsv"
    wildcard_constraints:
        stage="none",
    group:
        together
    conda:
        "../../envs/models.yaml"
    threads: threads
    resources:
        mem_mb=memory,
        runtime=runtime,
        gpu=gpus,
        in_turn=in_turn,
    params:
        node=node,
    message:
        "{params.node[does]}: {params.node[label]}"
    script:
        "../scripts/step.py"

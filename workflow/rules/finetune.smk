"""
A fine-tuned model whose zeros are the ones of its parent.

REQUIRED INPUTS
    weights  the pruned (or dense) model
    data     the train split of the cell's data set

OUTPUTS
    results/artifacts/finetune/{key}/               a plain folder, or base/ and where it is not merged adapter/
    results/artifacts/finetune/{key}/finetune.json  loss by step, tokens, share of inputs cut
"""


rule finetune:
    input:
        parents("finetune"),
    output:
        "results/artifacts/finetune/{key}/manifest.json",
    log:
        "results/logs/finetune/{key}.log",
    benchmark:
        "results/benchmarks/finetune/{key}.tsv"
    conda:
        "../../envs/models.yaml"
    threads: for_each_process("finetune", GRAPH.config.threads)
    resources:
        mem_mb=memory("finetune"),
        runtime=runtime("finetune"),
        gpu=for_each_process("finetune", GPU),
    params:
        node=node("finetune"),
    message:
        "finetune: {params.node[label]}"
    script:
        "../scripts/step.py"

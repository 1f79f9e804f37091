"""
A pruned model: plain Hugging Face folder with zeros where the mask says so.

REQUIRED INPUTS
    weights      the model, or the step before in the chain
    calibration  results/artifacts/calibration/{key}/, for methods that need it
    a companion  that prunes this cell too, where both share a dense model's Hessians

OUTPUTS
    results/artifacts/prune/{key}/            config, safetensors, tokenizer
    results/artifacts/prune/{key}/prune.json  sparsity by linear
"""


rule prune:
    input:
        shared_parents,
    output:
        "results/artifacts/prune/{key}/manifest.json",
    log:
        "results/logs/prune/{key}.log",
    benchmark:
        "results/benchmarks/prune/{key}.tsv"
    conda:
        "../../envs/models.yaml"
    threads: GRAPH.config.threads
    resources:
        mem_mb=memory("prune"),
        runtime=runtime("prune"),
        gpu=GPU,
    params:
        node=shared_node,
    message:
        "prune: {params.node[label]}"
    script:
        "../scripts/step.py"

"""
Calibration samples: windows of tokens of the dense model's tokenizer, and its input norms.

REQUIRED INPUTS
    model    results/artifacts/model/{key}/
    data     results/artifacts/data/{key}/

OUTPUTS
    results/artifacts/calibration/{key}/tokens.safetensors       [samples, length]
    results/artifacts/calibration/{key}/input_norms.safetensors  mean squared input of each linear
"""


rule calibrate:
    input:
        parents("calibration"),
    output:
        "results/artifacts/calibration/{key}/manifest.json",
    log:
        "results/logs/calibration/{key}.log",
    benchmark:
        "results/benchmarks/calibration/{key}.tsv"
    conda:
        "../../envs/models.yaml"
    threads: GRAPH.config.threads
    resources:
        mem_mb=memory("calibration"),
        runtime=runtime("calibration"),
        gpu=GPU,
    params:
        node=node("calibration"),
    message:
        "calibrate: {params.node[label]}"
    script:
        "../scripts/step.py"

"""
Models and data sets, from a hub, a package, a local folder or a random config.

REQUIRED INPUTS
    none: the source stands in config.yaml (models, datasets)

OUTPUTS
    results/artifacts/model/{key}/   a plain Hugging Face folder: config, safetensors, tokenizer
    results/artifacts/data/{key}/    one Parquet file a split: id, document, summary (or id, text)
    manifest.json in each: what the source resolved to, digests, licence where known
"""


rule download_model:
    output:
        "results/artifacts/model/{key}/manifest.json",
    log:
        "results/logs/model/{key}.log",
    benchmark:
        "results/benchmarks/model/{key}.tsv"
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=memory("model"),
        runtime=runtime("model"),
    params:
        node=node("model"),
    message:
        "download: {params.node[label]}"
    script:
        "../scripts/step.py"


rule download_data:
    output:
        "results/artifacts/data/{key}/manifest.json",
    log:
        "results/logs/data/{key}.log",
    benchmark:
        "results/benchmarks/data/{key}.tsv"
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=memory("data"),
        runtime=runtime("data"),
    params:
        node=node("data"),
    message:
        "download: {params.node[label]}"
    script:
        "../scripts/step.py"

"""
What encoders and encoder-decoders are asked: classes of texts, and translations.

REQUIRED INPUTS
    weights  the evaluated artifact; digest and sparsity are measured in memory and compared
    data     rows of texts and labels; documents and their translations

OUTPUTS
    results/artifacts/numbers/{key}/<split>.parquet            number names in two languages
    results/artifacts/classification/{key}/scores.parquet      metric, id, value: one row an item
    results/artifacts/classification/{key}/samples.parquet     what was asked and answered
    results/artifacts/classification/{key}/head.safetensors    the head that answered
    results/artifacts/translations/{key}/predictions.parquet   id, reference, prediction, lengths
"""


rule numbers:
    output:
        "results/artifacts/numbers/{key}/manifest.json",
    log:
        "results/logs/numbers/{key}.log",
    benchmark:
        "results/benchmarks/numbers/{key}.tsv"
    conda:
        "../../envs/models.yaml"
    resources:
        mem_mb=memory("numbers"),
        runtime=runtime("numbers"),
    params:
        node=node("numbers"),
    message:
        "write: {params.node[label]}"
    script:
        "../scripts/step.py"


rule classify:
    input:
        parents("classification"),
    output:
        "results/artifacts/classification/{key}/manifest.json",
    log:
        "results/logs/classification/{key}.log",
    benchmark:
        "results/benchmarks/classification/{key}.tsv"
    group:
        together("classification")
    conda:
        "../../envs/models.yaml"
    threads: GRAPH.config.threads
    resources:
        mem_mb=memory("classification"),
        runtime=runtime("classification"),
        gpu=GPU,
        in_turn=1,
    params:
        node=node("classification"),
    message:
        "classify: {params.node[label]}"
    script:
        "../scripts/step.py"


rule translate:
    input:
        parents("translations"),
    output:
        "results/artifacts/translations/{key}/manifest.json",
    log:
        "results/logs/translations/{key}.log",
    benchmark:
        "results/benchmarks/translations/{key}.tsv"
    group:
        together("translations")
    conda:
        "../../envs/models.yaml"
    threads: GRAPH.config.threads
    resources:
        mem_mb=memory("translations"),
        runtime=runtime("translations"),
        gpu=GPU,
        in_turn=1,
    params:
        node=node("translations"),
    message:
        "translate: {params.node[label]}"
    script:
        "../scripts/step.py"

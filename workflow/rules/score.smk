"""
Scores: of texts from the stored predictions, of a model from its perplexity.

REQUIRED INPUTS
    predictions     results/artifacts/predictions/{key}/ (or baseline)
    data            where a metric reads the documents
    <metric>.model  the model of a metric that has one (BERTScore)
    weights, data   for perplexity

OUTPUTS
    results/artifacts/scores/{key}/scores.parquet       one row a document, one column a metric
    results/artifacts/perplexity/{key}/windows.parquet  one row a window: tokens, loss
"""


rule score:
    input:
        parents("scores"),
    output:
        "results/artifacts/scores/{key}/manifest.json",
    log:
        "results/logs/scores/{key}.log",
    benchmark:
        "results/benchmarks/scores/{key}.tsv"
    group:
        together("scores")
    conda:
        "../../envs/models.yaml"
    threads: GRAPH.config.threads
    resources:
        mem_mb=memory("scores"),
        runtime=runtime("scores"),
        gpu=lambda wildcards: gpus("scores", wildcards),
        in_turn=1,
    params:
        node=node("scores"),
    message:
        "score: {params.node[label]}"
    script:
        "../scripts/step.py"


rule perplexity:
    input:
        parents("perplexity"),
    output:
        "results/artifacts/perplexity/{key}/manifest.json",
    log:
        "results/logs/perplexity/{key}.log",
    benchmark:
        "results/benchmarks/perplexity/{key}.tsv"
    group:
        together("perplexity")
    conda:
        "../../envs/models.yaml"
    threads: GRAPH.config.threads
    resources:
        mem_mb=memory("perplexity"),
        runtime=runtime("perplexity"),
        gpu=GPU,
        in_turn=1,
    params:
        node=node("perplexity"),
    message:
        "perplexity: {params.node[label]}"
    script:
        "../scripts/step.py"

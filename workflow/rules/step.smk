"""
The rule that all stages share: one artifact, made by the stage's module in prunegrid/stages.

Each stage's rule is this one by another name. The output is marked as updated, so that Snakemake does not
remove it before a job that is tried again: one that finds its artifact whole has nothing to do.
"""


rule step:
    input:
        JOB.inputs,
    output:
        update(JOB.here("results/artifacts/{stage}/{key}/manifest.json")),
    log:
        JOB.here("results/logs/{stage}/{key}.log"),
    benchmark:
        JOB.here("results/benchmarks/{stage}/{key}.tsv")
    wildcard_constraints:
        stage="none",
    group:
        JOB.group
    conda:
        MODELS_ENV
    threads: JOB.threads
    resources:
        mem_mb=JOB.memory,
        runtime=JOB.minutes,
        gpu=JOB.gpus,
        cpus_per_task=JOB.cpus,
        in_turn=JOB.in_turn,
    params:
        node=JOB.params,
    message:
        "{params.node[does]}: {params.node[label]}"
    script:
        "../scripts/step.py"

"""
The tables of failed runs: what there is of a study, by the plan that its run has left. No part of
the workflow: a failed run starts it (`prunegrid.running.snakemake_bridge`).

REQUIRED INPUTS
    the plan of the table, and whatever was made of its artifacts

OUTPUTS
    the files of the table (workflow/rules/aggregate.smk), and a mark that they are written
"""


rule partial:
    input:
        "{results}/status/{study}.plan.json",
    output:
        touch("{results}/status/{study}.partial"),
    log:
        "{results}/logs/aggregate/{study}.partial.log",
    conda:
        "../../envs/table.yaml"
    message:
        "aggregate what there is of {wildcards.study}"
    script:
        "../scripts/aggregate.py"

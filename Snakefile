# prunegrid: prune language models, fine-tune them back, measure what is left.
#
#   snakemake --cores 2 results/demo.parquet          a real model on a laptop, no hub, no GPU
#   snakemake --cores 1 --use-conda results/table3.parquet
#   snakemake -n results/table3.parquet               what would run, and why
#
# Settings: config.yaml. Library: workflow/lib/prunegrid. Concepts: README.md.
import sys
from pathlib import Path

sys.path.insert(
    0, f"{workflow.current_basedir.get_path_or_uri(secret_free=True)}/workflow/lib"
)


include: "workflow/rules/common.smk"
include: "workflow/rules/step.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/calibrate.smk"
include: "workflow/rules/prune.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/generate.smk"
include: "workflow/rules/score.smk"
include: "workflow/rules/measure.smk"
include: "workflow/rules/aggregate.smk"


rule all:
    default_target: True
    input:
        "results/demo.parquet",

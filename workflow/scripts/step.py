"""Make one artifact: the node of the job is in its params."""

from prunegrid.job import run_step

run_step(snakemake.params.node, snakemake.log[0])  # noqa: F821 - given by Snakemake

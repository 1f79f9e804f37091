"""Make one artifact: the node of the job is in its params."""

import gc

from prunegrid.running.job import run_step

try:
    run_step(snakemake.params.node, snakemake.log[0])  # noqa: F821 - given by Snakemake
finally:
    # What is left need not be looked through when Python ends (`prunegrid.common.gc_pause`).
    gc.freeze()

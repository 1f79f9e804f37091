"""Make one artifact: the node of the job is in its params."""

import gc
import sys

try:
    from prunegrid.running.job import run_step

    run_step(snakemake.params.node, snakemake.log[0])  # noqa: F821 - given by Snakemake
except KeyboardInterrupt:  # before it could begin
    sys.exit(1)
finally:
    # What is left need not be looked through when Python ends (`prunegrid.common.gc_pause`).
    gc.freeze()

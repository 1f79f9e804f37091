"""Write a study's table; with cells missing, only where that is asked for (a partial table)."""

import sys
from pathlib import Path

from prunegrid.artifacts.lock import only_maker
from prunegrid.artifacts.preconditions import check_pins
from prunegrid.common.failures import report
from prunegrid.common.logs import configure_logging
from prunegrid.tables.aggregate import aggregate
from prunegrid.tables.census import tabulate_census

configure_logging(snakemake.log[0])  # noqa: F821 - given by Snakemake
plan = snakemake.params.plan  # noqa: F821
try:
    check_pins(plan["pins"])
    with only_maker(Path(f"results/scratch/table-{plan['study']}.lock"), f"table {plan['study']}"):
        complete = (tabulate_census if plan.get("kind") == "census" else aggregate)(plan)
except Exception as error:
    report(error, f"table {plan['study']}")
    sys.exit(1)
if snakemake.params.partial:  # noqa: F821
    Path(snakemake.output[0]).touch()  # noqa: F821
elif not complete:
    sys.exit("cells are missing from the table, or values are not those expected: see the log")

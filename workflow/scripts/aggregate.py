"""Write a study's table; with cells missing, only where that is asked for (a partial table)."""

import sys
from pathlib import Path

from prunegrid.artifacts.lock import only_maker
from prunegrid.artifacts.preconditions import check_pins
from prunegrid.common.failures import report
from prunegrid.common.file_io import read_json
from prunegrid.common.logs import configure_logging
from prunegrid.tables import model_links
from prunegrid.tables.aggregate import aggregate
from prunegrid.tables.census import tabulate_census

configure_logging(snakemake.log[0])  # noqa: F821 - given by Snakemake
# A partial table is made by the plan that the failed run has left in a file.
partial = snakemake.rule == "partial"  # noqa: F821
plan = read_json(Path(snakemake.input[0])) if partial else snakemake.params.plan  # noqa: F821
folder = Path(snakemake.output[0]).parents[int(partial)]  # noqa: F821
tabulate = tabulate_census if plan.get("kind") == "census" else aggregate
try:
    check_pins(plan["pins"])
    with only_maker(folder / f"scratch/table-{plan['study']}.lock", f"table {plan['study']}"):
        complete = tabulate(plan, folder)
        model_links.write(plan, folder)
except (Exception, KeyboardInterrupt) as error:
    report(error, f"table {plan['study']}")
    sys.exit(1)
if not (complete or partial):
    sys.exit("cells are missing from the table, or values are not those expected: see the log")

"""The command `prunegrid`: plan, status and verification of studies, disk, claims, packing."""

from __future__ import annotations

import argparse
import contextlib
import logging
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from prunegrid import __version__
from prunegrid.common.errors import PrunegridError
from prunegrid.common.logs import redact


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="prunegrid", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "verify",
        help="hash, count and score again what a table names; exit 1 on any difference",
    )
    check.add_argument("table", type=Path, help="results/<study>.parquet")
    go = commands.add_parser("run", help="make a study's table with all of this machine")
    go.add_argument("--cores", type=int, help="jobs side by side (default: what may be used)")
    go.add_argument("--memory", type=int, metavar="MB", help="of all jobs (default: the machine's)")
    brief = commands.add_parser("show", help="print a study's table, short")
    state = commands.add_parser("status", help="done, running, failed and missing cells of a study")
    commands.add_parser(
        "repair", help="remove damaged artifacts, so that the next run makes them again"
    )
    cost = commands.add_parser(
        "plan", help="jobs, hours, memory and disk of a study, before anything runs"
    )
    keep = commands.add_parser(
        "adopt", help="keep reviewed artifacts of a study under changed code or versions"
    )
    keep.add_argument("--because", required=True, help="what was reviewed; it stands in the rows")
    again = commands.add_parser(
        "remeasure",
        help="remove a study's disturbed timings, so that the next run takes them again",
    )
    again.add_argument("--all", action="store_true", help="remove all of its timings")
    for one in (go, brief, state, cost, keep, again):
        one.add_argument("study", help="a name of `studies` in the config")
    small = commands.add_parser("gc", help="list what no study of the config needs any more")
    small.add_argument(
        "--delete", action="store_true", help="remove it (refused while a run is live)"
    )
    small.add_argument(
        "--tables", action="store_true", help="list also what only tables in results/ name"
    )
    page = commands.add_parser(
        "claims", help="test published conclusions on finished tables; write results/claims.md"
    )
    page.add_argument("tables", type=Path, nargs="*", help="default: all in results/")
    for one in (go, state, cost, keep, again, small, page):
        over = "laid over config.yaml, as by snakemake --configfile"
        one.add_argument(
            "-c", "--configfile", type=Path, action="append", nargs="+", default=[], help=over
        )
        over = "values over those of the files, as by snakemake --config"
        one.add_argument(
            "--config", metavar="KEY=VALUE", action="extend", nargs="+", default=[], help=over
        )
    commands.add_parser(
        "estimates",
        help="compare what steps ask for with what finished ones took; exit 1 if one took more",
    )
    small = commands.add_parser("pack", help="write a pruned model folder without its zeros")
    small.add_argument("folder", type=Path, help="config, safetensors, tokenizer")
    small.add_argument("out", type=Path, help="a folder that does not exist")
    plain = commands.add_parser("unpack", help="write the model folder that was packed")
    plain.add_argument("source", type=Path, help="a packed folder, or a file in it")
    plain.add_argument("out", type=Path, help="a folder that does not exist")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return _COMMANDS[options.command](options)
    except (PrunegridError, OSError) as error:
        print(f"prunegrid: {redact(str(error))}", file=sys.stderr)
        return 1


def _verify(options: argparse.Namespace) -> int:
    from prunegrid.commands.verify import verify

    if not options.table.is_file():
        raise PrunegridError("there is no such table", where=str(options.table))
    differences = verify(options.table)
    for text in differences:
        print(text)
    verdict = f"{len(differences)} difference(s)" if differences else "verified: no difference"
    print(f"{options.table}: {verdict}")
    return 1 if differences else 0


def _claims(options: argparse.Namespace) -> int:
    from prunegrid.commands import cli_config
    from prunegrid.config.conclusion_checks import require_columns
    from prunegrid.tables import finished
    from prunegrid.tables.claims import page

    folder = Path("results")
    files = [path for together in options.configfile for path in together]
    config, place = cli_config.validated(files, options.config)
    claims = config.sections["claims"]
    require_columns(claims, finished.facts(), place)
    for outcome in page.write(options.tables or finished.find(folder), folder, claims):
        print(f"{outcome.verdict:12} {outcome.name}: {outcome.claim.says}")
    print(f"written: {folder / 'claims.md'}, {folder / 'claims.parquet'}")
    return 0


def asked_graph(options: argparse.Namespace) -> Any:
    from prunegrid.commands import cli_config as asked

    files = [path for together in options.configfile for path in together]
    return asked.graph(files, options.config, options.study)


def _run(options: argparse.Namespace) -> int:
    from prunegrid.commands import cli_config, run

    files = [path for together in options.configfile for path in together]
    cli_config.require_study(options.study, files, options.config)
    asked = run.command(options.study, files, options.config, options.cores, options.memory)
    return run.run(options.study, asked)


def _show(options: argparse.Namespace) -> int:
    from prunegrid.commands.show import lines

    print("\n".join(lines(options.study, Path("results"))))
    return 0


def _status(options: argparse.Namespace) -> int:
    from prunegrid.commands.progress import cell_states, control_states

    graph = asked_graph(options)
    states, controls = cell_states(graph, options.study), control_states(graph, options.study)
    for name, state, detail in [*states, *controls]:
        print(f"{state:8} {name}{': ' + detail if detail else ''}")
    counts = Counter(state for _, state, _ in states)
    total = ", ".join(f"{counts[s]} {s}" for s in ("done", "running", "failed", "missing"))
    print(f"{options.study}: {total}")
    if controls:
        made = sum(state == "done" for _, state, _ in controls)
        print(f"controls: {made} of {len(controls)} done")
    return 0


def _repair(options: argparse.Namespace) -> int:
    from prunegrid.commands.repair import repair

    removed = repair()
    for text in removed:
        print(f"removed {text}")
    print(f"{len(removed)} removed; run the same command again" if removed else "all is whole")
    return 0


def _remeasure(options: argparse.Namespace) -> int:
    from prunegrid.commands.remeasure import remeasure, timings

    graph = asked_graph(options)
    removed = remeasure(graph, options.study, every=options.all)
    for text in removed:
        print(f"removed {text}")
    of = len(timings(graph, options.study))
    print(f"{options.study}: {len(removed)} of {of} timings removed")
    if removed:
        command = ["snakemake --cores all", *_given(options), f"results/{options.study}.parquet"]
        print(f"to take them again, with nothing else on the machine: {' '.join(command)}")
    return 0


def _given(options: argparse.Namespace) -> list[str]:
    """Return the options of a config as Snakemake takes them, before the targets."""
    files = [str(path) for together in options.configfile for path in together]
    found = ["--configfile", *files] if files else []
    found += ["--config", *map(shlex.quote, options.config)] if options.config else []
    # Both take as many values as there are: what follows must not be one of theirs.
    return [*found, "--"] if found else []


def _plan(options: argparse.Namespace) -> int:
    from prunegrid.commands import plan

    graph = asked_graph(options)
    found = plan.plan(graph, options.study, Path("results"))
    print("\n".join(plan.lines(found, graph.config.keep_weights)))
    return 0


def _adopt(options: argparse.Namespace) -> int:
    from prunegrid.artifacts.lock import no_live_run
    from prunegrid.commands import adopt
    from prunegrid.graph.pending import pending

    graph = asked_graph(options)
    with no_live_run():
        todo = pending(graph.study_leaves(options.study))
        found = adopt.find(graph, todo, Path("results"))
        taken = adopt.adopt(found, options.because)
    for path in taken:
        print(path)
    print(f"{options.study}: {len(taken)} artifact(s) adopted; {len(todo) - len(taken)} to be made")
    return 0


def _gc(options: argparse.Namespace) -> int:
    from prunegrid.artifacts.lock import no_live_run
    from prunegrid.commands import cli_config as asked
    from prunegrid.commands import collect_garbage

    graphs = asked.stores(options.configfile, options.config)
    # A run that starts meanwhile could plan with what is about to go.
    with no_live_run() if options.delete else contextlib.nullcontext():
        garbage = collect_garbage.find(
            graphs, Path("results"), besides=asked.elsewhere(graphs), tables=options.tables
        )
        if options.delete:
            collect_garbage.remove(garbage)
    for one in garbage:
        part = " (weights)" if one.weights else ""
        print(f"{one.size / 1e6:10.1f} MB  {one.path}{part}  {one.label}")
    size = sum(one.size for one in garbage) / 1e9
    what = "removed" if options.delete else "could go (--delete removes them)"
    print(f"{len(garbage)} folder(s), {size:.2f} GB: {what}")
    return 0


def _estimates(options: argparse.Namespace) -> int:
    from prunegrid.commands import history

    steps = history.read(Path("results"))
    for stage, (count, memory, time) in history.tightest(steps).items():
        print(f"{stage:12} {count:4} steps: at most {memory:.0%} of memory, {time:.0%} of time")
    short = list(history.shortfalls(steps))
    for one, what, asked, measured in short:
        unit = "MB" if what == "memory" else "minutes"
        print(f"too little {what}: {one.label}: asks {asked:,.0f} {unit}, took {measured:,.0f}")
    print(f"{len(steps)} finished steps, {len(short)} took more than is asked for")
    return 1 if short else 0


def _pack(options: argparse.Namespace) -> int:
    from prunegrid.models.packed.packed_checkpoint import pack

    facts = pack(options.folder, options.out)
    forms = ", ".join(f"{number} {form}" for form, number in facts["packed_as"].items())
    share = facts["bytes"] / facts["dense_bytes"]
    print(f"{options.out}: {facts['bytes'] / 1e6:,.1f} MB, {share:.1%} of the dense weights")
    print(f"tensors: {forms}; weights {facts['weights_sha256']}")
    return 0


def _unpack(options: argparse.Namespace) -> int:
    from prunegrid.models.packed.packed_checkpoint import unpack

    print(f"{options.out}: weights {unpack(options.source, options.out)['weights_sha256']}")
    return 0


_COMMANDS = {
    "run": _run,
    "show": _show,
    "verify": _verify,
    "status": _status,
    "repair": _repair,
    "remeasure": _remeasure,
    "plan": _plan,
    "adopt": _adopt,
    "gc": _gc,
    "estimates": _estimates,
    "claims": _claims,
    "pack": _pack,
    "unpack": _unpack,
}

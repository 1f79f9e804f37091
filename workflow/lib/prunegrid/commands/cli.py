"""The command `prunegrid`: plan, status and verification of studies, disk, claims, packing."""

from __future__ import annotations

import argparse
import contextlib
import logging
import shlex
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prunegrid import __version__
from prunegrid.common.errors import PrunegridError
from prunegrid.common.logs import redact


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return options.run(options)
    except (PrunegridError, OSError) as error:
        print(f"prunegrid: {redact(str(error))}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; its results have `run`, the command's function."""
    whole = argparse.ArgumentParser(prog="prunegrid", description=__doc__)
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(dest="command", required=True)

    def command(name: str, run: Callable, text: str, reads: str = "") -> Callable:
        """Add a command that reads a "study", a "config", or both; return its add_argument."""
        one = commands.add_parser(name, help=text)
        one.set_defaults(run=run)
        if "study" in reads:
            one.add_argument("study", help="a name of `studies` in the config")
        if "config" in reads:
            _add_config(one)
        return one.add_argument

    text = "hash, count and score again what a table names; exit 1 on any difference"
    option = command("verify", _verify, text)
    option("table", type=Path, help="results/<study>.parquet")
    option = command("run", _run, "make a study's table with all of this machine", "study, config")
    option("--cores", type=int, help="jobs side by side (default: what may be used)")
    option("--memory", type=int, metavar="MB", help="of all jobs (default: the machine's)")
    command("show", _show, "print a study's table, short", "study")
    text = "done, running, failed and missing cells of a study"
    command("status", _status, text, "study, config")
    command("repair", _repair, "remove damaged artifacts, so that the next run makes them again")
    text = "jobs, hours, memory and disk of a study, before anything runs"
    command("plan", _plan, text, "study, config")
    text = "keep reviewed artifacts of a study under changed code or versions"
    option = command("adopt", _adopt, text, "study, config")
    option("--because", required=True, help="what was reviewed; it stands in the rows")
    text = "remove a study's disturbed timings, so that the next run takes them again"
    option = command("remeasure", _remeasure, text, "study, config")
    option("--all", action="store_true", help="remove all of its timings")
    option = command("gc", _gc, "list what no study of the config needs any more", "config")
    option("--delete", action="store_true", help="remove it (refused while a run is live)")
    option("--tables", action="store_true", help="list also what only tables in results/ name")
    text = "test published conclusions on finished tables; write results/claims.md"
    option = command("claims", _claims, text, "config")
    option("tables", type=Path, nargs="*", help="default: all in results/")
    text = "compare what steps ask for with what finished ones took; exit 1 if one took more"
    command("estimates", _estimates, text)
    option = command("pack", _pack, "write a pruned model folder without its zeros")
    option("folder", type=Path, help="config, safetensors, tokenizer")
    option("out", type=Path, help="a folder that does not exist")
    option = command("unpack", _unpack, "write the model folder that was packed")
    option("source", type=Path, help="a packed folder, or a file in it")
    option("out", type=Path, help="a folder that does not exist")
    return whole


def _add_config(command: argparse.ArgumentParser) -> None:
    """Add the options of the config."""
    text = "laid over config.yaml, as by snakemake --configfile"
    several = {"nargs": "+", "default": []}
    command.add_argument("-c", "--configfile", type=Path, action="append", help=text, **several)
    text = "values over those of the files, as by snakemake --config"
    command.add_argument("--config", metavar="KEY=VALUE", action="extend", help=text, **several)


def _files(options: argparse.Namespace) -> list[Path]:
    """Return the config files of all --configfile options."""
    return [path for together in options.configfile for path in together]


def graph_of(options: argparse.Namespace) -> Any:
    """Return the graph of the config, which must have the study."""
    from prunegrid.commands import cli_config

    return cli_config.graph(_files(options), options.config, options.study)


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
    config, place = cli_config.validated(_files(options), options.config)
    claims = config.sections["claims"]
    require_columns(claims, finished.facts(), place)
    for outcome in page.write(options.tables or finished.find(folder), folder, claims):
        print(f"{outcome.verdict:12} {outcome.name}: {outcome.claim.says}")
    print(f"written: {folder / 'claims.md'}, {folder / 'claims.parquet'}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from prunegrid.commands import cli_config, run

    files, values = _files(options), options.config
    cli_config.require_study(options.study, files, values)
    command = run.command(options.study, files, values, options.cores, options.memory)
    return run.run(options.study, command)


def _show(options: argparse.Namespace) -> int:
    from prunegrid.commands.show import lines

    print("\n".join(lines(options.study, Path("results"))))
    return 0


def _status(options: argparse.Namespace) -> int:
    from prunegrid.commands.progress import cell_states, control_states

    graph = graph_of(options)
    states, controls = cell_states(graph, options.study), control_states(graph, options.study)
    for name, state, detail in [*states, *controls]:
        print(f"{state:8} {name}{': ' + detail if detail else ''}")
    counts = Counter(state for _, state, _ in states)
    total = ", ".join(f"{counts[s]} {s}" for s in ("done", "running", "failed", "missing"))
    print(f"{options.study}: {total}")
    if controls:
        done = sum(state == "done" for _, state, _ in controls)
        print(f"controls: {done} of {len(controls)} done")
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

    graph = graph_of(options)
    removed = remeasure(graph, options.study, every=options.all)
    for text in removed:
        print(f"removed {text}")
    count = len(timings(graph, options.study))
    print(f"{options.study}: {len(removed)} of {count} timings removed")
    if removed:
        files, values = map(str, _files(options)), map(shlex.quote, options.config)
        config = ["--configfile", *files] if options.configfile else []
        config += ["--config", *values] if options.config else []
        # Both take as many values as there are: the table must not be one of theirs.
        config += ["--"] if config else []
        command = ["snakemake --cores all", *config, f"results/{options.study}.parquet"]
        print(f"to take them again, with nothing else on the machine: {' '.join(command)}")
    return 0


def _plan(options: argparse.Namespace) -> int:
    from prunegrid.commands import plan

    graph = graph_of(options)
    whole = plan.plan(graph, options.study, Path("results"))
    print("\n".join(plan.lines(whole, graph.config.keep_weights)))
    return 0


def _adopt(options: argparse.Namespace) -> int:
    from prunegrid.artifacts.lock import no_live_run
    from prunegrid.commands import adopt
    from prunegrid.graph.pending import pending

    graph = graph_of(options)
    with no_live_run():
        todo = pending(graph.study_leaves(options.study))
        adopted = adopt.adopt(adopt.find(graph, todo, Path("results")), options.because)
    for path in adopted:
        print(path)
    counts = f"{len(adopted)} artifact(s) adopted; {len(todo) - len(adopted)} to be made"
    print(f"{options.study}: {counts}")
    return 0


def _gc(options: argparse.Namespace) -> int:
    from prunegrid.artifacts.lock import no_live_run
    from prunegrid.commands import cli_config, collect_garbage

    graphs = cli_config.stores(options.configfile, options.config)
    others = cli_config.elsewhere(graphs)
    # A run that starts meanwhile could plan with what is about to go.
    with no_live_run() if options.delete else contextlib.nullcontext():
        results = Path("results")
        garbage = collect_garbage.find(graphs, results, besides=others, tables=options.tables)
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
    for one, what, estimated, measured in short:
        unit = "MB" if what == "memory" else "minutes"
        print(f"too little {what}: {one.label}: asks {estimated:,.0f} {unit}, took {measured:,.0f}")
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

"""The warm process: it has imported the large packages, and forks for each start it is asked for.

    python warm_server.py <socket>

A step of the tiny study computes for a tenth of a second, and importing torch, transformers and
peft takes five to ten. It imports nothing of prunegrid: that is each run's own. It ends with its
standard input.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading

from sitecustomize import read

PACKAGES = (
    *("bitsandbytes", "datasets", "peft", "pyarrow.parquet", "torch", "tokenizers"),
    *("transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama"),
    *("bert_score", "nltk", "rouge_score.rouge_scorer", "scipy.stats", "sklearn.metrics"),
    *("altair", "matplotlib.pyplot", "pandas", "jsonschema"),
    *("snakemake.cli", "snakemake.api", "snakemake.workflow", "snakemake.script", "sqlmodel"),
)
HERE = os.path.dirname(os.path.abspath(__file__))


def serve(place):
    """Answer starts until standard input ends."""
    given = repr(sorted(read(os.environ).items()))  # before packages add to it
    import_packages()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the supervisors
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(place)
        door.listen(64)
        with open(f"{place}.new", "w") as handle:
            handle.write(given)
        os.replace(f"{place}.new", f"{place}.environment")
        while True:
            ready, _, _ = select.select([door, sys.stdin], [], [])
            if sys.stdin in ready:
                break
            wire, _ = door.accept()
            if os.fork() == 0:
                door.close()
                supervise(wire)
            wire.close()
    shutil.rmtree(os.path.dirname(place), ignore_errors=True)


def import_packages():
    """Import what steps, tables and Snakemake import of others."""
    for name in PACKAGES:
        importlib.import_module(name)


def supervise(wire):
    """Run one start in a process of its own, and tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, files, _, _ = socket.recv_fds(wire, 8, 3)
    with wire.makefile("rb") as handle:
        asked = json.loads(handle.read(int.from_bytes(head, "little")))
    worker = os.fork()
    if worker == 0:
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        wire.close()
        end(run(asked))
    for file in files:
        os.close(file)
    wire.sendall(f"{worker}\n".encode())
    _, status = os.waitpid(worker, 0)
    wire.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def run(asked):
    """Return the exit status of a start: as `python <words>` would run it."""
    words = asked["words"]
    # Who started the tests in a shell's background has it ignored, and hands that down.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    gc.enable()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    path = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    own = [part for part in sys.path if part != HERE]
    sys.argv = words[1:] if words[0] == "-m" else words
    first = asked["folder"] if words[0] == "-m" else os.path.dirname(words[0])
    sys.path[:] = [first, *path, *own]
    importlib.invalidate_caches()
    try:
        if words[0] == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        print(left.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def end(status):
    """End this process as Python would."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    serve(sys.argv[1])

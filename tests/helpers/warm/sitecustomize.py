"""Lets a warm process run what this Python was started for (`tests.helpers.warm`).

Python imports this module by itself where its folder is on PYTHONPATH. A start that the warm
process does not know, or whose environment is another, goes on as ever.
"""

import os
import sys

# What imported packages have read of the environment: equal in both, or this process goes on.
READ = ("HF_", "HUGGING", "OMP_", "MKL_", "ONEDNN_", "ATEN_", "TORCH", "CUDA", "TRANSFORMERS")
READ += ("TOKENIZERS", "NUMBA", "XDG_", "HOME", "NO_PROXY", "PYTHONHASHSEED", "LANG", "LC_")
# But for numbers of threads, which Snakemake gives to each job and a step sets by itself, and what
# a process of prunegrid sets for those that it starts.
UNREAD = ("NUM_THREADS", "DISABLE_PROGRESS_BARS", "XET_HIGH_PERFORMANCE", "INDUCTOR_CACHE_DIR")


def read(environment):
    """Return the part of an environment that imported packages may have read."""
    found = {name: value for name, value in environment.items() if name.startswith(READ)}
    return {name: value for name, value in found.items() if not name.endswith(UNREAD)}


def is_known(words):
    """Return whether these words after `python` start steps, Snakemake or the command."""
    if words[:1] == ["-m"]:
        return words[1] in ("snakemake", "prunegrid", "prunegrid.evaluation.peak_memory")
    script = words[0] if words else ""
    is_job = "/.snakemake/scripts/" in script and script.endswith((".step.py", ".aggregate.py"))
    return is_job or script.endswith("warm/make_all.py")


def _ask(place, words):
    """Have the warm process run the words, with this one's files and folder; end as it ended."""
    import json
    import signal
    import socket

    worker, early = [], []  # its process; signals that came before it was known

    def pass_on(number, frame=None):
        os.kill(worker[0], number) if worker else early.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
        wire.connect(place)
        asked = {"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}
        text = json.dumps(asked).encode()
        socket.send_fds(wire, [len(text).to_bytes(8, "little")], [0, 1, 2])
        wire.sendall(text)
        with wire.makefile("r") as answers:
            worker.append(int(answers.readline()))
            for number in early:
                pass_on(number)
            status = int(answers.readline())
    if status < 0:  # a signal ended it
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if os.environ.get("PRUNEGRID_WARM") and is_known(sys.orig_argv[1:]):
    _place = os.environ["PRUNEGRID_WARM"]
    with open(f"{_place}.environment") as _handle:
        _same = _handle.read() == repr(sorted(read(os.environ).items()))
    if _same:
        _ask(_place, sys.orig_argv[1:])

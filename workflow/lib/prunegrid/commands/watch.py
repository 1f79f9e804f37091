"""A study's progress on the screen, looked at again and again until its run ends."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from prunegrid.commands.progress import Snapshot
from prunegrid.commands.terminal_table import draws

EVERY_SECONDS = 1.0
INTERRUPTED = 130  # a shell's status of a command that Ctrl-C ended


def watch(
    look: Callable[[], Snapshot],
    is_live: Callable[[], bool],
    console: Console,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Show a study's progress until no run is under way; return the exit status.

    On a terminal it is drawn in place. In a pipe it is printed once for each change.

    Args:
        look: returns how far the study is.
        is_live: returns whether a run is under way.
        pause: waits some seconds; KeyboardInterrupt in it ends the watch.

    Returns:
        0 if all of the study is done, 1 if not, INTERRUPTED after Ctrl-C.
    """
    screen = Live(console=console, auto_refresh=False, transient=False)
    last = None
    try:
        with screen:
            while True:
                going = is_live()  # before the look: what a run made last is seen
                now = look()
                if draws(console):
                    screen.update(Text("\n".join([now.head(), *now.now()])), refresh=True)
                elif now.facts() != last:
                    print("\n".join([now.head(), *now.now()]), file=console.file, flush=True)
                last = now.facts()
                if not going:
                    break
                pause(EVERY_SECONDS)
    except KeyboardInterrupt:
        return INTERRUPTED
    if not now.is_done:
        console.print("No run is under way in this folder.", markup=False)
    return 0 if now.is_done else 1

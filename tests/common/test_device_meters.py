"""What is measured of a process is its own."""

import subprocess
import sys

from prunegrid.common.device_meters import peak_memory

CHILD = """
import sys
from prunegrid.common.device_meters import peak_memory
before = peak_memory("cpu")
held = b"x" * (200 * 2**20)
del held
print(before, peak_memory("cpu"), "torch" in sys.modules)
"""


def test_a_peak_is_the_process_own_and_stays_when_memory_goes():
    parent = b"x" * (300 * 2**20)
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    before, after, torch = done.stdout.split()
    assert peak_memory("cpu") > len(parent)
    assert int(before) < 100 * 2**20 and torch == "False"  # a job that needs no torch loads none
    assert 200 * 2**20 <= int(after) < 300 * 2**20

"""`python -m prunegrid` is the command `prunegrid`."""

import sys

from prunegrid.cli import main

sys.exit(main())

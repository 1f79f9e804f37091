"""`python -m prunegrid` is the command `prunegrid`."""

import sys

from prunegrid.commands.cli import main

sys.exit(main())

"""No fine-tuning: the step is left out, and its cell is the one before it."""

TRAINS = False
KEYS = ()
MEMORY = 0

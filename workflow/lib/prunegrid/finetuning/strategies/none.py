"""No fine-tuning: the step is left out, and its cell is the one before it."""

CITE: tuple[str, ...] = ()  # none: changes nothing
TRAINS = False
FITS = ("causal-lm", "seq2seq-lm", "masked-lm", "encoder")
KEYS = ()
MEMORY = 0

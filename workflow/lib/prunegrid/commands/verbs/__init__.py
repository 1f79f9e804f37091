"""The commands `prunegrid VERB`, a file each: its docstring is its help."""

"""The command line: `prunegrid VERB`."""

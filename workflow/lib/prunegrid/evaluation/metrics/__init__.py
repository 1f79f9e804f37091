"""Metrics of texts, one file each, found by the name of the file; nothing here imports them."""

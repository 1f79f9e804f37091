"""Baselines: predictions without a model, one file each, found by the name of the file.

A baseline declares `SETTINGS` (its settings and their defaults) and
`predict(rows, settings, seed) -> list[str]`: one text for each row (columns id, document, summary).
"""

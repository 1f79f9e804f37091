"""Controls: texts without a model, one file each, found by the name of the file.

Each declares, as literals, `ROLE`, `SETTINGS` (its settings and their defaults), `DRAWS = True`
where it draws, `READS = ("prompt",)` where it needs the data set's prompt; and
`predict(rows, settings, seed) -> list[str]`: one text for each row (columns id, document, summary;
all str). A setting that makes no sense is a ValueError. `seed` is None where nothing is drawn.

A role is one of
- "baseline": what a reader gets without a model; a model should do better;
- "oracle": written with the reference in view; what could be reached;
- "gaming": a text that no reader would take for a summary; a metric that it wins says nothing.
"""

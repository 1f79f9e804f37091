"""Probes: items of multiple choice that are made here, one file for each probe.

A file of this folder is a probe of its name, the source `probe:<name>`. Its `items()` returns the
same rows at every call: columns of its own, `options` (texts), and `answer`, the place of the right
option among them.
"""

"""Sources of models and data: the hub, wheels of the package index, local files, a config.

A source resolves to files on this disk and to facts about them (commit or version, licence, SHA-256
of each file). None ever falls back to another model or data set.
"""

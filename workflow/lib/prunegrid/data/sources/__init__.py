"""Where models and data come from: the hub, wheels of the package index, local files, a config.

Every source resolves to files that are already on this disk and to facts about them (commit or
version, licence, SHA-256 of each file). None of them ever falls back to another model or data set.
"""

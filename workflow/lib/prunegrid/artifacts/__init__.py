"""Artifacts: folders that are whole or absent, with a manifest, a key and a lock."""

"""The results: one schema, rows from manifests, files for people and programs."""

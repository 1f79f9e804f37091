"""Data: rows, texts and prompts, and their sources."""

"""Data: rows, texts and prompts, and where they come from."""

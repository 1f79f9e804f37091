"""Benchmarks by lm-evaluation-harness: its tasks, prompts and scores over this pipeline's data."""

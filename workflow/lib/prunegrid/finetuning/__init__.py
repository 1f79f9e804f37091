"""Fine-tuning strategies, one a file, found by name: `tune(context, settings) -> dict`."""

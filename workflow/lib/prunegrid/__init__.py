"""prunegrid: prune language models, fine-tune them back, and measure what is left."""

__version__ = "0.1.0"

"""prunegrid: prune language models, fine-tune them back, and measure what is left."""

__version__ = "0.1.0"


def __getattr__(name: str):
    """Return `prune`, which takes torch: it is imported when it is asked for."""
    if name == "prune":
        from prunegrid.pruning.in_memory import prune

        return prune
    raise AttributeError(f"module 'prunegrid' has no attribute '{name}'")

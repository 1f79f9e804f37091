"""prunegrid: prune language models, fine-tune them back, and measure what is left."""

__version__ = "0.1.0"


def __getattr__(name: str):
    """Return `prune` or `load_packed`, which take torch: imported when they are asked for."""
    if name == "prune":
        from prunegrid.pruning.in_memory import prune

        return prune
    if name == "load_packed":
        from prunegrid.models.packed.packed_model import load_packed

        return load_packed
    raise AttributeError(f"module 'prunegrid' has no attribute '{name}'")

"""Packed weights: files without the zeros that lose no bit, and models that run from them."""

"""Packed weights: files without the zeros that lose no bit, and their sizes."""

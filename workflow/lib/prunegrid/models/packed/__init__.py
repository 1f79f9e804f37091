"""Weights on disk without their zeros, bit for bit, and how small they are."""

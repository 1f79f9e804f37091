"""Evaluation: what is left of a model, measured."""

"""Colours of the page's charts: told apart with the common colour-vision deficiencies."""

from __future__ import annotations

# Okabe and Ito's, without the yellow and the black, which one of the two backgrounds swallows.
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
DENSE, FAILED = "#8C8C8C", "#9AA3AC"
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")

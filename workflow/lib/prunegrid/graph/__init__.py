"""From the cells of the grid to artifacts with keys."""

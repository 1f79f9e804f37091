"""Training: what a step learns from, its loss, the loop, its checkpoints, the choice of a rate."""

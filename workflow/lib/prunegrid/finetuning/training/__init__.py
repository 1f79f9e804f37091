"""Training: examples, loss, loop, checkpoints, and the choice of a learning rate."""

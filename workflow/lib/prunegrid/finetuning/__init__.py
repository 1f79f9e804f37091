"""Fine-tuning: training what is left, and steps that change weights without training."""

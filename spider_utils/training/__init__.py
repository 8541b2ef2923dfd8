"""Training: one fit loop for all networks, losses, checkpoints."""

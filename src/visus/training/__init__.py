"""Training: recipe, optimizers, loss, loop, checkpoints, processes, and the run folder."""

"""From a network and batches to trained weights: recipe, optimizers, loop, checkpoints, and the run folder.

This room knows how a training is carried out and kept.
"""

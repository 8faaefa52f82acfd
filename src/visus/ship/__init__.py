"""Bundles: a trained network with everything from a file to a probability, and the proof that it answers as the run did."""

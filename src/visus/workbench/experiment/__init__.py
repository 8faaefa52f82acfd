"""Experiments: a run is trained again with one change, and both are compared."""

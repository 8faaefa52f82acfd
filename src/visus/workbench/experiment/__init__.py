"""Twins of a run that answer a question."""

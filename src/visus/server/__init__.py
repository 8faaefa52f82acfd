"""Predictions over HTTP: ``visus serve``."""

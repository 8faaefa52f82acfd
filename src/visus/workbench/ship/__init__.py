"""Bundles of runs: exported, opened, verified."""

"""Advice on a design: one file for each kind, with its facts and the remedies that were tried."""

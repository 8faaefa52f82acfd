"""Predictions for any number of samples, written to a table in parts, so that a stopped or killed command continues. Works without PyTorch."""

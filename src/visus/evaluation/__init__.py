"""Evaluation: predictions, metrics with confidence intervals, calibration, shift consistency, paired comparison."""

"""A finished or stopped run: predictions, scores and mistakes."""

"""A finished or stopped run: what it predicts, how good it is, where it is wrong."""

"""The report of a run, from its folder and its data."""

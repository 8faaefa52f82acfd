"""The report of a run, gathered from its folder and its data."""

"""From data and a network to a run folder."""

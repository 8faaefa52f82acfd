"""Training: from data and a network to a run folder."""

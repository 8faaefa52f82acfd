"""Shows the inside of a network for one sample."""

"""Tasks: what a network predicts for a sample, how it is trained and how it is scored. One file for each; ``task`` has their common form."""

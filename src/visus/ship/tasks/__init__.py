"""What a bundle's network returns for each task, in NumPy: one file for each task; ``task`` has their common form."""

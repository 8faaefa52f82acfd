"""The page of a look into a network."""

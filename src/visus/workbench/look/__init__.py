"""From a network and a sample to all that can be seen inside."""

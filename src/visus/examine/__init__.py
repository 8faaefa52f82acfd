"""Looking at a trained network and telling people what was found. It must not know training."""

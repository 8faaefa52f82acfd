"""Running a network over items and scoring what it says. It must not know training, plots or printing."""

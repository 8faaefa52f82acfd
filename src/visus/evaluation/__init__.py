"""Running a network over samples and scoring what it says."""

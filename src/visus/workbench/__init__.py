"""One function for each thing that a person can ask for; results are plain objects, progress comes as events."""

"""The functions behind the commands of visus: they return plain objects and report progress as events."""

"""What a person could take instead of visus, each trained as its own documentation writes it, in a process of its own.

None of the packages is needed by visus; one that is not installed is left out by the caller. ``python benchmarks/peers
TASK.json`` trains once and writes a line of JSON for each thing that happened.
"""

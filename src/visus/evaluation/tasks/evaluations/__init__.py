"""How a run is evaluated for each task: its calibration, scores and comparisons. One file for each task; ``evaluation`` has their common form."""

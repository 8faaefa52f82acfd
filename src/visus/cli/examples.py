"""The examples of each command: its help ends with them, and the reference shows them."""

from __future__ import annotations

from typing import Final

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "train": ("visus train photos", 'visus train photos -m "resnet(18)" --epochs 20 --name first'),
    "tune": (
        "visus tune photos --time-limit 1h",
        "visus tune photos --trials 20 --search lr=0.01..0.3",
    ),
    "evaluate": ("visus evaluate runs/first --shifts --mistakes", "visus evaluate runs/first newer-photos"),
    "predict": (
        "visus predict runs/first new-photos --out labels.csv",
        "visus predict runs/first new-photos --sort-into sorted --at-least 0.9",
    ),
    "check": ("visus check photos --augment --set color=0.3", "visus check table.csv --labels species"),
    "summary": (
        'visus summary "resnet(18)" --input 3,64,64 --classes 10 --object-size 40',
        'visus summary "conv(32, 3), relu, globalpool, linear(classes)" --input 1,28,28',
    ),
    "diff": ('visus diff "resnet(18)" "resnet(34)" --input 3,224,224',),
    "solve": ("visus solve --in 224 --kernel 7 --stride 2 --out 112", "visus solve --field 100 --input 3,224,224"),
    "compare": ("visus compare runs/first runs/second", "visus compare runs/first runs/second --data new-photos"),
    "experiment mlp": ("visus experiment mlp runs/first --shuffle-pixels",),
    "experiment shuffle": ("visus experiment shuffle runs/first",),
    "experiment task": ("visus experiment task runs/first --task reconstruction",),
    "experiment antialias": ("visus experiment antialias runs/first",),
    "report": ("visus report runs/first", "visus report runs/first /new/place/photos"),
    "look": (
        "visus look runs/first photos/cat/1.jpg",
        "visus look runs/first photos/cat/1.jpg --layer conv1 --channel 3",
    ),
    "export": ("visus export runs/first", "visus export runs/first -o first.zip --license MIT"),
    "verify": ("visus verify first-bundle", "visus verify first.zip --engine onnxruntime"),
    "serve": ("visus serve runs/first", "visus serve bundle --host 0.0.0.0 --token-file token"),
    "cache": ("visus cache", "visus cache --empty --older-than 7d"),
    "doctor": ("visus doctor", "visus doctor --json"),
    "benchmark": ("visus benchmark runs/first", 'visus benchmark "resnet(18)" --input 3,64,64 --classes 10'),
}
"""One or two examples for each command, by its words; each line fits into 80 columns with its indentation."""

"""Makes the figures of the documentation: ``scripts/pictures`` calls it."""

from __future__ import annotations

import argparse
import sys

from figures.browser import BrowserError
from figures.figures import FIGURES, make


def main() -> int:
    """Make the figures that are named, or all; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/pictures",
        description="Draws the images of README.md and the documentation (docs/pictures/*.png) from what visus computes and prints now.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(FIGURES)}; default: all")
    parser.add_argument(
        "--train", action="store_true", help="first train the runs that they are drawn from anew, which takes minutes"
    )
    asked = parser.parse_args()
    if unknown := [name for name in asked.names if name not in FIGURES]:
        parser.error(f"no such figure: {', '.join(unknown)}. Known: {', '.join(FIGURES)}.")
    names = asked.names or list(FIGURES)
    if asked.train:
        from figures.training import train_runs

        train_runs(names)
    try:
        for name in names:
            print(f"docs/pictures/{name}.png: {make(name):,} bytes", flush=True)
    except BrowserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

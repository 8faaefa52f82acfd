"""``python -m visus`` is the command line."""

from visus.cli import main

main()

"""``python -m visus`` is the command line.

This file knows the name of the door.
"""

from visus.cli import main

main()

"""``python -m visus`` is the command line.

This file knows the name of the door. It must not know anything else.
"""

from visus.cli import main

main()

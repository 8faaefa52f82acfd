"""Options that several commands have, with the same words."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Raw = Annotated[bool, typer.Option("--raw", help="Use the network's own probabilities, not calibrated.")]

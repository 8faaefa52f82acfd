"""The check of a bundle in a process of its own, in which PyTorch cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import visus.errors
from visus.errors import BundleError, VisusError
from visus.ship.parity import Check, checks_from_json


def check_in_other_process(
    bundle: Path, engines: Sequence[str] = (), precision: str = "float32", batches: Sequence[int] = ()
) -> tuple[Check, ...]:
    """``check_bundle`` in a process of its own, without PyTorch.

    Raises:
        VisusError: what ``check_bundle`` raises there; a ``BundleError`` if the process ended without a result.
    """
    options = [word for name in engines for word in ("--engine", name)]
    options += [word for size in batches for word in ("--batch", str(size))]
    command = [sys.executable, "-m", "visus.ship", "verify", str(bundle), "--precision", precision, "--json", *options]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    try:
        found = json.loads(done.stdout.strip().splitlines()[-1])
        if not done.returncode:
            return checks_from_json(json.dumps(found))
        error: VisusError = getattr(visus.errors, found["error"])(found["message"], where=found["where"])
    except (ValueError, IndexError, KeyError, TypeError, AttributeError):
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BundleError(
            f"the process that checks it ended with the exit code {done.returncode}: {said}", where=str(bundle)
        ) from None
    raise error

"""``python -m visus.ship verify BUNDLE``: the check of a bundle with numpy, pillow and an engine alone; PyTorch cannot be imported here."""

from __future__ import annotations

import sys

sys.modules["torch"] = None  # type: ignore[assignment]

import argparse
import json
from pathlib import Path

from visus.errors import VisusError
from visus.ship.files import BundleFiles
from visus.ship.parity import BATCHES, check_bundle, checks_as_json


def main() -> int:
    """Verify a bundle. Returns the exit code: 0, or that of the error."""
    parser = argparse.ArgumentParser(prog="python -m visus.ship", description=__doc__)
    parser.add_argument("action", choices=["verify"])
    parser.add_argument("bundle", type=Path, help="folder or zip file of the bundle")
    parser.add_argument(
        "--engine", action="append", default=[], help="onnxruntime or openvino; default: each that is installed"
    )
    parser.add_argument("--precision", default="float32", help="precision of the arithmetic")
    parser.add_argument("--batch", action="append", type=int, help="size of the batches; default: 1, 2, 7 and 64")
    parser.add_argument("--json", action="store_true", help="print one JSON value")
    options = parser.parse_args()
    try:
        checks = check_bundle(BundleFiles(options.bundle), options.engine, options.precision, options.batch or BATCHES)
    except VisusError as error:
        if options.json:
            print(json.dumps({"error": type(error).__name__, "message": error.message, "where": error.where}))
        else:
            print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(checks_as_json(checks) if options.json else "\n".join(each.sentence() for each in checks))
    return 0


if __name__ == "__main__":
    sys.exit(main())

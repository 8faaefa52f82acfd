"""Law: engines and quantizers never open a socket. NNCF and OpenVINO's converter count their users over the network if nothing stops them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.ship import tiny_bundles

import visus

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

BLOCKED = """
import socket, sys

opened = []

def audit(event, arguments):
    # every socket of Python, and every lookup of a name, passes one of these
    if event.startswith("socket."):
        opened.append(event)
        raise OSError(f"blocked: {event}")
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"):
        opened.append(f"{event} {arguments[0]}")

sys.addaudithook(audit)
try:
    socket.socket()
except OSError:
    assert opened == ["socket.__new__"], opened
else:
    raise SystemExit("the block does not block")
opened.clear()

import atexit, os

def at_exit():
    # what native code has opened, too
    targets = [os.readlink(f"/proc/self/fd/{each}") for each in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{each}")]
    print("opened:", opened + [each for each in targets if each.startswith("socket:")])

atexit.register(at_exit)  # the last that is registered runs first, so this runs after those of the libraries

from pathlib import Path
import numpy as np
from visus.ship.files import BundleFiles
from visus.ship.engines import open_engine
from visus.ship.proof import read_proof

files = BundleFiles(Path(sys.argv[1]))
samples = read_proof(files).samples
"""
USES = {
    "engines": """
for name in ("onnxruntime", "openvino"):
    open_engine(files, name, "float32", 1).run(samples)
""",
    "quantizers": """
from visus.ship.quantize import quantized
contents = {name: files.read(name) for name in files.manifest.files}
many = np.tile(samples, (4, 1, 1, 1))[:300]
for method in ("onnxruntime", "nncf"):
    quantized(contents["network.onnx"], contents, many, method)
""",
}


@pytest.mark.parametrize("use", ["engines", pytest.param("quantizers", marks=pytest.mark.slow)])
def test_nothing_opens_a_socket(use: str, tmp_path: Path) -> None:
    if use == "quantizers":
        pytest.importorskip("nncf")
    environment = {name: value for name, value in os.environ.items() if name not in ("NNCF_CI", "CI", "PYTEST_CURRENT_TEST")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(Path(visus.__file__).parents[1])}
    script = BLOCKED + USES[use]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_bundles.bundle())],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "opened: []"
    assert not list(tmp_path.rglob("*telemetry*")), "a library left the identity of its user"


@pytest.mark.long
def test_no_module_uses_what_counts_its_users() -> None:
    """OpenVINO's converter sends events, and NNCF is imported by one function alone, which stops it."""
    found = []
    for path in Path(visus.__file__).parent.rglob("*.py"):
        text = path.read_text("utf-8")
        if "nncf" not in text and "openvino" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            names = [each.name for each in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
            if isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
            attribute = node.attr if isinstance(node, ast.Attribute) else ""
            if attribute == "convert_model" or any(
                each == "convert_model" or each.startswith("openvino.tools") for each in names
            ):
                found.append(f"{path.name}: converter")
            if any(each == "nncf" or each.startswith("nncf.") for each in names):
                found.append(f"{path.name}: nncf")
    assert found == ["quantize.py: nncf"]

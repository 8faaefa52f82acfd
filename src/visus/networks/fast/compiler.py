"""Compiles the C++ kernels on first use, for this processor, into the user's cache folder.

Installation compiles nothing. Without a C++ compiler or the processor's instructions, PyTorch's own kernels compute everything.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import platformdirs
import torch

from visus import files
from visus.limits import usable_cores

_FOLDER = Path(__file__).parent
_UNITS = ("kernels.cpp", "depthwise.cpp", "stored_norms.cpp")  # compiled in parallel, then linked
_HEADERS = ("processor.h", "activations.h")
_FLAGS = (
    "-O3",
    "-std=c++17",
    "-fPIC",
    "-mavx512f",
    "-mavx512bw",
    "-mavx512vl",
    "-mavx512dq",
    "-mavx512bf16",
    "-mfma",
)
_COMPILERS = ("c++", "g++", "clang++")
_TIMEOUT_S = 120.0
TOO_LATE: Final = "compiling them takes longer than the time limit leaves"
"""Why there are no kernels where ``allow_compiling`` gave too little time."""


class _NoKernelsError(Exception):
    """There are no compiled kernels; the message says why, in one sentence."""


class _Allowed:
    """Seconds that compiling the kernels may take in this process."""

    seconds = _TIMEOUT_S


def source() -> bytes:
    """The source text of all kernels; hashes of it name the library and the files of measurements."""
    return b"".join(_FOLDER.joinpath(name).read_bytes() for name in (*_HEADERS, *_UNITS))


def cache_folder() -> Path:
    """Folder of compiled kernels and stored plans: in ``VISUS_CACHE``, else in the system's user cache folder."""
    return files.cache_folder(lambda: platformdirs.user_cache_dir("visus", appauthor=False)) / "kernels"


def why_no_kernels() -> str:
    """Why the compiled kernels are unavailable, in one sentence; empty if they are available."""
    found = _library()
    return found if isinstance(found, str) else ""


def kernels() -> ctypes.CDLL | None:
    """The compiled kernels, which the first call compiles; None if they are unavailable."""
    found = _library()
    return None if isinstance(found, str) else found


def allow_compiling(seconds: float = math.inf) -> None:
    """Limit the seconds that compiling the kernels may take in this process; 0 compiles nothing. Kernels that are compiled stay in use.

    Without kernels in time, PyTorch's own compute everything until the next call.
    """
    _Allowed.seconds = min(seconds, _TIMEOUT_S)
    if _library.cache_info().currsize and _library() == TOO_LATE:
        _library.cache_clear()


def check_status(status: int) -> None:
    """Check the status that a kernel returns.

    Raises:
        torch.OutOfMemoryError: the kernel could not allocate its scratch memory.
    """
    if status:
        raise torch.OutOfMemoryError("a compiled kernel could not allocate memory; use smaller batches or fewer threads")


@functools.cache
def _library() -> ctypes.CDLL | str:
    try:
        return _load(_compiled_library())
    except _NoKernelsError as error:
        return str(error)


def _compiled_library() -> Path:
    """Path of the shared library for this source, compiler and machine; compiled now if it is missing."""
    if os.environ.get("VISUS_KERNELS", "").lower() in ("0", "off", "no"):
        raise _NoKernelsError("the environment variable VISUS_KERNELS turns them off")
    if platform.machine().lower() not in ("x86_64", "amd64") or not _has_instructions():
        raise _NoKernelsError("this processor has no AVX-512 BF16")
    if sys.platform == "win32":
        raise _NoKernelsError("they do not support Windows")
    compiler = find_compiler()
    if compiler is None:
        raise _NoKernelsError("there is no C++ compiler (c++, g++ or clang++); install one, or set CXX")
    text = source() + " ".join((compiler, *_FLAGS, platform.platform())).encode()
    library = cache_folder() / f"{hashlib.blake2b(text, digest_size=12).hexdigest()}.so"
    if not library.is_file():
        if _Allowed.seconds <= 0:
            raise _NoKernelsError(TOO_LATE)
        _compile(compiler, library, time.perf_counter() + _Allowed.seconds)
    return library


def find_compiler() -> str | None:
    """The command of a C++ compiler: the value of ``CXX``, else one of the system's; None if there is none."""
    return next((name for name in (os.environ.get("CXX", ""), *_COMPILERS) if name and shutil.which(name)), None)


def _compile(compiler: str, library: Path, until: float) -> None:
    """Compile to a temporary file and rename it, so that no other process loads an incomplete library.

    Args:
        compiler: command of the compiler.
        library: path of the library.
        until: value of ``time.perf_counter`` at which it gives up.
    """
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=f".{library.stem}.") as folder:
            objects = [Path(folder, name).with_suffix(".o") for name in _UNITS]
            commands = [
                [compiler, *_FLAGS, "-c", str(_FOLDER / name), "-o", str(made)]
                for name, made in zip(_UNITS, objects, strict=True)
            ]
            with ThreadPoolExecutor(max_workers=usable_cores()) as workers:
                list(workers.map(functools.partial(_run, until=until), commands))
            part = Path(folder, "library.so")
            _run([compiler, "-shared", *map(str, objects), "-o", str(part)], until)
            os.replace(part, library)
    except subprocess.TimeoutExpired as error:
        if _Allowed.seconds < _TIMEOUT_S:
            raise _NoKernelsError(TOO_LATE) from error
        raise _NoKernelsError(f"{compiler} could not compile them: it took longer than {_TIMEOUT_S:.0f} s") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise _NoKernelsError(f"{compiler} could not compile them: {error}") from error


def _run(command: list[str], until: float) -> None:
    """Run a compiler until a value of ``time.perf_counter``; raise with its first error line."""
    seconds = max(0.0, until - time.perf_counter())
    result = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    if result.returncode:
        message = next((line for line in result.stderr.splitlines() if "error" in line), result.stderr.strip()[:200])
        raise _NoKernelsError(f"{command[0]} could not compile them: {message}")


def _load(library: Path) -> ctypes.CDLL:
    """Load the library, and connect it to PyTorch's OpenMP threads."""
    try:
        loaded = ctypes.CDLL(str(library))
    except OSError as error:
        raise _NoKernelsError(f"the compiled library could not be loaded: {error}") from error
    pool = _openmp()
    if pool:
        entries = (pool.GOMP_parallel, pool.omp_get_thread_num, pool.omp_get_num_threads)
        loaded.visus_threads(*(ctypes.cast(entry, ctypes.c_void_p) for entry in entries))
    return loaded


def _openmp() -> ctypes.CDLL | None:
    """The GNU OpenMP library that PyTorch has loaded into this process; None if PyTorch uses another one."""
    try:
        places = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"(/\S*libgomp[^\s/]*\.so\S*)", places)
        return ctypes.CDLL(found[1]) if found else None
    except OSError:
        return None


def _has_instructions() -> bool:
    """Whether this processor has AVX-512 with bfloat16."""
    is_supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private; if it is missing, the answer is no
    return bool(is_supported and is_supported())

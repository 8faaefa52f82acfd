"""The C++ kernels, compiled on first use for this processor, kept in the user's cache folder.

This file knows compilers and shared libraries.

Nothing is compiled at installation, and nothing is needed: where there is no compiler, or the processor lacks the
instructions, everything is computed by PyTorch's own kernels.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
import torch

from visus import files
from visus.limits import usable_cores

_FOLDER = Path(__file__).parent
_UNITS = ("kernels.cpp", "depthwise.cpp", "stored_norms.cpp")  # compiled one by one, side by side, and linked
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
_LIMIT_S = 120.0


class _NoKernelsError(Exception):
    """Why there are no compiled kernels here, in one sentence."""


def source() -> bytes:
    """The text of all kernels, from which the library, and what was measured with it, take their names."""
    return b"".join(_FOLDER.joinpath(name).read_bytes() for name in (*_HEADERS, *_UNITS))


def cache_folder() -> Path:
    """Where compiled kernels and remembered choices lie: ``VISUS_CACHE``, else the user's cache folder of this system."""
    return files.cache_folder(lambda: platformdirs.user_cache_dir("visus", appauthor=False)) / "kernels"


def why_no_kernels() -> str:
    """Why the compiled kernels are not used here, in one sentence; empty where they are."""
    found = _library()
    return found if isinstance(found, str) else ""


def kernels() -> ctypes.CDLL | None:
    """The compiled kernels, compiled now where that was not done before; None where there are none."""
    found = _library()
    return None if isinstance(found, str) else found


def check_status(status: int) -> None:
    """Look at what a kernel gave back.

    Raises:
        torch.OutOfMemoryError: it had no memory to work in (a ``RuntimeError``, as where PyTorch has none).
    """
    if status:
        raise torch.OutOfMemoryError("a compiled kernel found no memory to work in; take smaller batches or fewer threads")


@functools.cache
def _library() -> ctypes.CDLL | str:
    try:
        return _load(_compiled())
    except _NoKernelsError as error:
        return str(error)


def _compiled() -> Path:
    """The shared library of this source, compiler and machine."""
    if os.environ.get("VISUS_KERNELS", "").lower() in ("0", "off", "no"):
        raise _NoKernelsError("the environment variable VISUS_KERNELS switches them off")
    if platform.machine().lower() not in ("x86_64", "amd64") or not _has_instructions():
        raise _NoKernelsError("this processor has no AVX-512 BF16")
    if sys.platform == "win32":
        raise _NoKernelsError("they are not compiled on Windows")
    compiler = find_compiler()
    if compiler is None:
        raise _NoKernelsError("there is no C++ compiler (c++, g++ or clang++); install one, or name one with CXX")
    text = source() + " ".join((compiler, *_FLAGS, platform.platform())).encode()
    library = cache_folder() / f"{hashlib.blake2b(text, digest_size=12).hexdigest()}.so"
    if not library.is_file():
        _compile(compiler, library)
    return library


def find_compiler() -> str | None:
    """The command of a C++ compiler: the one that ``CXX`` names, else one of the system; None where there is none."""
    return next((name for name in (os.environ.get("CXX", ""), *_COMPILERS) if name and shutil.which(name)), None)


def _compile(compiler: str, library: Path) -> None:
    """Compile beside the place and rename, so that two processes do not meet half a library."""
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent, prefix=f".{library.stem}.") as folder:
            objects = [Path(folder, name).with_suffix(".o") for name in _UNITS]
            commands = [
                [compiler, *_FLAGS, "-c", str(_FOLDER / name), "-o", str(made)]
                for name, made in zip(_UNITS, objects, strict=True)
            ]
            with ThreadPoolExecutor(max_workers=usable_cores()) as workers:
                list(workers.map(_run, commands))
            part = Path(folder, "library.so")
            _run([compiler, "-shared", *map(str, objects), "-o", str(part)])
            os.replace(part, library)
    except (OSError, subprocess.SubprocessError) as error:
        raise _NoKernelsError(f"{compiler} could not compile them: {error}") from error


def _run(command: list[str]) -> None:
    """Run a compiler."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:200])
        raise _NoKernelsError(f"{command[0]} could not compile them: {said}")


def _load(library: Path) -> ctypes.CDLL:
    """The library, with the threads of PyTorch's own pool."""
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
    """GNU's OpenMP library that PyTorch has loaded into this process; None where it has another one."""
    try:
        places = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        found = re.search(r"(/\S*libgomp[^\s/]*\.so\S*)", places)
        return ctypes.CDLL(found[1]) if found else None
    except OSError:
        return None


def _has_instructions() -> bool:
    """Whether this processor has AVX-512 with bfloat16."""
    question = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private: absent counts as no
    return bool(question and question())

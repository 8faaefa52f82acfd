"""Signals as WAV files -> one NPZ that ``visus train`` reads, with the published split of the spoken digits.

    python benchmarks/signals.py FOLDER OUTPUT.npz [--length 8000]

Files are called ``<label>_<speaker>_<take>.wav``: 16-bit, one channel, all of one rate. Each becomes ``length`` samples: the middle of a longer
one, a shorter one in the middle of silence; how many were cut or filled is printed. Takes 0 to 4 are the test split.
"""

from __future__ import annotations

import argparse
import wave
from pathlib import Path

import numpy as np


def read(file: Path, length: int) -> tuple[np.ndarray, int]:
    """The samples of a signal, shape (1, length), as int16, and how many it had."""
    with wave.open(str(file)) as sound:
        if (sound.getnchannels(), sound.getsampwidth()) != (1, 2):
            raise SystemExit(f"{file}: one channel of 16-bit samples is needed.")
        samples = np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2")
    result = np.zeros((1, length), dtype=np.int16)
    kept = samples[max(0, (len(samples) - length) // 2) :][:length]
    start = (length - len(kept)) // 2
    result[0, start : start + len(kept)] = kept
    return result, len(samples)


def main() -> None:
    """Write the NPZ."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("output", type=Path)
    options.add_argument("--length", type=int, default=8000)
    chosen = options.parse_args()
    parts: dict[str, list[tuple[np.ndarray, str]]] = {"train": [], "test": []}
    lengths = []
    for file in sorted(chosen.folder.glob("*.wav")):
        label, _, take = file.stem.split("_")
        samples, length = read(file, chosen.length)
        lengths.append(length)
        parts["test" if int(take) < 5 else "train"].append((samples, label))
    arrays = {}
    for name, rows in parts.items():
        arrays[f"x_{name}"] = np.stack([samples for samples, _ in rows])
        arrays[f"y_{name}"] = np.array([label for _, label in rows])
    np.savez_compressed(chosen.output, **arrays)
    cut = sum(length > chosen.length for length in lengths)
    print(
        f"{len(lengths)} signals of {chosen.length} samples: {cut} cut, {len(lengths) - cut} filled with silence; {chosen.output}"
    )


if __name__ == "__main__":
    main()

"""A network without weights for tests of bulk prediction: the brightness of an image of 4 x 4 decides. Other processes can import it."""

from __future__ import annotations

import functools
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from visus.data.preprocessing import Preprocessing
from visus.workbench.runs.bulk.predicting import predict_to
from visus.workbench.runs.prediction import Decision


class Brightness:
    """Three classes: dark, middle, light."""

    classes = ("dark", "middle", "light")
    preprocessing = Preprocessing("images", 1, (4, 4), "squash", "uint8", "mean-deviation", (0.0,), (255.0,))
    num_threads = 1
    decision = Decision()

    def __init__(self, chunk: int = 16, name: str = "the run brightness", identity: str = "1", seconds: float = 0.0) -> None:
        self.chunk, self.name, self.identity, self.seconds = chunk, name, identity, seconds

    @property
    def reopen(self) -> Callable[[], Brightness]:
        """The same in another process."""
        return functools.partial(Brightness, self.chunk, self.name, self.identity, self.seconds)

    def probabilities(self, samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Probabilities (N, 3)."""
        time.sleep(self.seconds)
        middle = samples.reshape(len(samples), -1).mean(axis=1, dtype=np.float64)[:, None] / 255
        powers = np.exp(-10 * np.abs(middle - [0.2, 0.5, 0.8]))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def learned(self, samples: npt.NDArray[Any]) -> Iterable[int]:
        """Nothing."""
        return ()


def write_images(folder: Path, number: int) -> Path:
    """Images of 4 x 4 with names in order, and their brightness in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in range(number):
        Image.new("L", (4, 4), place * 37 % 256).save(folder / f"{place:06}.png")
    return folder


if __name__ == "__main__":
    source, out, size, seconds, *task = sys.argv[1:]
    network = Brightness(seconds=float(seconds))
    if task:
        network.decision = Decision(task[0], (0.3, 0.4, 0.35), (0.5, 1.0, 2.0))
    predict_to(network, source, out, part_size=int(size), progress=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)

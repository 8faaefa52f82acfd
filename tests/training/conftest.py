"""A small dataset of real arithmetic, so that a training takes a second: bright and dark squares to tell apart."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch

from visus.training.recipe import Recipe

MAX_S = 50  # that processes of a test may take
PRELOADED = ["pytest", "torch.distributed", "torch._dynamo", "visus.workbench.train.training"]


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 gray images of 8 x 8 in three classes: how bright the upper left quarter is."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = rng.integers(0, 90, (120, 1, 8, 8), dtype=np.uint8)
    images[:, :, :4, :4] += (labels * 80).astype(np.uint8)[:, None, None, None]
    file = tmp_path_factory.mktemp("data") / "squares.npz"
    np.savez(file, x=images, y=labels)
    return file


@pytest.fixture
def quick() -> Recipe:
    """Three epochs of small batches in float32."""
    return Recipe(epochs=3, batch_size=16, learning_rate=0.01, precision="float32", device="cpu")


@pytest.fixture
def in_processes() -> Callable[..., list[Any]]:
    """``in_processes(3, function, *arguments)``: what the function returned in each of three processes that train together.

    If a process raised an error, the error is there in place of the result; None for a process that ended without any. With ``store`` (a
    ``TCPStore`` that the test keeps, as torchrun keeps one) the processes can be started again. What the test patched in its own process is not
    patched in them: the function patches it.
    """
    return run_in_processes


class _ByValue:
    """Any function, also one that is defined inside a test, in a form that another process can read."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __reduce__(self) -> tuple[Any, ...]:
        for name in (self._function.__module__, __name__):
            cloudpickle.register_pickle_by_value(sys.modules[name])
        return cloudpickle.loads, (cloudpickle.dumps(self._function),)


def run_in_processes(num: int, function: Callable[..., Any], *arguments: Any, store: Any = None) -> list[Any]:
    """As the fixture says.

    The processes are forks of a server that has imported PyTorch and visus and computed nothing: a fork of a process in which threads of OpenMP or
    oneDNN have run can wait for them forever.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = store.port if store is not None else free.getsockname()[1]
    pipes = [context.Pipe(duplex=False) for _ in range(num)]
    own, keeps_store = dict(os.environ), str(store is not None)

    def body(rank: int, end: Any, function: Callable[..., Any]) -> None:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num, "LOCAL_WORLD_SIZE": num, "MASTER_PORT": port}
        os.environ.clear()
        os.environ.update(own | {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"})
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = keeps_store
        torch.set_num_threads(1)
        try:
            given = function(*arguments)
        except BaseException as error:
            given = error
        end.send_bytes(pickle.dumps(given))

    processes = [
        context.Process(target=_ByValue(body), args=(rank, end, _ByValue(function))) for rank, (_, end) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, end in pipes:
        end.close()
    answers = []
    try:
        for start, _ in pipes:
            try:
                assert start.poll(MAX_S), "a process hangs"
                answers.append(pickle.loads(start.recv_bytes()))
            except EOFError:
                answers.append(None)
    finally:
        for process in processes:
            process.join(0 if len(answers) < num else MAX_S)
            process.kill()
            process.join()
    return answers

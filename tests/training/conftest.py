"""A small data set of real arithmetic, so that a training takes a second: bright and dark squares to tell apart."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visus.training.recipe import Recipe

LONGEST_S = 120  # that processes of a test may take


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 grey pictures of 8 x 8 in three classes: how bright the upper left quarter is."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    pictures = rng.integers(0, 90, (120, 1, 8, 8), dtype=np.uint8)
    pictures[:, :, :4, :4] += (labels * 80).astype(np.uint8)[:, None, None, None]
    file = tmp_path_factory.mktemp("data") / "squares.npz"
    np.savez(file, x=pictures, y=labels)
    return file


@pytest.fixture
def quick() -> Recipe:
    """Three epochs of small batches in float32."""
    return Recipe(epochs=3, batch_size=16, learning_rate=0.01, precision="float32", device="cpu")


@pytest.fixture
def in_processes() -> Callable[..., list[Any]]:
    """``in_processes(3, function, *arguments)``: what the function gave in each of three processes that train together.

    What a process raised is given in place of its answer; None for one that ended without any. With ``store`` (a ``TCPStore`` that is kept here, as
    torchrun keeps one) the processes can be started again.
    """
    if os.environ.get("PYTEST_XDIST_WORKER"):
        pytest.skip(
            "a fork of a process that has threads may hang: test_distribution.py runs these again in a process of their own"
        )
    return run_in_processes


def run_in_processes(num: int, function: Callable[..., Any], *arguments: Any, store: Any = None) -> list[Any]:
    """As the fixture says. The processes are forks of this one, so that nothing is imported anew."""
    context = multiprocessing.get_context("fork")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = store.port if store is not None else free.getsockname()[1]
    pipes = [context.Pipe(duplex=False) for _ in range(num)]

    def body(rank: int) -> None:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num, "LOCAL_WORLD_SIZE": num, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1"})
        os.environ["TORCHELASTIC_USE_AGENT_STORE"] = str(store is not None)
        try:
            given = function(*arguments)
        except BaseException as error:
            given = error
        pipes[rank][1].send_bytes(pickle.dumps(given))

    processes = [context.Process(target=body, args=(rank,)) for rank in range(num)]
    for process in processes:
        process.start()
    for _, end in pipes:
        end.close()
    answers = []
    try:
        for start, _ in pipes:
            try:
                assert start.poll(LONGEST_S), "a process hangs"
                answers.append(pickle.loads(start.recv_bytes()))
            except EOFError:
                answers.append(None)
    finally:
        for process in processes:
            process.join(0 if process.is_alive() and len(answers) < num else LONGEST_S)
            process.kill()
    return answers

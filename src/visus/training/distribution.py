"""Several processes that train one network, as ``torchrun`` starts them: who this one is, and what they tell each other.

This file knows processes, their first one and their common store.

The first process of all decides: its clock, its stop and its scores are everybody's. A store, which outlives the processes as long as ``torchrun``
lives, remembers the run that they train, so that processes that are started again go on with it; and the first error, so that it is told once.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from visus.errors import ProcessLostError, UsageError, VisusError
from visus.limits import usable_cores

if TYPE_CHECKING:  # some builds of PyTorch have no processes
    from torch.distributed import Store  # type: ignore[attr-defined]

NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
MEETING = timedelta(minutes=10)  # in which all processes have to be there
CONNECTING = timedelta(seconds=60)  # in which processes that are all there connect to each other
PATIENCE = timedelta(
    days=1
)  # of one that waits for another: for its decoding, say; a process that is gone is noticed at once
_POLL_S = 0.01
AWAKE_S = 0.05
_offer_core = getattr(os, "sched_yield", lambda: time.sleep(0))  # Windows lacks it
_ERROR = "exit-code"  # of an error that was told and would come again


@dataclass(frozen=True)
class Group:
    """The processes of one training, and which of them this is. Where it is the only one, nothing is asked of anybody.

    Args:
        rank: number of this process, from 0.
        size: how many there are.
        local_rank, local_size: the same among those of this machine.
        round: how many times the processes were started before.
        store: what they all read and write, and what stays when they are started again; None for none.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    round: int = 0
    store: Store | None = field(default=None, repr=False, compare=False)

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def numbers(self, own: Sequence[float]) -> list[float]:
        """The first process's numbers, for all; each process gives its own, equally many."""
        if self.is_alone:
            return list(own)
        values = torch.tensor(own, dtype=torch.float64)
        with reaching_others():
            dist.broadcast(values, 0)
        return [float(value) for value in values]

    def text(self, own: str) -> str:
        """The first process's text, for all."""
        if self.is_alone:
            return own
        written = own.encode("utf-8", "surrogateescape")
        (length,) = self.numbers([len(written)])
        values = torch.zeros(int(length), dtype=torch.uint8)
        if self.is_first:
            values = torch.tensor(list(written), dtype=torch.uint8)
        with reaching_others():
            dist.broadcast(values, 0)
        return bytes(values.tolist()).decode("utf-8", "surrogateescape")

    def summed(self, own: torch.Tensor) -> torch.Tensor:
        """The sum over all processes of a tensor that each of them has; it may be on any device."""
        if self.is_alone:
            return own
        with reaching_others():
            return all_reduce_sum(own.clone())

    def joined(self, own: torch.Tensor, place: slice, num_rows: int) -> torch.Tensor:
        """All rows, of which this process has those at ``place``."""
        if self.is_alone:
            return own
        rows = own.new_zeros(num_rows, *own.shape[1:])
        rows[place] = own
        return self.summed(rows)

    def wait(self) -> None:
        """Go on when all have come here."""
        if not self.is_alone:
            with reaching_others():
                dist.barrier()

    @contextlib.contextmanager
    def first_here(self) -> Iterator[None]:
        """A block that the first process of each machine goes through before the others, which then find what it left on the disk."""
        if self.local_rank:
            self.wait()
        yield
        if not self.local_rank:
            self.wait()

    @contextlib.contextmanager
    def whole_machine(self) -> Iterator[None]:
        """A block in which this process has the threads of all of this machine, while they wait."""
        threads = torch.get_num_threads()
        torch.set_num_threads(threads * self.local_size)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def recall(self, what: str) -> str:
        """What was remembered before the processes were started again; empty for nothing. The same for all."""
        found = ""
        if self.is_first and self.store is not None and self.store.check([what]):
            found = self.store.get(what).decode()
        return self.text(found)

    def remember(self, what: str, value: str) -> None:
        """Keep a text for processes that are started again."""
        if self.is_first and self.store is not None:
            self.store.set(what, value)


ALONE = Group()


def all_reduce_sum(values: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes, in place, and give it back.

    For ``AWAKE_S`` the core is offered to the threads that carry the numbers and not put to sleep: to be woken takes longer than a small sum.
    """
    work = dist.all_reduce(values, async_op=True)
    ends = time.monotonic() + (AWAKE_S if values.device.type == "cpu" else 0.0)
    while time.monotonic() < ends and not work.is_completed():
        _offer_core()
    work.wait()
    return values


def join() -> Group:
    """The group that this process belongs to; ``ALONE`` where it was started by itself.

    It is joined at the first call: when all processes are there, each has its share of the machine's cores and a graphics processor of its own.
    """
    if not set(NEEDED) <= set(os.environ) or not dist.is_available():
        return ALONE
    return _joined() if _number("WORLD_SIZE", least=1) > 1 else ALONE


def _number(name: str, *, least: int = 0) -> int:
    """A whole number that the launcher set.

    Raises:
        UsageError: it is not one.
    """
    value = os.environ[name]
    if not value.isdecimal() or int(value) < least:
        raise UsageError(
            f"the environment variable {name} is {value!r}, and a whole number of at least {least} is needed. "
            "torchrun sets it; unset RANK and WORLD_SIZE to train in one process."
        )
    return int(value)


@functools.cache
def _joined() -> Group:
    rank, size = _number("RANK"), _number("WORLD_SIZE", least=1)
    if rank >= size:
        raise UsageError(
            f"RANK is {rank} and WORLD_SIZE is {size}: the processes are numbered from 0 to {size - 1}. "
            "torchrun sets both; unset them to train in one process."
        )
    local_rank = _number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else rank
    local_size = _number("LOCAL_WORLD_SIZE", least=1) if "LOCAL_WORLD_SIZE" in os.environ else size
    _take_share(local_rank, local_size)
    if dist.is_initialized():  # by a person's own script
        return Group(rank, size, local_rank, local_size)
    store = _open_store(os.environ, rank, size)
    number = _meet(store, rank, size)
    _end_if_failed(store)
    _connect(_within(f"round-{number}", store), rank, size)
    atexit.register(_leave)
    return Group(rank, size, local_rank, local_size, number - 1, store)


def _connect(store: Store, rank: int, size: int) -> None:
    """Connect each process to each other one, and wait until all of them are.

    gloo has no notion of a process that leaves while the others still connect: one of them stops with an error of its own, and a third waits for
    that one. So nobody goes on before all are connected, which a barrier says; and that all of them are there is known, so that they
    get ``CONNECTING`` for it and not a day. From then on a process that is gone is noticed by its closed connections.

    Args:
        store: of this round alone: what the processes of the round before wrote about themselves would mislead these.

    Raises:
        ProcessLostError: one of them was lost meanwhile.
    """
    has_nccl = torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if has_nccl else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=CONNECTING)
        all_reduce_sum(torch.zeros(1))  # on the processor, where NCCL has no say
        together = dist.group.WORLD
        assert together is not None, "it was made above"
        together.set_timeout(PATIENCE)
    except (RuntimeError, ValueError) as error:
        _leave()
        raise lost() from error


def _open_store(environment: Mapping[str, str], rank: int, size: int) -> Store:
    """The store of ``torchrun``, where it has one; else one that the first process keeps."""
    is_theirs = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address, port = environment["MASTER_ADDR"], _number("MASTER_PORT")
    is_kept_here = rank == 0 and not is_theirs
    if multiprocessing.parent_process() is not None:
        _end_if_names_hang()
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            address, port, size, is_master=is_kept_here, timeout=MEETING, wait_for_workers=False
        )
    except RuntimeError as error:
        raise _no_store(f"{address}:{port}", is_kept_here, str(error)) from error
    return _within("visus", store)


def _end_if_names_hang() -> None:
    """Look up a name, as PyTorch does when it connects, and raise where that never returns.

    A process that was forked while a thread of its parent looked up a name (a ``TCPStore`` does for its log) keeps glibc's lock of the resolver for
    good: each later lookup waits forever.

    Raises:
        ProcessLostError: it did not return within ``CONNECTING``.
    """
    lookup = threading.Thread(target=_look_up_name, daemon=True)
    lookup.start()
    lookup.join(CONNECTING.total_seconds())
    if lookup.is_alive():
        raise ProcessLostError(
            "this process was forked while its parent looked up a network name, and cannot look up any itself. Start the processes of a training by "
            "torchrun, or by multiprocessing with the method 'spawn' or 'forkserver'."
        )


def _look_up_name() -> None:
    # This machine's own address, for which hosts files have a name; the lock is taken all the same.
    with contextlib.suppress(OSError):
        socket.getnameinfo(("127.0.0.1", 0), 0)


def _no_store(place: str, is_kept_here: bool, said: str) -> VisusError:
    """What a process says that cannot reach the place where the others are to be met, or cannot open it."""
    if is_kept_here and "EADDRINUSE" in said:
        return UsageError(f"another program uses {place} (MASTER_ADDR and MASTER_PORT). Set MASTER_PORT to a free port.")
    if is_kept_here:
        return UsageError(
            f"the first process cannot wait for the others at {place} (MASTER_ADDR and MASTER_PORT). "
            "Set MASTER_ADDR to an address of its machine."
        )
    return ProcessLostError(
        f"the first process of this training is not at {place} (MASTER_ADDR and MASTER_PORT). "
        "See whether it was started and what it said, and start all of them again."
    )


def _within(name: str, store: Store) -> Store:
    """The part of a store whose keys begin with a name."""
    return dist.PrefixStore(name, store)  # type: ignore[attr-defined]


def _meet(store: Store, rank: int, size: int) -> int:
    """Wait until all processes are here; how many times they have met, this time counted.

    ``TORCHELASTIC_RESTART_COUNT`` does not say it: after a restart it differs from machine to machine.
    """
    with reaching_others():
        return _answer(store, rank) if rank else _gather(store, size)


def _answer(store: Store, rank: int) -> int:
    """Tell the first process that this one is here; the number of the round, when it says so."""
    name = secrets.token_hex(8)
    store.set(f"here-{rank}", name)
    number = int(store.get(f"round-of-{name}"))  # waits for it
    store.add(f"met-{number}", 1)
    return number


def _gather(store: Store, size: int) -> int:
    """Wait, as the first process, until all others are here; the number of the round."""
    number = int(store.add("rounds", 1))
    keys = [f"here-{other}" for other in range(1, size)]
    answered: set[bytes] = set()
    ends = time.monotonic() + MEETING.total_seconds()
    while store.add(f"met-{number}", 0) < size - 1:
        for key in keys:  # with the name of a process of the round before, at first: nobody reads that answer
            name_there = store.get(key) if store.check([key]) else b""
            if name_there and name_there not in answered:
                answered.add(name_there)
                store.set(f"round-of-{name_there.decode()}", str(number))
        if time.monotonic() > ends:
            raise ProcessLostError(
                f"only {store.add(f'met-{number}', 0) + 1} of {size} processes came within {MEETING}. "
                "See what the others said, and start them all again."
            )
        time.sleep(_POLL_S)
    return number


def _take_share(local_rank: int, local_size: int) -> None:
    """Threads, and the graphics processor, of this process. One thread is what ``torchrun`` sets where a person said nothing."""
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cores() // local_size))
    if torch.cuda.is_available() and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)


def refuse_shared_device(group: Group, device: torch.device) -> None:
    """Refuse more processes of a machine than it has graphics processors.

    Raises:
        UsageError: how many there are.
    """
    if device.type == "cuda" and group.local_size > torch.cuda.device_count():
        raise UsageError(
            f"{group.local_size} processes need a graphics processor each, and this machine has {torch.cuda.device_count()}. "
            f"Start {torch.cuda.device_count()} (torchrun --nproc-per-node {torch.cuda.device_count()}), or take --device cpu."
        )


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


# ------------------------------------------------------------------------------------------------------------------ errors


@contextlib.contextmanager
def reaching_others() -> Iterator[None]:
    """A block in which an error of the connection is told as a process that was lost.

    Raises:
        ProcessLostError: another process cannot be reached any more.
    """
    try:
        yield
    except RuntimeError as error:
        if is_loss(error):
            raise lost() from error
        raise


def is_loss(error: BaseException) -> bool:
    """Whether an error of PyTorch says that another process is gone."""
    return dist.is_available() and (isinstance(error, dist.DistError) or "gloo" in str(error).lower())


def lost() -> ProcessLostError:
    """What a process says that cannot go on without another one."""
    return ProcessLostError(
        "another process of this training is gone, and the others cannot go on without it. torchrun starts all of them again where "
        "it is given --max-restarts 3, and they go on from the last checkpoint; else: visus train --resume RUN"
    )


@contextlib.contextmanager
def one_voice(group: Group) -> Iterator[None]:
    """A block whose first error, of any process, is raised there alone; the other processes end with its exit code and say nothing.

    An error that would come again ends processes that are started again at once; only a lost process is a reason to go on.
    """
    try:
        yield
    except VisusError as error:
        if group.is_alone or group.store is None:
            raise
        is_lost = isinstance(error, ProcessLostError)
        with contextlib.suppress(RuntimeError):  # the store itself may be gone: then this process speaks
            if is_lost and group.store.check([_ERROR]):
                raise SystemExit(error.exit_code) from None
            if group.store.add(f"lost-{group.round}" if is_lost else "errors", 1) > 1:
                raise SystemExit(error.exit_code) from None
            if not is_lost:
                group.store.set(_ERROR, str(error.exit_code))
        raise


def _end_if_failed(store: Store) -> None:
    """End at once where the processes before these ended with an error that would come again; it was told."""
    if store.check([_ERROR]):
        raise SystemExit(int(store.get(_ERROR)))

"""Training in several processes that ``torchrun`` starts: the process group, its collectives, its restarts and its errors.

The process of rank 0 decides: all others adopt its clock, its stop requests and its scores. A store, which lives as long as ``torchrun``, holds two
things across restarts: the name of the run, so that restarted processes resume it; and the first error, so that visus reports it only once.
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

from visus.caller import for_caller
from visus.errors import ProcessLostError, UsageError, VisusError
from visus.limits import usable_cores

if TYPE_CHECKING:  # some builds of PyTorch lack torch.distributed
    from torch.distributed import Store  # type: ignore[attr-defined]

REQUIRED_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
RENDEZVOUS_TIMEOUT = timedelta(minutes=10)  # until all processes have started
CONNECT_TIMEOUT = timedelta(seconds=60)  # until started processes are connected to each other
COLLECTIVE_TIMEOUT = timedelta(
    days=1
)  # long, since one process may decode data while the others wait; a lost process is detected at once
_POLL_S = 0.01
SPIN_S = 0.05
_yield_core = getattr(os, "sched_yield", lambda: time.sleep(0))  # Windows lacks it
_ERROR = "exit-code"  # key of the exit code of a reported error that a restart would repeat


@dataclass(frozen=True)
class Group:
    """The processes of one training. With a single process, every method returns without communication.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process among those of its machine, from 0.
        local_size: number of processes on this machine.
        round: number of earlier starts of the processes.
        store: key-value store of all processes, which survives restarts; None if there is none.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    round: int = 0
    store: Store | None = field(default=None, repr=False, compare=False)

    @property
    def is_first(self) -> bool:
        """Whether this is the process of rank 0, which prints and writes for all."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether this is the only process."""
        return self.size == 1

    def broadcast(self, own: Sequence[float]) -> list[float]:
        """The numbers of the first process. All processes must pass the same number of values."""
        if self.is_alone:
            return list(own)
        values = torch.tensor(own, dtype=torch.float64)
        with lost_process_errors():
            dist.broadcast(values, 0)
        return [float(value) for value in values]

    def broadcast_text(self, own: str) -> str:
        """The text of the first process."""
        if self.is_alone:
            return own
        encoded = own.encode("utf-8", "surrogateescape")
        (length,) = self.broadcast([len(encoded)])
        values = torch.zeros(int(length), dtype=torch.uint8)
        if self.is_first:
            values = torch.tensor(list(encoded), dtype=torch.uint8)
        with lost_process_errors():
            dist.broadcast(values, 0)
        return bytes(values.tolist()).decode("utf-8", "surrogateescape")

    def all_reduce(self, own: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes, on any device."""
        if self.is_alone:
            return own
        with lost_process_errors():
            return all_reduce_sum(own.clone())

    def all_gather(self, own: torch.Tensor, place: slice, num_rows: int) -> torch.Tensor:
        """All ``num_rows`` rows of a tensor, of which each process has those at its own ``place``."""
        if self.is_alone:
            return own
        rows = own.new_zeros(num_rows, *own.shape[1:])
        rows[place] = own
        return self.all_reduce(rows)

    def barrier(self) -> None:
        """Wait until all processes have called this."""
        if not self.is_alone:
            with lost_process_errors():
                dist.barrier()

    @contextlib.contextmanager
    def local_first(self) -> Iterator[None]:
        """A block that the first process of each machine runs before the others, which then find its files on the disk."""
        if self.local_rank:
            self.barrier()
        yield
        if not self.local_rank:
            self.barrier()

    @contextlib.contextmanager
    def all_local_threads(self) -> Iterator[None]:
        """A block in which this process uses the threads of all processes of its machine, while these wait."""
        threads = torch.get_num_threads()
        torch.set_num_threads(threads * self.local_size)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def recall(self, key: str) -> str:
        """The text that ``remember`` stored before a restart, the same for all processes; empty if there is none."""
        found = ""
        if self.is_first and self.store is not None and self.store.check([key]):
            found = self.store.get(key).decode()
        return self.broadcast_text(found)

    def remember(self, key: str, value: str) -> None:
        """Store a text that survives restarts."""
        if self.is_first and self.store is not None:
            self.store.set(key, value)


ALONE = Group()


def all_reduce_sum(values: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all processes, in place, and return it.

    On the CPU, this thread polls for up to ``SPIN_S`` and yields its core to the communication threads: waking up takes longer than a small sum.
    """
    work = dist.all_reduce(values, async_op=True)
    deadline = time.monotonic() + (SPIN_S if values.device.type == "cpu" else 0.0)
    while time.monotonic() < deadline and not work.is_completed():
        _yield_core()
    work.wait()
    return values


def join_group() -> Group:
    """The process group of this process; ``ALONE`` if no launcher started it.

    The first call waits for all processes, and gives each its part of the machine's cores and its own GPU.
    """
    if not set(REQUIRED_VARIABLES) <= set(os.environ) or not dist.is_available():
        return ALONE
    return _join_group() if _read_variable("WORLD_SIZE", minimum=1) > 1 else ALONE


def _read_variable(name: str, *, minimum: int = 0) -> int:
    """A whole number from the launcher's environment variable.

    Raises:
        UsageError: the value is not a whole number, or is too small.
    """
    value = os.environ[name]
    if not value.isdecimal() or int(value) < minimum:
        raise UsageError(
            f"the environment variable {name} is {value!r}, and a whole number of at least {minimum} is needed. "
            "torchrun sets it; unset RANK and WORLD_SIZE to train in one process."
        )
    return int(value)


@functools.cache
def _join_group() -> Group:
    rank, size = _read_variable("RANK"), _read_variable("WORLD_SIZE", minimum=1)
    if rank >= size:
        raise UsageError(
            f"RANK is {rank} and WORLD_SIZE is {size}: the processes are numbered from 0 to {size - 1}. "
            "torchrun sets both; unset them to train in one process."
        )
    local_rank = _read_variable("LOCAL_RANK") if "LOCAL_RANK" in os.environ else rank
    local_size = _read_variable("LOCAL_WORLD_SIZE", minimum=1) if "LOCAL_WORLD_SIZE" in os.environ else size
    _set_local_resources(local_rank, local_size)
    if dist.is_initialized():  # by a person's own script
        return Group(rank, size, local_rank, local_size)
    store = _open_store(os.environ, rank, size)
    number = _rendezvous(store, rank, size)
    _exit_if_failed_before(store)
    _connect(_with_prefix(f"round-{number}", store), rank, size)
    atexit.register(_destroy_process_group)
    return Group(rank, size, local_rank, local_size, number - 1, store)


def _connect(store: Store, rank: int, size: int) -> None:
    """Connect all processes with each other, and wait until they are connected.

    gloo does not handle a process that exits while others connect: one of these fails, and another one waits for it forever. Therefore a first
    collective confirms that all are connected, within ``CONNECT_TIMEOUT``. After that, closed connections reveal a lost process.

    Args:
        store: store of this round only, since the addresses of an earlier round would mislead.
        rank: number of this process.
        size: number of processes.

    Raises:
        ProcessLostError: a process exited meanwhile.
    """
    has_nccl = torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if has_nccl else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=CONNECT_TIMEOUT)
        all_reduce_sum(torch.zeros(1))  # on the CPU, so with gloo
        world = dist.group.WORLD
        assert world is not None, "init_process_group made it"
        world.set_timeout(COLLECTIVE_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        _destroy_process_group()
        raise process_lost_error() from error


def _open_store(environment: Mapping[str, str], rank: int, size: int) -> Store:
    """The store of ``torchrun`` if it has one; else a store in the first process."""
    is_torchrun_store = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    address, port = environment["MASTER_ADDR"], _read_variable("MASTER_PORT")
    is_master = rank == 0 and not is_torchrun_store
    if multiprocessing.parent_process() is not None:
        _check_name_lookup()
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]
            address, port, size, is_master=is_master, timeout=RENDEZVOUS_TIMEOUT, wait_for_workers=False
        )
    except RuntimeError as error:
        raise _store_error(f"{address}:{port}", is_master, str(error)) from error
    return _with_prefix("visus", store)


def _check_name_lookup() -> None:
    """Look up a host name, as PyTorch does when it connects, and raise if the lookup never returns.

    If a process is forked while a thread of its parent looks up a name (a ``TCPStore`` does for its log), the child inherits glibc's locked
    resolver, and each of its lookups waits forever.

    Raises:
        ProcessLostError: the lookup did not return within ``CONNECT_TIMEOUT``.
    """
    lookup = threading.Thread(target=_look_up_name, daemon=True)
    lookup.start()
    lookup.join(CONNECT_TIMEOUT.total_seconds())
    if lookup.is_alive():
        raise ProcessLostError(
            "this process was forked while its parent looked up a host name, so its own lookups never return. Start the processes of a training with "
            "torchrun, or with multiprocessing and the method 'spawn' or 'forkserver'."
        )


def _look_up_name() -> None:
    # The hosts file knows this address, so no network is needed; the lookup takes the resolver's lock anyway.
    with contextlib.suppress(OSError):
        socket.getnameinfo(("127.0.0.1", 0), 0)


def _store_error(address: str, is_master: bool, message: str) -> VisusError:
    """The error of a process that cannot open the store, or cannot connect to it."""
    if is_master and "EADDRINUSE" in message:
        return UsageError(f"another program uses {address} (MASTER_ADDR and MASTER_PORT). Set MASTER_PORT to a free port.")
    if is_master:
        return UsageError(
            f"the first process cannot listen at {address} (MASTER_ADDR and MASTER_PORT). "
            "Set MASTER_ADDR to an address of its machine."
        )
    return ProcessLostError(
        f"the first process of this training does not answer at {address} (MASTER_ADDR and MASTER_PORT). "
        "Read its output, and start all processes again."
    )


def _with_prefix(prefix: str, store: Store) -> Store:
    """A view of a store in which every key has a prefix."""
    return dist.PrefixStore(prefix, store)  # type: ignore[attr-defined]


def _rendezvous(store: Store, rank: int, size: int) -> int:
    """Wait for all processes.

    ``TORCHELASTIC_RESTART_COUNT`` cannot replace the returned number: after a restart it differs between machines.

    Returns:
        The number of this start of the processes, from 1.
    """
    with lost_process_errors():
        return _announce(store, rank) if rank else _await_others(store, size)


def _announce(store: Store, rank: int) -> int:
    """Announce this process to the first one, and return the number of the round that it answers."""
    name = secrets.token_hex(8)
    store.set(f"here-{rank}", name)
    number = int(store.get(f"round-of-{name}"))  # blocks until it is set
    store.add(f"met-{number}", 1)
    return number


def _await_others(store: Store, size: int) -> int:
    """Wait in the first process for all others, and return the number of the round."""
    number = int(store.add("rounds", 1))
    keys = [f"here-{other}" for other in range(1, size)]
    answered: set[bytes] = set()
    deadline = time.monotonic() + RENDEZVOUS_TIMEOUT.total_seconds()
    while store.add(f"met-{number}", 0) < size - 1:
        for key in keys:  # a key may still hold a name of the previous round; no process reads that answer
            name = store.get(key) if store.check([key]) else b""
            if name and name not in answered:
                answered.add(name)
                store.set(f"round-of-{name.decode()}", str(number))
        if time.monotonic() > deadline:
            raise ProcessLostError(
                f"only {store.add(f'met-{number}', 0) + 1} of {size} processes started within {RENDEZVOUS_TIMEOUT}. "
                "Read the output of the others, and start all processes again."
            )
        time.sleep(_POLL_S)
    return number


def _set_local_resources(local_rank: int, local_size: int) -> None:
    """Set the number of threads and the GPU of this process.

    ``torchrun`` sets ``OMP_NUM_THREADS`` to 1 if it is unset, so 1 counts as no choice.
    """
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cores() // local_size))
    if torch.cuda.is_available() and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)


def refuse_shared_device(group: Group, device: torch.device) -> None:
    """Refuse more processes on a machine than it has GPUs.

    Raises:
        UsageError: there are too few GPUs.
    """
    if device.type == "cuda" and group.local_size > torch.cuda.device_count():
        raise UsageError(
            f"{group.local_size} processes need a GPU each, and this machine has {torch.cuda.device_count()}. "
            f"Start {torch.cuda.device_count()} (torchrun --nproc-per-node {torch.cuda.device_count()}), or use --device cpu."
        )


def _destroy_process_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


# ------------------------------------------------------------------------------------------------------------------ errors


@contextlib.contextmanager
def lost_process_errors() -> Iterator[None]:
    """A block that turns connection errors into ``ProcessLostError``.

    Raises:
        ProcessLostError: another process does not respond any more.
    """
    try:
        yield
    except RuntimeError as error:
        if is_lost_process(error):
            raise process_lost_error() from error
        raise


def is_lost_process(error: BaseException) -> bool:
    """Whether an error of PyTorch means that another process exited."""
    return dist.is_available() and (isinstance(error, dist.DistError) or "gloo" in str(error).lower())


def process_lost_error() -> ProcessLostError:
    """The error of a process after another process exited."""
    return ProcessLostError(
        "another process of this training exited, and the others cannot continue without it. With torchrun --max-restarts 3, all of them "
        f"restart and continue from the last checkpoint; else: {for_caller('visus train --resume RUN', 'visus.resume(folder)')}"
    )


@contextlib.contextmanager
def report_first_error(group: Group) -> Iterator[None]:
    """A block that raises only the first error of all processes; the other processes exit silently with the same exit code.

    Restarted processes exit at once after any error except a lost process, since a restart would repeat it.
    """
    try:
        yield
    except VisusError as error:
        if group.is_alone or group.store is None:
            raise
        is_lost = isinstance(error, ProcessLostError)
        with contextlib.suppress(RuntimeError):  # if the store itself is gone, this process reports its error
            if is_lost and group.store.check([_ERROR]):
                raise SystemExit(error.exit_code) from None
            if group.store.add(f"lost-{group.round}" if is_lost else "errors", 1) > 1:
                raise SystemExit(error.exit_code) from None
            if not is_lost:
                group.store.set(_ERROR, str(error.exit_code))
        raise


def _exit_if_failed_before(store: Store) -> None:
    """Exit at once if the previous start ended with a reported error that a restart would repeat."""
    if store.check([_ERROR]):
        raise SystemExit(int(store.get(_ERROR)))

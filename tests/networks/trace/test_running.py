"""A module after it was run for its account: everything that can be reached from it is as it was."""

from __future__ import annotations

import collections
import contextlib
import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visus.errors import UsageError
from visus.networks.trace import running, trace
from visus.networks.trace.running import ModuleState
from visus.workbench.summaries import summary, training_of

SEEN_BY_ALL: dict[str, Any] = {}
SIZES: list[int] = []


@functools.lru_cache
def grid(length: int) -> Tensor:
    return torch.linspace(0, 1, length)


class Memory:
    """An object of no module, with slots and an attribute."""

    __slots__ = ("__dict__", "kept")

    def __init__(self) -> None:
        self.kept: Any = None
        self.more: list[Any] = []


class Keeps(nn.Module):
    """Keeps what it computes in every place that there is."""

    OF_CLASS: ClassVar[dict[str, Any]] = {}

    def __init__(self, looks: bool = False) -> None:
        super().__init__()
        self.looks = looks
        self.conv, self.norm, self.last = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.attribute: Any = None
        self.nested: dict[str, Any] = {"list": [], "deque": collections.deque(maxlen=3), "tuple": ([],)}
        self.memory, self.count, self.numbers = Memory(), torch.zeros(3), np.zeros(3)
        self.generator, self.draw = torch.Generator().manual_seed(1), random.Random(1)
        self.register_buffer("running", torch.zeros(4))
        self.sizes: set[int] = set()
        hooked: dict[str, Any] = {}
        self.hooked = lambda: hooked
        self.conv.register_forward_hook(lambda module, args, output: hooked.update(output=output))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x)) * grid(6).to(x.device)
        if self.looks and float(y.sum()) > 1e9:
            y = y + 1
        self.attribute = self.nested["key"] = self.memory.kept = self.OF_CLASS["y"] = SEEN_BY_ALL["y"] = y
        self.nested["list"].append(y.mean())
        self.nested["deque"].append(y)
        self.nested["tuple"][0].append(y)
        self.memory.more.append(y)
        self.count += 1
        self.numbers += 1
        self.running = y.mean((0, 2, 3)).detach()
        self.sizes.add(x.shape[-1])
        SIZES.append(x.shape[-1])
        self.draw.random()
        noise = torch.rand(4, generator=self.generator) + torch.rand(4) + random.random() + float(np.random.rand())
        return self.last(y.mean((2, 3)) + noise.to(x.device))


def everything(module: nn.Module) -> dict[str, Any]:
    """What must be the same; objects by their identity, numbers by their values."""
    found: dict[str, Any] = {"mode": [each.training for each in module.modules()]}
    for name, value in (*module.named_parameters(), *module.named_buffers(), ("count", module.count), ("grid", grid(6))):
        found[name] = id(value), value._version, value.requires_grad, id(value.grad), value.tolist(), type(value)
    for place in (module.__dict__, module.nested, module.OF_CLASS, SEEN_BY_ALL, module.hooked(), module.memory.__dict__):
        found[f"table {id(place)}"] = {key: id(value) for key, value in place.items()}
    for row in (module.nested["list"], module.nested["deque"], module.nested["tuple"][0], module.memory.more, SIZES):
        found[f"row {id(row)}"] = [id(each) for each in row]
    found["slot"], found["sizes"], found["numbers"] = id(module.memory.kept), set(module.sizes), module.numbers.tolist()
    found["random"] = module.generator.get_state().tolist(), module.draw.getstate(), torch.get_rng_state().tolist()
    found["more random"] = random.getstate(), [str(each) for each in np.random.get_state()]
    found["hooks"] = [(list(each._forward_hooks), list(each._forward_pre_hooks)) for each in module.modules()]
    return found


def account_and_all_its_figures(module: nn.Module) -> None:
    costs = summary(module, (1, 8, 8))
    assert costs.to_table()
    assert costs.to_json()
    assert costs.advice is not None
    training_of(costs, 8)


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize(
    "work",
    [
        account_and_all_its_figures,
        lambda module: trace(module, (1, 8, 8), training=True),
        lambda module: trace(module, (1, 8, 8), detail="operations"),
    ],
)
def test_all_that_a_module_keeps_is_as_before(work: Callable[[nn.Module], Any], is_used: bool, looks: bool) -> None:
    module = Keeps(looks).train(is_used)
    if is_used:  # then everything has something in it, and gradients are there
        module(torch.rand(2, 1, 8, 8)).sum().backward()
    before = everything(module)
    work(module)
    assert everything(module) == before
    assert module(torch.rand(2, 1, 8, 8)).isfinite().all()


def test_what_a_cached_function_kept_of_a_run_is_dropped() -> None:
    @functools.lru_cache
    def places(length: int, device: torch.device) -> Tensor:
        return torch.linspace(0, 1, length, device=device)

    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) * places(x.shape[-1], torch.device("cpu"))

    module = Cached()
    trace(module, (1, 4, 4)).bytes_training(2)
    assert type(places(4, torch.device("cpu"))) is Tensor
    assert module(torch.ones(1, 1, 4, 4)).shape == (1, 1, 4, 4)


def test_everything_is_put_back_when_the_module_fails() -> None:
    module = Keeps()
    before = everything(module)

    def fail() -> None:
        with ModuleState(module).unchanged(training=False):
            module(torch.rand(2, 1, 8, 8))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert everything(module) == before


def test_tensors_that_share_memory_are_the_same_objects_after_a_run() -> None:
    module = nn.Conv2d(1, 1, 1)
    module.shared = module.again = torch.zeros(2)  # type: ignore[assignment]
    module.view = module.shared[:1]  # type: ignore[assignment, index]
    before = [module.shared, module.again, module.view]
    with ModuleState(module).unchanged(training=False):
        module.shared += 1  # type: ignore[operator]
    assert all(one is other for one, other in zip([module.shared, module.again, module.view], before, strict=True))
    assert module.view.tolist() == [0]


class Overwrites(nn.Module):
    """Writes into a parameter and a buffer what it computed, and in other ways."""

    def __init__(self, looks: bool) -> None:
        super().__init__()
        self.looks, self.conv, self.norm = looks, nn.Conv2d(3, 4, 3), nn.BatchNorm1d(4)
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("points", torch.rand(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.looks and float(y.sum()) > 1e9:
            y = y + 1
        with torch.no_grad():
            self.weight.copy_(y.mean((0, 2, 3)))
            self.mean.lerp_(y.mean((0, 2, 3)), 0.1)
            self.conv.weight.data.mul_(2)
            torch.add(self.points, 1, out=self.points)
        return y * self.weight[:, None, None] + self.norm(self.points).mean(0)[:, None, None]


class BranchedScript(nn.Module):
    """Looks at values, so that it is run with data."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return y + 1 if bool(y.sum() > 1e9) else y


WRITING: dict[str, Callable[[], nn.Module]] = {
    "without data": lambda: Overwrites(False),
    "with data": lambda: Overwrites(True),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)),
    "spectral norm by hook": lambda: nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)),
    "instance norm": lambda: nn.InstanceNorm2d(3, track_running_stats=True),
    "script": lambda: torch.jit.script(BranchedScript()),
    "recorded script": lambda: torch.jit.trace(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout()).eval(), torch.rand(2, 3, 8, 8)
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", WRITING)
def test_what_is_written_into_parameters_and_buffers_is_taken_back(name: str, training: bool, mode: bool) -> None:
    module = WRITING[name]().train(mode)
    values = [*module.parameters(), *module.buffers()]
    before = [(id(value), value._version, value.tolist()) for value in values], [each.training for each in module.modules()]
    costs = trace(module, (3, 8, 8), training=training)
    with contextlib.suppress(UsageError):  # some cannot run for their memory
        costs.bytes_training(2)
    with contextlib.suppress(UsageError):
        costs.bytes_inference(2)
    values = [*module.parameters(), *module.buffers()]
    after = [(id(value), value._version, value.tolist()) for value in values], [each.training for each in module.modules()]
    assert after == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_script_is_followed_in_the_mode_that_is_asked_for() -> None:
    module = torch.jit.script(BranchedScript())
    notes = {training: trace(module, (3, 8, 8), training=training).rows[1].notes for training in (False, True)}
    assert notes == {False: (), True: ("batch-coupled",)}
    assert module.training


class DrawsOnAccelerators(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        noise = [torch.rand(1, generator=each) for each in torch.cuda.default_generators]
        return x + sum(float(each) for each in noise)


def test_generators_of_accelerators_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    used, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(4)
    torch.rand(5, generator=used)
    monkeypatch.setattr(torch.cuda, "default_generators", (used,))
    before = used.get_state(), other.get_state()
    with ModuleState(nn.Identity()).unchanged(training=False):
        monkeypatch.setattr(torch.cuda, "default_generators", (used, other))  # as when the run is the first to use a device
        DrawsOnAccelerators()(torch.zeros(1))
    assert torch.equal(used.get_state(), before[0])
    assert torch.equal(other.get_state(), before[1])


def test_no_other_file_of_the_trace_takes_and_puts_back_the_state_of_a_module() -> None:
    words = ("FakeTensorMode", "rng_state", ".training = ", '__dict__["training"]', ".train(", ".eval(", "set_stance")
    files = sorted(Path(running.__file__).parent.rglob("*.py"))
    assert [
        (path.name, word) for path in files for word in words if word in path.read_text() and path.name != "running.py"
    ] == []

"""The trace as a user meets it: rows and their names, totals, what is said of failures, and a module that comes back untouched."""

from __future__ import annotations

import copy
import dataclasses
import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from visus.design import convnext, densenet, efficientnet_lite, inception, mobilenet, resnet
from visus.errors import UsageError
from visus.networks import build
from visus.networks.trace import TraceError, trace
from visus.networks.trace import mode as trace_mode
from visus.networks.trace.operators import Operator, operator_of
from visus.networks.trace.operators.registry import RuleError

from .hard_modules import HARD, Made, conv
from .rearranged_modules import cut, put_together


class Net(nn.Module):
    """A layer called twice, a sum, a functional pooling, a weight of its own, a head that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.head = nn.Linear(4, 3)
        self.spare = nn.Linear(4, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x))
        y = F.relu(self.conv(y) * self.scale + x)
        return self.head(F.max_pool2d(y, 2).mean((2, 3)))


def test_rows_name_layers_calls_and_operations() -> None:
    costs = trace(Net(), (4, 8, 6))
    assert [(row.path, row.layer, row.output_shape, row.num_parameters, row.macs, row.notes) for row in costs.rows] == [
        ("conv", "Conv2d(4, 3, padding=1, bias=False)", (4, 8, 6), 144, 6912, ()),
        ("norm", "BatchNorm2d(4)", (4, 8, 6), 8, 0, ()),
        ("conv#2", "Conv2d(4, 3, padding=1, bias=False)", (4, 8, 6), 0, 6912, ()),
        ("mul", "mul", (4, 8, 6), 4, 0, ()),
        ("add", "add", (4, 8, 6), 0, 0, ()),
        ("max_pool2d", "max_pool2d", (4, 4, 3), 0, 0, ()),
        ("mean", "mean", (4,), 0, 0, ()),
        ("head", "Linear(3)", (3,), 15, 12, ()),
        ("spare", "Linear(7)", (), 35, 0, ("not run",)),
    ]
    assert costs.rows[-1].fields == ()
    assert [row.fields[1].size for row in costs.rows[:-1]] == [3, 3, 5, 5, 5, 6, 6, 6]
    module = Net()
    assert costs.num_parameters == sum(values.numel() for values in module.parameters())
    assert costs.bytes_weights == sum(values.nbytes for values in (*module.parameters(), *module.buffers()))


def test_operations_have_a_row_each() -> None:
    costs = trace(Net(), (4, 8, 6), detail="operations")
    assert [row.path for row in costs.rows[:7]] == [
        *("conv.convolution", "norm.batch_norm", "conv.convolution#2", "mul", "add", "relu", "max_pool2d")
    ]
    assert costs.macs == trace(Net(), (4, 8, 6)).macs


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.Conv2d(4, 6, (1, 3), stride=2, padding=(0, 1), dilation=2, groups=2), "Conv2d(6, (1, 3), stride=2, padding=(0, 1), dilation=2, groups=2)"),
        (nn.Conv1d(4, 6, 3, padding="same", padding_mode="circular"), "Conv1d(6, 3, padding='same', padding_mode='circular')"),
        (nn.ConvTranspose2d(4, 6, 4, 2, 1, bias=False), "ConvTranspose2d(6, 4, stride=2, padding=1, bias=False)"),
        (nn.Linear(4, 6, bias=False), "Linear(6, bias=False)"),
        (nn.MaxPool2d(2), "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)"),
        (nn.GELU(), "GELU"),
        (nn.GELU("tanh"), "GELU(approximate='tanh')"),
        (nn.GroupNorm(2, 4), "GroupNorm(2, 4)"),
        (nn.LayerNorm(9), "LayerNorm(9)"),
        (nn.LayerNorm((9, 9)), "LayerNorm((9, 9))"),
        (nn.Identity(), "Identity"),
    ],
)  # fmt: skip
def test_layers_are_named_with_their_main_arguments(layer: nn.Module, text: str) -> None:
    shape = {nn.Conv1d: (4, 9), nn.Linear: (4,)}.get(type(layer), (4, 9, 9))
    assert trace(nn.Sequential(layer), shape).rows[0].layer == text


FAMILIES = {
    "resnet18": (resnet(18), 64),
    "resnet50": (resnet(50), 64),
    "inception": (inception(), 139),
    "densenet": (densenet(121), 64),
    "mobilenet": (mobilenet(2), 64),
    "efficientnet_lite": (efficientnet_lite(0), 64),
    "convnext": (convnext("tiny"), 64),
}
OTHERS = (
    *("attention", "attention in windows", "einsum", "unfold as convolution", "transposed, gaps and dilation", "3-D"),
    *("squeeze and excite", "channels last, layer norm", "recurrent", "control flow on data"),
)


@pytest.mark.parametrize("name", [*FAMILIES, *OTHERS])
@pytest.mark.long
def test_macs_are_those_of_flop_counter(name: str) -> None:
    if name in FAMILIES:
        design, size = FAMILIES[name]
        module, shape = build(design, (3, size, size), 10), (3, size, size)
    else:
        make, shape = HARD[name]  # type: ignore[assignment]
        module = make()
    module.eval()
    x = torch.empty(1, *shape, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        if name in ("recurrent", "control flow on data"):  # need values
            module(torch.rand(1, *shape))
        else:
            copy.deepcopy(module).to("meta")(x)
    costs = trace(module, shape)
    left_out = {"recurrent": 10 * (4 + 5) * 20}.get(name, 0)  # an LSTM: 10 steps, 4 values in, 5 of state, 4 gates of 5
    assert 2 * (costs.macs - left_out) == counter.get_total_flops()
    assert costs.num_parameters == sum(values.numel() for values in module.parameters())


def state_of(module: nn.Module) -> list[Any]:
    """All that a trace could change."""
    return [
        [
            (path, each.training, dict(each._forward_hooks), dict(each._forward_pre_hooks))
            for path, each in module.named_modules()
        ],
        [(path, values.device, values.grad, values._version, vars(values)) for path, values in module.named_parameters()],
        [(path, values.device, values.tolist(), vars(values)) for path, values in module.named_buffers()],
        [values.detach().clone().tolist() for values in module.parameters()],
        [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()],  # type: ignore[index]
    ]


class Touchy(Net):
    """Counts its calls, writes into a buffer, draws random numbers."""

    def __init__(self, looks: bool) -> None:
        super().__init__()
        self.looks = looks
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("kept", torch.zeros(1, 4, 8, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.kept[:, :2] = x[:1, :2]
        if self.looks and float(x.abs().sum()) < 0:
            return x
        x = x + torch.rand(1) + random.random() + np.random.rand()
        return super().forward(x + F.dropout(self.kept, 0.5, training=True))


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_module_comes_back_untouched(looks: bool, training: bool) -> None:
    module = Touchy(looks).train()
    module.norm.eval()
    module.conv.register_forward_hook(lambda *_: None)
    before = copy.deepcopy(state_of(module))
    buffer, weight = module.kept, module.conv.weight
    trace(module, (4, 8, 6), training=training)
    assert str(state_of(module)) == str(before)
    assert (module.kept is buffer, module.conv.weight is weight) == (True, True)


def test_the_module_comes_back_untouched_when_it_fails() -> None:
    module = Touchy(False).train()
    before = copy.deepcopy(state_of(module))
    with pytest.raises(TraceError):
        trace(module, (5, 8, 6))
    assert str(state_of(module)) == str(before)


def test_training_couples_the_batch_through_batch_norms() -> None:
    module = nn.Sequential(conv(), nn.BatchNorm2d(4), conv(), nn.InstanceNorm2d(4), nn.Flatten(), nn.Linear(64, 2))
    rows = trace(module, (4, 8, 8), training=True).rows
    assert [row.notes for row in rows] == [(), ("batch-coupled",), (), (), (), ()]
    assert [row.fields[0].is_whole for row in rows] == [False, True, True, True, True, True]
    assert rows[1].fields[0].interval(0) == (0, 7)
    assert [row.macs for row in rows] == [row.macs for row in trace(module, (4, 8, 8)).rows]
    assert not trace(module, (4, 8, 8)).rows[1].fields[0].is_whole


def test_statistics_of_the_batch_in_evaluation_couple_it_too() -> None:
    rows = trace(nn.Sequential(conv(), nn.BatchNorm2d(4, track_running_stats=False)), (4, 8, 8)).rows
    assert rows[1].notes == ("batch-coupled",)


def test_an_operation_without_a_rule_is_said_to_be_a_hull() -> None:
    module = Made(lambda m, x: m.last(torch.linalg.pinv(m.first(x))), first=conv(), last=conv())
    rows = trace(module, (4, 8, 9)).rows
    hulls = [row for row in rows if "hull" in row.notes]
    assert hulls
    assert all("linalg" in row.layer for row in hulls)
    assert [row.fields[0].is_exact for row in rows if row.path in ("first", "last")] == [True, False]
    assert rows[-1].fields[0].interval(0) == (0, 7)


def test_paths_with_unequal_middles_are_not_aligned() -> None:
    module = Made(lambda m, x: m.one(x) + F.pad(x, (0, 0, 1, -1)), one=conv(padding=1))
    assert [(row.path, row.aligned) for row in trace(module, (4, 8, 8)).rows] == [
        ("one", True),
        ("pad", True),
        ("add", False),
    ]


def test_a_tied_weight_is_counted_once() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    module[1].weight = module[0].weight
    assert [row.num_parameters for row in trace(module, (4,)).rows] == [20, 4]


def test_a_failing_layer_is_named_and_the_rows_before_it_are_kept() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(100, 4))
    with pytest.raises(TraceError) as caught:
        trace(module, (3, 8, 8))
    assert str(caught.value) == (
        "3: Linear(4) fails on an input of shape (288,): RuntimeError: mat1 and mat2 shapes cannot be multiplied "
        "(1x288 and 100x4). The layer takes 100 values, and 288 come in: use nn.Linear(288, 4), or give another input shape."
    )
    assert [row.path for row in caught.value.account.rows] == ["0", "1", "2"]
    assert caught.value.account.output == (288,)


def test_a_failure_outside_of_layers_is_reported_with_the_module_around_it() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("too small\nby far")

    with pytest.raises(TraceError) as caught:
        trace(nn.Sequential(conv(), Made(forward)), (4, 8, 8))
    assert str(caught.value) == (
        f"1: Made fails on an input of shape (4, 6, 6): ValueError: too small, at {__file__}, line "
        f"{forward.__code__.co_firstlineno + 1}. Give another input shape, or mend that line."
    )


def test_a_mistake_in_the_modules_own_code_is_reported_with_its_place() -> None:
    def forward(m: Any, x: torch.Tensor) -> Any:
        return {"map": x}["maps"]

    module = nn.Sequential(conv(), Made(forward))
    with pytest.raises(TraceError) as caught:
        trace(module, (4, 8, 8))
    place = f"{__file__}, line {forward.__code__.co_firstlineno + 1}"
    assert str(caught.value) == (
        f"1: the code of Made fails: KeyError: 'maps', at {place}. Mend it there; no input shape is at fault."
    )


def test_a_rule_that_fails_is_a_fault_of_visus_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(call: Any) -> Any:
        raise IndexError("list index out of range")

    def changed(func: Any) -> Operator:
        known = operator_of(func)
        return dataclasses.replace(known, rule=broken) if known.name == "flip" else known

    monkeypatch.setattr(trace_mode, "operator_of", changed)
    with pytest.raises(RuleError) as caught:
        trace(Made(lambda m, x: m.conv(x).flip(2), conv=conv()), (4, 8, 8))
    assert str(caught.value) == (
        "the rule for flip fails on tensors of shape (1, 4, 6, 6): IndexError: list index out of range. This is a fault of "
        "visus, not of the module. Please report it with this line."
    )


def test_the_last_row_reports_what_the_module_returns() -> None:
    def written(m: Any, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(len(x), 4, 8, 12, device=x.device)
        out[:, :, 1:-1, 1:-1] = m.conv(x)
        return out

    def in_windows(m: Any, x: torch.Tensor) -> torch.Tensor:
        windows = m.mix(cut(x.permute(0, 2, 3, 1), 4))
        return put_together(windows, 4, 8, 12).permute(0, 3, 1, 2)

    def turned(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.conv(x).flatten(2).transpose(1, 2)

    for forward, shape, box in (
        (written, (4, 8, 12), (0, 2)),
        (in_windows, (4, 8, 12), (1, 1)),
        (turned, (60, 4), (0, 2)),
    ):
        costs = trace(Made(forward, conv=conv(), mix=nn.Linear(4, 4)), (4, 8, 12))
        row = [row for row in costs.rows if row.notes != ("not run",)][-1]
        assert (row.path, row.layer, row.output_shape, row.fields[0].interval(1)) == ("output", "output", shape, box)
        assert costs.output == shape
    assert trace(nn.Sequential(conv(), nn.ReLU()), (4, 8, 8)).rows[-1].path == "1"


@pytest.mark.parametrize("training", [False, True])
def test_windows_in_the_batch_stand_in_front_of_the_shape(training: bool) -> None:
    module = Made(lambda m, x: m.mix(cut(x.permute(0, 2, 3, 1), 4)), mix=nn.Linear(4, 4))
    costs = trace(module, (4, 8, 12), training=training)
    assert costs.rows[-1].output_shape == costs.output == (6, 16, 4)
    assert costs.rows[-1].bytes_output == 4 * 6 * 16 * 4


def test_a_module_that_picks_by_a_mask_is_run_with_data() -> None:
    module = Made(lambda m, x: m.conv(x) * x[x >= 0].mean(), conv=conv(padding=1))
    field = trace(module, (4, 8, 8)).rows[-1].fields[0]
    assert (field.interval(0), field.is_exact) == ((0, 7), False)


def test_arguments_that_cannot_be_used_are_refused() -> None:
    said = []
    for arguments, options in (
        ((max, (3, 8, 8)), {}),
        ((nn.Identity(), (3, 8, 8)), {"detail": "layer"}),
        ((nn.Identity(), (3, 0)), {}),
        ((nn.Sequential(nn.LazyLinear(3)), (3,)), {}),
    ):
        with pytest.raises(UsageError) as caught:
            trace(*arguments, **options)  # type: ignore[arg-type]
        said.append(str(caught.value))
    assert said == [
        "a module of torch is needed, not builtin_function_or_method. Give a torch.nn.Module.",
        "unknown detail 'layer'. Did you mean 'layers'? Known: layers, operations.",
        "the input shape is (channels, *spatial) in whole numbers from 1 on, not (3, 0).",
        "0.weight: the weights have no shape before the module's first forward. Run it once, then trace it.",
    ]


def test_a_module_on_features_has_no_fields() -> None:
    costs = trace(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), (6,))
    assert [(row.output_shape, row.fields, row.macs) for row in costs.rows] == [((4,), (), 24), ((4,), (), 0), ((2,), (), 8)]


def test_weights_that_are_computed_from_the_input_see_it_whole() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        kernel = m.gate(x.mean((2, 3))).view(4, 4, 1, 1)
        return F.conv2d(x, kernel)

    field = trace(Made(forward, gate=nn.Linear(4, 16)), (4, 7, 8)).rows[-1].fields[0]
    assert (field.size, field.stride, field.is_whole, field.interval(3)) == (1, 1, True, (0, 6))


def test_recurrence_written_as_a_loop_reads_what_came_before() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        state, states = torch.zeros(x.shape[0], 5, device=x.device), []
        for place in range(x.shape[2]):
            state = m.cell(x[:, :, place], state)
            states.append(state)
        return m.last(torch.stack(states, 2))

    rows = trace(Made(forward, cell=nn.GRUCell(3, 5), last=nn.Identity()), (3, 6)).rows
    assert rows[-1].fields[0].intervals is not None
    assert rows[-1].fields[0].intervals.pairs() == [(0, last) for last in range(6)]
    assert {row.notes for row in rows if row.notes} == {("size approximate",)}  # the later, the more is seen


def test_parametrized_weights_are_counted_where_they_are_made() -> None:
    module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), nn.ReLU())
    costs = trace(module, (4, 8, 8))
    assert costs.num_parameters == sum(values.numel() for values in module.parameters())
    assert "not run" not in [note for row in costs.rows for note in row.notes]


def test_lower_precision_inside_a_module_is_run_with_data() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return m.conv(x)

    assert trace(Made(forward, conv=conv(padding=1)), (4, 8, 8)).rows[0].fields[0].size == 3


class Remembering(nn.Module):
    """Keeps what it computes, in every way that people use."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("ema", torch.zeros(4))
        self.table, self.seen, self.calls = None, [], 0
        self.cache: dict[str, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if self.table is None:
            self.table = torch.zeros_like(y[0])
        if not hasattr(self, "late"):
            self.register_buffer("late", torch.ones_like(y[0]))
        self.ema = self.ema * 0.9 + y.mean((0, 2, 3))
        self.seen.append(y)
        self.cache["y"] = y
        self.calls += 1
        return y + self.table + self.late + self.cache["y"]


def test_what_a_forward_keeps_is_forgotten_and_the_module_runs_afterwards() -> None:
    module = Remembering()
    trace(module, (3, 8, 8))
    assert (module.table, module.seen, module.cache, module.calls) == (None, [], {}, 0)
    assert set(dict(module.named_buffers())) == {"ema"}
    assert torch.equal(module.ema, torch.zeros(4))
    assert module(torch.zeros(2, 3, 8, 8)).shape == (2, 4, 6, 6)


class Block(nn.Module):
    """A residual block with an identity in the shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.short = nn.Conv2d(4, 4, 3, padding=1), nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.short(x)


def test_an_empty_sequential_has_no_row() -> None:
    rows = trace(nn.Sequential(Block()), (4, 8, 8)).rows
    assert [row.path for row in rows] == ["0.conv", "0.add"]


class Attending(nn.Module):
    """Patches, then attention between them in a residual branch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([torch.zeros_like(x[:, :1]), x], 1)
        return x + self.mix((x @ x.transpose(1, 2)).softmax(-1) @ x)


def test_what_reads_everything_is_aligned_with_every_path() -> None:
    row = trace(Attending(), (3, 32, 32)).rows[-1]
    assert (row.path, row.aligned, row.fields[0].is_whole) == ("add", True, True)


def test_the_steps_of_a_recurrent_layer_are_no_paths() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gru = nn.Conv1d(1, 4, 3, 2), nn.GRU(4, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.gru(self.conv(x).transpose(1, 2))[0]

    assert all(row.aligned for row in trace(Recurrent(), (1, 40)).rows)

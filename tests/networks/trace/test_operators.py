"""The registrations of operators: complete, of operators that torch has, and the only place that knows an operator by name."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from visus.design.flow import Kind
from visus.networks.trace import operators, trace
from visus.networks.trace.operators import FAMILIES, registry
from visus.networks.trace.operators.registry import REGISTERED, Columns, Effect, operator, operator_of, register

from .hard_modules import Made

NAMED: Final[dict[str, Columns]] = {name: known for name, known in REGISTERED.items() if isinstance(name, str)}
KINDS: Final = {*get_args(Kind), "move"}


@pytest.mark.parametrize("name", NAMED)
def test_a_registered_name_is_one_of_torch(name: str) -> None:
    assert name in torch.ops.aten or hasattr(torch.ops.aten, name)


@pytest.mark.parametrize("name", NAMED)
def test_an_operator_has_its_columns(name: str) -> None:
    known = NAMED[name]
    assert known.kind in KINDS
    assert known.rule or known.macs or known.workspace_bytes or not known.is_counted, "nothing is known of it"
    assert known.rule or not known.shape, "a shape serves what is followed"
    assert not known.is_counted or known.is_counted is True
    is_pad = known.rule is not None and known.rule.__name__ == "padding"
    assert (known.pad_mode is not None) == is_pad
    assert known.kind == "norm" or known.normalizes is None
    assert known.kind != "norm" or known.normalizes or "backward" in name
    assert known.label is None or (known.label and not known.label.startswith("_"))


def test_all_that_torch_counts_is_counted() -> None:
    names = {str(func).rsplit(".", 1)[-1] for func in flop_registry}
    inside = {
        "_flash_attention_forward",
        "_efficient_attention_forward",
        "flex_attention",
    }  # of operators that are counted, or no operator
    missing = {name for name in names if "backward" not in name and (name not in NAMED or NAMED[name].macs is None)}
    assert missing - inside == {"_scaled_mm"}  # of float8, which runs on no CPU


def test_a_name_that_is_registered_twice_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        register("cat", kind="stack")
    assert str(caught.value) == "cat is registered twice"


@pytest.mark.parametrize("columns", [{}, {"kind": "values", "mac": 1}])
def test_a_registration_without_kind_or_with_an_unknown_column_is_refused(columns: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        operator("frexp", **columns)(lambda call: None)
    assert "frexp" not in REGISTERED


def test_all_families_are_imported() -> None:
    files = {each.name for each in pkgutil.iter_modules(operators.__path__)} - {"registry", "shapes"}
    assert {family.__name__.rsplit(".", 1)[-1] for family in FAMILIES} == files


def literals_of(path: Path) -> Iterator[tuple[str, int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield path.name, node.lineno, node.value


def test_no_other_file_of_the_trace_knows_an_operator_by_name() -> None:
    room = Path(operators.__path__[0])
    words = set(NAMED) - KINDS - set(get_args(Effect)) - {"linear"}  # which is a mode of resizing too
    files = [path for path in sorted(room.parent.rglob("*.py")) if path.parent != room]
    assert len(files) > 5
    assert [each for path in files for each in literals_of(path) if each[2] in words] == []


def test_the_operator_in_place_may_have_a_registration_of_its_own() -> None:
    aten = torch.ops.aten
    assert operator_of(aten.add_.Tensor).rule is operator_of(aten.add.Tensor).rule
    assert operator_of(aten.normal_.default).rule is not operator_of(aten.normal.Tensor_float).rule
    assert [operator_of(each).effect for each in (aten.add_.Tensor, aten.add.Tensor, aten.add.out, aten.t.default)] == [
        *("in place", "new", "out", "view")
    ]


@pytest.mark.slow
def test_what_torch_tags_as_pointwise_needs_no_registration_if_it_has_one_output() -> None:
    assert not {"digamma", "frexp"} & set(NAMED)
    one = trace(Made(lambda m, x: torch.digamma(x)), (4, 6, 6)).rows[-1]
    several = trace(Made(lambda m, x: torch.frexp(x)[1]), (4, 6, 6)).rows[-1]
    assert [(field.size, field.is_exact) for field in one.fields] == [(1, True)] * 2
    assert (several.notes, several.fields[0].is_exact, several.fields[0].interval(2)) == (("hull",), False, (0, 5))


def test_an_operator_says_what_it_overwrites() -> None:
    values = {name: torch.zeros(2) for name in ("x", "mean", "var", "out")}
    written = {
        "native_batch_norm.default": ((values["x"], None, None, values["mean"], values["var"], True, 0.1, 1e-5), {}),
        "_native_batch_norm_legit.default": ((values["x"], None, None, values["mean"], values["var"], True, 0.1, 1e-5), {}),
        "add_.Tensor": ((values["x"], values["mean"]), {}),
        "add.out": ((values["x"], values["mean"]), {"out": values["out"]}),
        "add.Tensor": ((values["x"], values["mean"]), {}),
    }
    found = {}
    for name, (args, kwargs) in written.items():
        packet, overload = name.split(".")
        func = getattr(getattr(torch.ops.aten, packet), overload)
        overwritten = list(operator_of(func).written(args, kwargs))
        found[name] = {key for key, value in values.items() if any(each is value for each in overwritten)}
    norms = {key: {"mean", "var"} for key in ("native_batch_norm.default", "_native_batch_norm_legit.default")}
    assert found == {**norms, "add_.Tensor": {"x"}, "add.out": {"out"}, "add.Tensor": set()}


# ---- shape functions ----


def maps(*shape: int, channels_last: bool = False) -> Tensor:
    value = torch.rand(shape)
    return value.to(memory_format=torch.channels_last) if channels_last else value


def samples_of(name: str, last: bool) -> list[tuple[Any, ...]]:
    """Arguments of an operator with a shape function; fails where a new one has none."""
    x, image = maps(2, 3, 4), maps(2, 4, 9, 7, channels_last=last)
    square, vector = maps(4, 4), maps(4)
    shape_function = NAMED[name].shape
    assert shape_function is not None
    more: dict[str, list[tuple[Any, ...]]] = {
        **{key: [(image, 0.0)] for key in ("clamp", "clamp_min")},
        "clamp_max": [(image, 1.0)],
        **{key: [(image, 1, False), (x.transpose(1, 2), -1, False)] for key in ("_softmax", "_log_softmax")},
        "_safe_softmax": [(image, 1)],
        "convolution": [
            (image, maps(6, 2, 3, 3), None, [2, 1], [1, 0], [1, 2], False, [0, 0], 2),
            (image, maps(4, 3, 3, 2), maps(3), [2, 2], [1, 0], [1, 1], True, [1, 0], 1),
        ],
        "max_pool2d_with_indices": [(image, [3, 2], [2, 2], [1, 0], [1, 2], True), (image, [2, 2])],
        "avg_pool2d": [(image, [3, 2], [2, 2], [1, 1], True), (image, [2, 2])],
        "native_batch_norm": [(image, vector, vector, vector, vector, False, 0.1, 1e-5)],
        "_native_batch_norm_legit_no_training": [(image, vector, vector, vector, vector, 0.1, 1e-5)],
        "_native_batch_norm_legit": [(image, vector, vector, vector, vector, True, 0.1, 1e-5)],
        "native_layer_norm": [(x, [3, 4], None, None, 1e-5), (image, [7], None, None, 1e-5)],
        "native_group_norm": [(image, *given, 2, 4, 63, 2, 1e-5) for given in ((vector, vector), (None, None))],
        **{key: [(image, [2, -1], True), (image, [1]), (x, [-1])] for key in ("sum", "mean", "amax", "amin")},
        "cat": [([x, maps(2, 5, 4)], 1), ([x, maps(2, 3, 1)], -1), ([x, x],)],
        "mm": [(square, maps(4, 7))],
        "bmm": [(x, maps(2, 4, 5))],
        "addmm": [(maps(7), square, maps(4, 7))],
        "baddbmm": [(maps(2, 3, 5), x, maps(2, 4, 5))],
        "clone": [(image,), (x.transpose(1, 2),)],
        "constant_pad_nd": [(image, [1, 2, 0, 3]), (x, [-1, 2])],
    }
    if name in more:
        return more[name]
    if shape_function.__name__ == "_recurrent_shape":
        return [_arguments_of(name, is_batch_first=last, is_bidirectional=each) for each in (False, True)]
    if shape_function.__name__ == "two_tensors_shape":
        return [
            (image, image),
            (image, maps(4, 1, 1)),
            (x, maps(2, 1, 4)),
            *([] if name in ("maximum", "minimum") else [(image, 2.0)]),
        ]
    assert shape_function.__name__ == "one_tensor_shape", "a sample is needed"
    return [(image,), (x.transpose(1, 2),)]


def _arguments_of(name: str, *, is_batch_first: bool, is_bidirectional: bool) -> tuple[Any, ...]:
    """The arguments of a recurrent operator: 7 steps of 2 samples, two layers."""
    kind: Any = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}.get(name, torch.nn.RNN)
    weights = [each.detach() for each in kind(3, 5, 2, bidirectional=is_bidirectional).parameters()]
    state = maps(4 if is_bidirectional else 2, 2, 5)
    states = [state, state] if name == "lstm" else state
    x = maps(2, 7, 3) if is_batch_first else maps(7, 2, 3)
    return x, states, weights, True, 2, 0.0, False, is_bidirectional, is_batch_first


def overload_of(name: str, args: tuple[Any, ...]) -> Any:
    """The overload that takes these arguments."""
    packet = getattr(torch.ops.aten, name)
    for overload in packet.overloads():
        func = getattr(packet, overload)
        try:
            func(*args)
        except (RuntimeError, TypeError, NotImplementedError):
            continue
        return func
    raise AssertionError(name)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", [name for name, known in NAMED.items() if known.shape is not None])
def test_a_shape_function_says_what_torch_says(name: str, last: bool) -> None:
    shape_function = NAMED[name].shape
    assert shape_function is not None
    for args in samples_of(name, last):
        found, expected = shape_function(args, {}), overload_of(name, args)(*args)
        assert found is not None
        for mine, theirs in zip(*([each] if isinstance(each, Tensor) else each for each in (found, expected)), strict=True):
            assert mine.is_meta
            if mine.numel():  # the statistics of a norm are read by nobody
                assert (mine.shape, mine.dtype, mine.stride()) == (theirs.shape, theirs.dtype, theirs.stride())


def test_a_shape_function_leaves_to_torch_what_is_unusual() -> None:
    shape_of = {name: known.shape for name, known in NAMED.items() if known.shape is not None}
    whole, half = torch.empty(2, 3, dtype=torch.int64, device="meta"), torch.empty(2, 3, dtype=torch.float16, device="meta")
    assert shape_of["relu"]((whole,), {}) is None
    assert shape_of["add"]((maps(2, 3), half), {}) is None
    assert shape_of["mm"]((maps(2, 3), maps(4, 2)), {}) is None
    assert shape_of["cat"](([maps(2, 3), half],), {}) is None
    assert registry.REGISTERED["cat"].shape is shape_of["cat"]

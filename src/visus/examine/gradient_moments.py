"""The gradient of a module as a random variable: what each function does to its mean and its mean square.

``MeasureMode`` records the derivatives of all nonlinear functions that a module calls, over given samples. ``MomentMode`` then replaces each
function by a linear one, so that the backward pass propagates the mean of the gradient (weights unchanged, derivatives at their mean), or its
mean square (weights squared, derivatives at their mean square, a maximum as the mean of its taps, sums added).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from visus.errors import UsageError

Moment = Literal["mean", "square"]
_DEPENDS: Final = "_visus_depends"  # attribute of a tensor that depends on the input, while derivatives are measured


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PLAIN: Final = _words("""
    add iadd sum cat concat concatenate stack hstack vstack split split_with_sizes chunk tensor_split unbind getitem setitem select narrow
    index_select view view_as reshape reshape_as flatten unflatten permute transpose movedim moveaxis swapaxes swapdims t squeeze
    unsqueeze expand expand_as repeat contiguous clone detach to float double type type_as alias flip roll pixel_shuffle pixel_unshuffle
    channel_shuffle pad dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout get identity ravel unfold copy
    fill zero requires_grad atleast_1d atleast_2d atleast_3d broadcast_to resolve_conj positive as_strided
""")  # each output is a copy of an input, or a sum of such copies
_WEIGHTED: Final = _words("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear matmul mm bmm")
_SUBTRACT: Final = frozenset(("sub", "isub", "rsub", "subtract", "neg", "negative"))
_LINEAR: Final = _PLAIN | _SUBTRACT
_MIXING: Final = _words("layer_norm group_norm instance_norm softmax log_softmax normalize local_response_norm rms_norm")
_MULTIPLY: Final = frozenset(("mul", "imul", "rmul", "multiply"))
_DIVIDE: Final = frozenset(("div", "truediv", "itruediv", "divide", "true_divide"))


class CallDerivatives:
    """Derivatives of one call of a function over samples: for each operand that depends on the input.

    Args:
        name: name of the function.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.num_samples = 0
        self.sums: list[Tensor] = []
        self.squares: list[Tensor] = []
        self._moments: dict[str, list[Tensor]] = {}

    def add(self, derivatives: Sequence[Tensor]) -> None:
        """Accumulate the derivatives over one batch, (samples, ...) each."""
        sums = [each.sum(0, keepdim=True) for each in derivatives]
        squares = [each.square().sum(0, keepdim=True) for each in derivatives]
        self.sums = [old + new for old, new in zip(self.sums, sums, strict=True)] if self.sums else sums
        self.squares = [old + new for old, new in zip(self.squares, squares, strict=True)] if self.squares else squares
        self.num_samples += len(derivatives[0])
        self._moments.clear()

    @property
    def is_known(self) -> bool:
        """Whether anything was recorded: a function whose derivative is not elementwise has none."""
        return bool(self.sums)

    def moment(self, which: Moment) -> list[Tensor]:
        """Mean or mean square over samples."""
        if which not in self._moments:
            self._moments[which] = [each / self.num_samples for each in (self.sums if which == "mean" else self.squares)]
        return self._moments[which]

    def variance(self) -> list[Tensor]:
        """Mean square minus the square of the mean; empty if all samples agree."""
        if "variance" not in self._moments:
            pairs = zip(self.moment("mean"), self.moment("square"), strict=True)
            spread = [(square - mean.square()).clamp_min(0) for mean, square in pairs]
            agree = all(
                bool((var <= 1e-6 * square).all()) for var, square in zip(spread, self.moment("square"), strict=True)
            )
            self._moments["variance"] = [] if agree else spread
        return self._moments["variance"]


class MeasureMode(TorchFunctionMode):
    """Records the derivatives of all nonlinear functions, in the order of their calls, while a module runs on samples.

    Args:
        known: the derivatives of earlier batches; new ones are added.
    """

    def __init__(self, known: list[CallDerivatives]) -> None:
        super().__init__()
        self.known = known
        self.place = 0
        self.generator = torch.Generator().manual_seed(0)

    def mark(self, values: Tensor) -> Tensor:
        """Start a forward pass with these samples."""
        setattr(values, _DEPENDS, True)
        self.place = 0
        return values

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = [value for value in _tensors((args, kwargs)) if hasattr(value, _DEPENDS)]
        if not operands:
            return func(*args, **kwargs)
        name = _name(func)
        measured = self._is_measured(name, args, operands)
        derivatives = self._derivatives(func, name, args, kwargs, operands) if measured else []
        output = func(*args, **kwargs)
        results = list(_tensors(output))
        if measured and results:
            if self.place == len(self.known):
                self.known.append(CallDerivatives(name))
            if derivatives:
                self.known[self.place].add(derivatives)
            self.place += 1
        for value in results:
            setattr(value, _DEPENDS, True)
        return output

    @staticmethod
    def _is_measured(name: str, args: Any, operands: list[Tensor]) -> bool:
        """Whether a function is nonlinear and has no rule of its own."""
        if name in _MULTIPLY | _DIVIDE:
            return len(operands) == 2
        return name not in _LINEAR and name not in _RULES and bool(args) and any(args[0] is each for each in operands)

    def _derivatives(self, func: Any, name: str, args: Any, kwargs: Any, operands: list[Tensor]) -> list[Tensor]:
        """The derivatives of a function over samples; none if they are not elementwise."""
        if name in _MULTIPLY | _DIVIDE:
            one, other = args[0], args[1]
            partials = [other, one] if name in _MULTIPLY else [1 / other, -one / other.square()]
            return [each.expand_as(one + other) for each in partials]
        if any(each is not args[0] for each in operands):
            return []
        probe = torch.randint(0, 2, args[0].shape, generator=self.generator).to(args[0]) * 2 - 1
        derivative = _own_derivative(func, args, kwargs, probe)
        if derivative is None:
            return []
        if name not in _MIXING:
            again = _own_derivative(func, args, kwargs, torch.ones_like(probe))
            if again is None or not torch.allclose(derivative, again, rtol=1e-3, atol=1e-6):
                return []
        return [derivative]


def _own_derivative(func: Any, args: Any, kwargs: Any, probe: Tensor) -> Tensor | None:
    """The derivative of each output with respect to the input at the same position; None if the shapes differ."""
    with torch.enable_grad():
        given = args[0].detach().clone().requires_grad_(True)
        options = {key: False if key == "inplace" else value for key, value in kwargs.items()}
        output = func(given * 1.0, *args[1:], **options)
        if not isinstance(output, Tensor) or output.shape != given.shape or not output.requires_grad:
            return None
        (gradient,) = torch.autograd.grad(output, given, probe)
    derivative: Tensor = gradient * probe
    return derivative


class MomentMode(TorchFunctionMode):
    """Replaces each function by a linear one: the backward pass propagates the mean of the gradient, or its mean square.

    Args:
        known: the result of ``MeasureMode``.
        which: ``mean`` or ``square``.

    Attributes:
        random: for each function whose derivative is random: for the mean its output, for the mean square the input weighted by the
            variance of the derivatives.
    """

    def __init__(self, known: list[CallDerivatives], which: Moment) -> None:
        super().__init__()
        self.known, self.which = known, which
        self.place = 0
        self.random: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = [value for value in _tensors((args, kwargs)) if value.requires_grad]
        if not operands:
            return func(*args, **kwargs)
        name = _name(func)
        output = self._linear(func, name, args, kwargs, operands)
        if (
            func.__name__.endswith("_")
            and not func.__name__.endswith("__")
            and isinstance(output, Tensor)
            and output is not args[0]
        ):
            return args[0].copy_(output)  # an in-place function stays one
        return output

    def _linear(self, func: Any, name: str, args: Any, kwargs: Any, operands: list[Tensor]) -> Any:
        squares = self.which == "square"
        if name in _PLAIN:
            return func(*args, **kwargs)
        if name in _SUBTRACT:
            if not squares:
                return func(*args, **kwargs)
            return operands[0] if len(operands) == 1 else operands[0] + operands[1]
        if name in _MULTIPLY | _DIVIDE and len(operands) < 2:
            if name in _DIVIDE and args[0] is not operands[0]:
                raise _no_rule(name)
            if not squares:
                return func(*args, **kwargs)
            return func(args[0], args[1] ** 2) if args[0] is operands[0] else func(args[0] ** 2, args[1])
        if name in _RULES:
            return _RULES[name](self, func, args, kwargs, operands)
        measured = self.known[self.place] if self.place < len(self.known) else CallDerivatives("")
        if measured.name == name:
            self.place += 1
            if measured.is_known:
                return self._gate(measured, list(args[: len(measured.sums)]))
        output = func(*args, **kwargs)
        if any(value.requires_grad for value in _tensors(output)):
            raise _no_rule(name)
        return output

    def _gate(self, measured: CallDerivatives, operands: list[Tensor]) -> Tensor:
        """Operands times their measured derivatives."""
        output = _weighted(operands, measured.moment(self.which))
        if variance := measured.variance():
            self.record_random(output, lambda: _weighted(operands, variance))
        return output

    def record_random(self, output: Tensor, varied: Callable[[], Tensor]) -> None:
        """Record a function whose derivative is random."""
        self.random.append(output if self.which == "mean" else varied())


def _weighted(operands: Sequence[Tensor], factors: Sequence[Tensor]) -> Tensor:
    """The sum of operands, each times its factors."""
    terms = [operand * factor for operand, factor in zip(operands, factors, strict=True)]
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


# ---- functions with rules of their own ----


def _weights(mode: MomentMode, func: Any, args: Any, kwargs: Any, operands: list[Tensor]) -> Any:
    """A convolution, or a product with constants: without bias, weights squared for the mean square."""
    if len(operands) > 1:
        raise _no_rule(_name(func))
    given = list(args)
    options = dict(kwargs)
    weight = given[1] if len(given) > 1 else options["weight"]
    is_left = given[0] is operands[0]
    factor = (weight if is_left else given[0]).detach()
    factor = factor.square() if mode.which == "square" else factor
    if not is_left:
        return func(factor, given[1])
    if len(given) > 1:
        given[1] = factor
    else:
        options["weight"] = factor
    if len(given) > 2:
        given[2] = None
    elif "bias" in options:
        options["bias"] = None
    return func(*given, **options)


def _mean(mode: MomentMode, func: Any, args: Any, kwargs: Any, operands: list[Tensor]) -> Tensor:
    """A mean over dimensions: each value has the weight 1/n."""
    output: Tensor = func(*args, **kwargs)
    return output * (output.numel() / operands[0].numel()) if mode.which == "square" else output


def _largest(mode: MomentMode, func: Any, args: Any, kwargs: Any, operands: list[Tensor]) -> Any:
    """A maximum over dimensions: each of n values is the maximum with probability 1/n."""
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    if isinstance(dims, Tensor):
        raise _no_rule(_name(func))
    keep = args[2] if len(args) > 2 else kwargs.get("keepdim", False)
    values = operands[0]
    output = values.mean() if dims is None else values.mean(dims, keepdim=keep)
    mode.record_random(output, lambda: output * (1 - output.numel() / values.numel()))
    pairs = dims is not None and _name(func) in ("max", "min")
    return (output, torch.zeros_like(output, dtype=torch.long)) if pairs else output


def _max_pool(mode: MomentMode, func: Any, args: Any, kwargs: Any, operands: list[Tensor]) -> Any:
    """A maximum over a window: the mean of its taps, without padding."""
    rank = int(next(letter for letter in _name(func) if letter.isdigit()))
    names = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    size = _per_axis(given["kernel_size"], rank)
    stride = _per_axis(given.get("stride") or size, rank)
    padding, dilation = _per_axis(given.get("padding", 0), rank), _per_axis(given.get("dilation", 1), rank)
    x = operands[0]
    if set(dilation) == {1}:
        pool: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
        output = pool(x, size, stride, padding, bool(given.get("ceil_mode", False)), False)
    else:
        convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
        taps = torch.ones(x.shape[1], 1, *size, dtype=x.dtype, device=x.device)
        output = convolve(x, taps / taps[0].numel(), None, stride, padding, dilation, x.shape[1])
    mode.record_random(output, lambda: output * (1 - 1 / math.prod(size)))
    has_indices = given.get("return_indices") is True or "indices" in _name(func)
    return (output, torch.zeros_like(output, dtype=torch.long)) if has_indices else output


def _avg_pool(mode: MomentMode, func: Any, args: Any, kwargs: Any, operands: list[Tensor]) -> Tensor:
    """A mean over a window."""
    output: Tensor = func(*args, **kwargs)
    if mode.which == "mean":
        return output
    rank = int(next(letter for letter in _name(func) if letter.isdigit()))
    return output / math.prod(_per_axis(args[1] if len(args) > 1 else kwargs["kernel_size"], rank))


def _adaptive_pool(mode: MomentMode, func: Any, args: Any, kwargs: Any, operands: list[Tensor]) -> Tensor:
    """A mean over windows that divide the map; a maximum is treated as the mean."""
    rank = int(next(letter for letter in _name(func) if letter.isdigit()))
    pool: Any = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[rank - 1]
    x = operands[0]
    output: Tensor = pool(x, args[1] if len(args) > 1 else kwargs["output_size"])
    if mode.which == "mean" and "avg" in _name(func):
        return output
    shares = torch.ones((), dtype=x.dtype, device=x.device)
    for old, new in zip(x.shape[-rank:], output.shape[-rank:], strict=True):
        lengths = [-(-(place + 1) * old // new) - place * old // new for place in range(new)]
        shares = shares[..., None] / torch.tensor(lengths, dtype=x.dtype, device=x.device)
    if "avg" in _name(func):
        return output * shares
    mode.record_random(output, lambda: output * (1 - shares))
    return output


def _interpolate(mode: MomentMode, func: Any, args: Any, kwargs: Any, operands: list[Tensor]) -> Tensor:
    """A resized map: its weights on each axis, squared for the mean square."""
    output: Tensor = func(*args, **kwargs)
    how = kwargs.get("mode", args[3] if len(args) > 3 else "nearest")
    if mode.which == "mean" or how.startswith("nearest"):
        return output
    x = operands[0]
    corners = kwargs.get("align_corners")
    for axis in range(2, x.dim()):
        old, new = operands[0].shape[axis], output.shape[axis]
        line = [1] * (x.dim() - 2)
        eye = torch.eye(old, dtype=x.dtype, device=x.device).reshape(old, 1, *line[: axis - 2], old, *line[axis - 1 :])
        size = (*line[: axis - 2], new, *line[axis - 1 :])
        table = F.interpolate(eye, size=size, mode=how, align_corners=corners).reshape(old, new).square()
        x = (x.movedim(axis, -1) @ table).movedim(-1, axis)
    return x


_Rule = Callable[[MomentMode, Any, Any, Any, list[Tensor]], Any]
_RULES: Final[dict[str, _Rule]] = {
    **dict.fromkeys(_WEIGHTED, _weights),
    "mean": _mean,
    **dict.fromkeys(("amax", "amin", "max", "min"), _largest),
    **dict.fromkeys([f"max_pool{rank}d" for rank in (1, 2, 3)], _max_pool),
    **dict.fromkeys([f"max_pool{rank}d_with_indices" for rank in (1, 2, 3)], _max_pool),
    **dict.fromkeys([f"avg_pool{rank}d" for rank in (1, 2, 3)], _avg_pool),
    **dict.fromkeys([f"adaptive_{kind}_pool{rank}d" for kind in ("avg", "max") for rank in (1, 2, 3)], _adaptive_pool),
    "interpolate": _interpolate,
}


def _per_axis(value: Any, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value) * (rank if len(value) == 1 else 1)


def _name(func: Any) -> str:
    """The name of a function without the underscores of methods and in-place functions."""
    return str(getattr(func, "__name__", func)).strip("_")


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a value, at any depth of nesting."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _no_rule(name: str) -> UsageError:
    return UsageError(
        f"the module calls {name}, which has no rule for squared gradients. Use effective_field_sampled, which needs no rules."
    )

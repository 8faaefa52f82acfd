"""A person's own module: whatever it returns, keeps or raises is handled, or told in one sentence that names it; nothing is left half-written."""

from __future__ import annotations

import json
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import visus
from visus.errors import TrainingError, UsageError
from visus.training.recipe import Recipe
from visus.workbench.train.events import Prepared, Scored

RECIPE = Recipe(epochs=1, batch_size=8, learning_rate=0.01, precision="float32", device="cpu")
Pair = namedtuple("Pair", "answer aux")


@dataclass
class Output:
    """As transformers returns it."""

    loss: Tensor | None
    logits: Tensor


class Own(nn.Module):
    """Three classes from gray images of 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)
        if "aux" in type(self).forward.__code__.co_names:
            self.aux = nn.Linear(4, 3).requires_grad_(False)  # its answers are never trained

    def features(self, x: Tensor) -> Tensor:
        """N C H W -> N 4."""
        return self.conv(x).relu().mean((2, 3))

    def forward(self, x: Tensor) -> Any:
        """N C H W -> N 3."""
        return self.head(self.features(x))


def own(forward: Callable[[Any, Tensor], Any]) -> Any:
    return type("Mine", (Own,), {"forward": forward, "__module__": __name__})()


@pytest.fixture(scope="module")
def gray(tmp_path_factory: pytest.TempPathFactory) -> visus.Data:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.integers(0, 90, (60, 1, 8, 8), dtype=np.uint8) + (labels * 80).astype(np.uint8)[:, None, None, None]
    file = tmp_path_factory.mktemp("data") / "gray.npz"
    np.savez(file, x=images, y=labels)
    return visus.open_data(file)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the report measures."""
    monkeypatch.setattr("visus.workbench.train.job.write_end", lambda *given: (SimpleNamespace(mistakes=None), ()))


def trained(data: visus.Data, module: nn.Module, output: Path, recipe: Recipe = RECIPE) -> tuple[visus.Run, list[str]]:
    """The run, and what was told as warnings of the network and of the end."""
    told: list[str] = []

    def follow(event: object) -> None:
        if isinstance(event, Prepared):
            told.extend(event.network.warnings)
        if isinstance(event, Scored):
            told.extend(event.warnings)

    return visus.train(data, module, recipe, output=output, on_event=follow), told


def refused(data: visus.Data, module: nn.Module, output: Path) -> str:
    """What is said; no folder is left."""
    with pytest.raises((UsageError, TrainingError)) as caught:
        visus.train(data, module, RECIPE, output=output)
    assert not output.exists() or not list(output.iterdir()), "a start that failed leaves no run"
    return str(caught.value)


# ---- outputs ----

ALONE = " From now on, the module returns only these logits."


@pytest.mark.parametrize(
    ("forward", "told"),
    [
        (lambda self, x: {"features": self.features(x), "logits": self.head(self.features(x))}, "a dict: 'logits'"),
        (lambda self, x: Output(None, self.head(self.features(x))), "an Output: 'logits'"),
        (lambda self, x: Pair(self.head(self.features(x)), self.aux(self.features(x))), "a Pair: 'answer'"),
        (lambda self, x: (self.features(x), [self.head(self.features(x))]), "a tuple: [1][0]"),
    ],
)
def test_the_answers_among_other_outputs_are_trained_and_it_is_reported(
    gray: visus.Data, tmp_path: Path, quickly: None, forward: Callable[..., Any], told: str
) -> None:
    run, warnings = trained(gray, own(forward), tmp_path)
    assert warnings == [f"Mine returns {told} in it is trained and read, and the rest is dropped.{ALONE}"]
    assert run.module(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


def test_axes_of_length_1_behind_the_answers_are_dropped(gray: visus.Data, tmp_path: Path, quickly: None) -> None:
    _, warnings = trained(gray, own(lambda self, x: self.head(self.features(x))[..., None, None]), tmp_path)
    assert warnings == [f"Mine returns a tensor of 2 x 3 x 1 x 1: its axes of length 1 are dropped.{ALONE}"]


def test_answers_among_auxiliary_outputs_in_training_alone_are_trained_and_it_is_reported(
    gray: visus.Data, tmp_path: Path, quickly: None
) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        answer = self.head(self.features(x))
        return Pair(answer, self.aux(self.features(x))) if self.training else answer

    module = own(forward)
    aux = module.aux.weight.detach().clone()
    _, warnings = trained(gray, module, tmp_path, RECIPE.replace(ema_decay=0.0))
    assert warnings == ["in training, Mine returns a Pair: 'answer' in it is trained; its other outputs are ignored."]
    assert torch.equal(module.aux.weight, aux)


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (
            lambda self, x: self.features(x),
            "Mine: this module gives 2 x 4 for 2 samples, and 2 x 3 is needed: one number for each of the 3 classes.",
        ),
        (
            lambda self, x: self.head(self.features(x))[:, : 2 if self.training else 3],
            "Mine: in training, this module gives 8 x 2 for 8 samples, and 8 x 3 is needed: one number for each of the 3 classes.",
        ),
        (
            lambda self, x: self.head(self.features(x)).detach(),
            "Mine: in training, the output of this module does not depend on any trainable parameter: it is detached, "
            "or computed under torch.no_grad.",
        ),
        (
            lambda self, x: self.head(self.features(x)) * float("nan"),
            "the loss is nan at the first step, before any weight changed: the output of Mine for these samples is not finite. "
            "Look for a division by zero, a square root or a logarithm in it, and for weights that are not finite.",
        ),
    ],
)
def test_outputs_that_cannot_be_trained_are_refused(
    gray: visus.Data, tmp_path: Path, forward: Callable[..., Any], said: str
) -> None:
    assert refused(gray, own(forward), tmp_path / "runs") == said


# ---- errors ----


@pytest.mark.parametrize("kind", [TypeError, AssertionError, KeyError, RuntimeError, ZeroDivisionError])
def test_an_error_in_training_alone_is_reported_before_a_run_is_begun(
    gray: visus.Data, tmp_path: Path, kind: type[Exception]
) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        if self.training:
            raise kind("mine")
        return self.head(self.features(x))

    said = refused(gray, own(forward), tmp_path / "runs")
    assert said.startswith(
        f"Mine: this module fails in training: {kind.__name__}: {kind('mine')!s}, in Mine, at {__file__} line "
    )


def test_training_the_module_of_a_run_leaves_the_run_as_it_is(gray: visus.Data, tmp_path: Path, quickly: None) -> None:
    network = Own()
    first = visus.train(gray, network, RECIPE, output=tmp_path)
    before = {name: value.clone() for name, value in first.module.state_dict().items()}
    for again in (first.module, network):
        steps = visus.train(gray, again, RECIPE.replace(learning_rate=0.1), output=tmp_path).history
        assert len(steps) == 1  # it was trained, whether or not those weights were kept
        assert all(torch.equal(value, before[name]) for name, value in first.module.state_dict().items())


def test_an_error_of_a_part_names_the_part(gray: visus.Data, tmp_path: Path) -> None:
    class Part(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert not self.training, "never"
            return x

    said = refused(gray, nn.Sequential(Part(), nn.Flatten(), nn.Linear(64, 3)), tmp_path / "runs")
    assert said.startswith("Sequential: this module fails in training: AssertionError: never")
    assert f", in 0 (Part), at {__file__} line " in said


def test_an_error_of_the_backward_pass_is_reported(gray: visus.Data, tmp_path: Path) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        features = self.features(x).sigmoid()
        squares = features * features
        features += 1
        return self.head(squares)

    said = refused(gray, own(forward), tmp_path / "runs")
    assert said.startswith("Mine: this module fails in the backward pass of a training: RuntimeError: one of the variables")


def test_an_error_on_training_samples_names_the_precision_that_helps(gray: visus.Data, tmp_path: Path) -> None:
    module = own(lambda self, x: self.head(self.features(x)) + (0 if self.training else self.conv(x).numpy().sum()))
    with pytest.raises(UsageError) as caught:
        visus.train(gray, module, RECIPE.replace(precision="bfloat16"), output=tmp_path)
    said = str(caught.value)
    assert said.startswith(
        "Mine: this module fails on training samples: TypeError: Got unsupported ScalarType BFloat16, in Mine, at "
    )
    assert said.endswith(". Train it in float32: --precision float32.")


def test_an_error_in_a_later_step_names_its_place_and_what_is_kept(gray: visus.Data, tmp_path: Path) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        if self.training:
            self.count = getattr(self, "count", 0) + 1
            if self.count == 3:
                raise LookupError("late")
        return self.head(self.features(x))

    with pytest.raises(TrainingError) as caught:
        visus.train(gray, own(forward), RECIPE, output=tmp_path)
    said = str(caught.value)
    assert said.startswith(
        f"epoch 1, step 3 with a batch of 8 failed: the network stopped with LookupError: late, in Mine, at {__file__} line "
    )
    assert said.endswith(f"The last checkpoint is kept: {tmp_path / 'gray' / 'checkpoint' / 'last.safetensors'}.")


def test_an_error_in_use_names_the_batch_and_the_place(gray: visus.Data, tmp_path: Path, quickly: None) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        assert len(x) > 1, "never one"
        return self.head(self.features(x))

    run, _ = trained(gray, own(forward), tmp_path)
    with pytest.raises(UsageError) as caught:
        list(run.predict([np.zeros((1, 1, 8, 8), np.uint8)]))
    said = str(caught.value)
    assert said.startswith("the network stopped on a batch of 1 x 1 x 8 x 8: AssertionError: never one")
    assert f", in Mine, at {__file__} line " in said


def test_a_module_that_cannot_be_copied_is_refused(gray: visus.Data, tmp_path: Path) -> None:
    module = Own()
    module.lock = threading.Lock()  # type: ignore[assignment]
    assert refused(gray, module, tmp_path / "runs") == (
        "Own: this module cannot be copied (TypeError: cannot pickle '_thread.lock' object), but visus averages and examines copies "
        "of it. Keep files, locks and generators outside of it, or give it a __deepcopy__."
    )


def test_a_module_without_weights_is_refused(gray: visus.Data, tmp_path: Path) -> None:
    with torch.device("meta"):
        module = Own()
    assert refused(gray, module, tmp_path / "runs") == (
        "Own: this module is on the device meta, which has no values. Create it outside of torch.device('meta'), "
        "or give it weights with to_empty and its own initialization."
    )


def test_a_buffer_that_training_makes_is_refused(gray: visus.Data, tmp_path: Path) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        if self.training:
            self.register_buffer("count", torch.ones(3))
        return self.head(self.features(x))

    assert refused(gray, own(forward), tmp_path / "runs") == (
        "Mine: count is made by the first forward pass of a training, where no optimizer and no file of weights knows of it. "
        "Make all parameters and buffers in __init__."
    )


def making(again: bool) -> nn.Module:
    """A module that makes a layer in each forward pass, or in the first one only."""

    def forward(self: Any, x: Tensor) -> Any:
        if again or not hasattr(self, "late"):
            self.late = nn.Linear(4, 3)
        return self.late(self.features(x))

    return own(forward)


@pytest.mark.parametrize("again", [True, False])
def test_a_layer_made_in_forward_is_refused_and_advised_against(gray: visus.Data, tmp_path: Path, again: bool) -> None:
    advice = visus.summary(making(again), (1, 8, 8), 3, progress=False).advice
    assert [each.text for each in advice if each.kind == "unregistered"] == [
        "late: forward makes late.weight, late.bias (15 values): no optimizer updates a parameter that a forward pass makes, and no weights "
        "file fits the module before it ran. Make the layer in __init__, and only call it in forward; nn.LazyLinear finds the size of its input itself."
    ]
    assert refused(gray, making(again), tmp_path / "runs") == (
        "Mine: forward makes late.weight, late.bias: no optimizer updates a parameter that a forward pass makes, and each load of the run "
        "would draw other values. Make the layer in __init__, and only call it in forward (nn.LazyLinear finds the size of its input itself)."
    )


def test_a_layer_that_training_makes_again_is_refused(gray: visus.Data, tmp_path: Path) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        if self.training:
            self.head = nn.Linear(4, 3)
        return self.head(self.features(x))

    assert refused(gray, own(forward), tmp_path / "runs").startswith("Mine: forward makes head.weight, head.bias: ")


def test_parameters_without_a_gradient_are_named_before_training(gray: visus.Data, tmp_path: Path, quickly: None) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        return self.head(self.features(x).detach())

    module = own(forward)
    module.scale = nn.Parameter(torch.ones(2))
    _, warnings = trained(gray, module, tmp_path)
    assert warnings == [
        "no gradient reaches 3 parameter tensors of 5 (scale, conv.weight, conv.bias): training leaves them at their initial values. "
        "Look for detach, .data or torch.no_grad after them in forward, or use them there; if this is meant, set requires_grad = False."
    ]


# ---- what it keeps ----


def lazy() -> nn.Sequential:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_lazy_layers_get_their_shapes_and_values_from_the_seed(
    gray: visus.Data, tmp_path: Path, quickly: None, precision: str
) -> None:
    recipe = RECIPE.replace(precision=precision)
    first, second = (trained(gray, lazy(), tmp_path, recipe)[0].module.state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_lazy_layers_are_accounted_for_and_stay_lazy() -> None:
    module = lazy()
    assert visus.summary(module, (1, 8, 8)).num_parameters == 4 * 9 + 4 + 2 * 4 + 3 * 4 * 36 + 3
    assert isinstance(module[0], nn.LazyConv2d)


def old_weight_norm() -> nn.Module:
    with pytest.warns(FutureWarning):
        conv = nn.utils.weight_norm(nn.Conv2d(1, 4, 3))
    return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def keeping_activations() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Any:
        self.last = self.features(x)
        self.all = [self.last]
        return self.head(self.last)

    return own(forward)


def with_positions() -> nn.Module:
    def forward(self: Any, x: Tensor) -> Any:
        if getattr(self, "places", None) is None:
            self.places = torch.linspace(0, 1, x.shape[-1])
        return self.head(self.features(x * (self.head.bias.sum() * self.places)))

    return own(forward)


def tied() -> nn.Module:
    module = own(lambda self, x: self.head(self.features(x)) + self.aux(self.features(x)))
    module.aux.weight = module.head.weight
    return module


def with_own_weight(weight: Tensor) -> nn.Module:
    module = own(lambda self, x: (self.features(x).to(self.weight.dtype) @ self.weight).abs() + 0 * self.head.bias)
    module.weight = nn.Parameter(weight)
    return module


def parametrized(how: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(how(nn.Conv2d(1, 4, 3)), nn.Flatten(), nn.Linear(144, 3))


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "old weight_norm": old_weight_norm,
    "weight_norm": lambda: parametrized(nn.utils.parametrizations.weight_norm),
    "spectral_norm": lambda: parametrized(nn.utils.parametrizations.spectral_norm),
    "compiled": lambda: torch.compile(Own(), backend="eager"),
    "keeps activations": keeping_activations,
    "keeps positions": with_positions,
    "shared weights": tied,
    "weights that are not contiguous": lambda: with_own_weight(torch.randn(3, 4).t()),
    "complex weights": lambda: with_own_weight(torch.randn(4, 3, dtype=torch.complex64)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_a_module_keeps_and_computes_is_trained_written_and_read(
    gray: visus.Data, tmp_path: Path, quickly: None, name: str
) -> None:
    run, _ = trained(gray, MAKERS[name](), tmp_path)
    again = visus.load(run.folder, network=MAKERS[name]())
    images = [np.arange(192, dtype=np.uint8).reshape(3, 1, 8, 8)]
    assert [each.probability for each in run.predict(images)] == [each.probability for each in again.predict(images)]


def test_a_module_that_takes_one_size_alone_is_trained_at_that_size(gray: visus.Data, tmp_path: Path, quickly: None) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        assert x.shape[-1] == 8, "needs 8"
        return self.head(self.features(x))

    told: list[object] = []
    recipe = Recipe(epochs=1, batch_size=8, optimizer="muon", precision="float32", device="cpu")
    visus.train(gray, own(forward), recipe, output=tmp_path, on_event=told.append)
    (prepared,) = (event for event in told if isinstance(event, Prepared))
    assert "at full size throughout (the network accepts no other size)" in prepared.changes


class Counting(Own):
    """Keeps more than tensors, and a buffer that it replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Any = {"steps": 0, "seen": torch.zeros(2), "pair": (1, [2.5, None]), "array": np.arange(3), 7: b"\x00"}
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Any:
        """N C H W -> N 3."""
        if self.training:
            self.state["steps"] += 1
            self.steps = self.steps + 1
        return super().forward(x)

    def get_extra_state(self) -> Any:
        """As PyTorch asks for it."""
        return self.state

    def set_extra_state(self, state: Any) -> None:
        """As PyTorch puts it back."""
        self.state = state


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_extra_state_goes_through_weights_and_checkpoints(
    gray: visus.Data, tmp_path: Path, quickly: None, ema_decay: float
) -> None:
    recipe = RECIPE.replace(ema_decay=ema_decay, epochs=2)
    whole, _ = trained(gray, Counting(), tmp_path / "whole", recipe)
    steps: list[object] = []
    visus.train(
        gray,
        Counting(),
        recipe,
        output=tmp_path / "cut",
        on_event=lambda event: steps.append(event) if type(event).__name__ == "StepDone" else None,
        should_stop=lambda: len(steps) == 2,
    )
    visus.resume(tmp_path / "cut" / "gray", network=Counting())
    for folder in (whole.folder, tmp_path / "cut" / "gray"):
        module = visus.load(folder, network=Counting(), which="last").module
        assert isinstance(module, Counting)
        assert module.state["steps"] == int(module.steps) == 2 * (len(gray.split("train")) // 8)
        assert (module.state["pair"], module.state[7]) == ((1, [2.5, None]), b"\x00")
        assert torch.equal(module.state["seen"], torch.zeros(2))
        assert np.array_equal(module.state["array"], np.arange(3))


def test_extra_state_that_only_pickle_could_write_is_refused(gray: visus.Data, tmp_path: Path) -> None:
    class Part(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"a": object()}

        def set_extra_state(self, state: Any) -> None:
            pass

    assert refused(gray, nn.Sequential(nn.Flatten(), Part(64, 3)), tmp_path / "runs") == (
        "Sequential: 1: its state holds a value of the type object, which cannot be written without pickle. "
        "Return tensors, numbers, texts, lists and dicts from get_extra_state."
    )


# ---- after a training ----


def test_a_finished_training_leaves_report_and_card_whatever_the_module_refuses(gray: visus.Data, tmp_path: Path) -> None:
    def forward(self: Any, x: Tensor) -> Any:
        assert len(x) > 1, "never one"
        return self.head(self.features(x))

    run, _ = trained(gray, own(forward), tmp_path)
    names = {path.name for path in run.folder.iterdir()}
    assert {"scores.json", "inside.json", "report.html", "README.md", "confusion.png", "curves.png"} <= names
    missing = json.loads((run.folder / "inside.json").read_text("utf-8"))["missing"]
    assert missing["filters"].startswith("AssertionError: never one")


@pytest.mark.long
def test_images_that_cannot_be_drawn_are_reported_and_all_else_is_there(
    gray: visus.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    run, warnings = trained(gray, Own(), tmp_path)
    assert [each.partition(" is")[0] for each in warnings] == ["confusion.png", "curves.png"]
    assert warnings[0].startswith("confusion.png is missing from the run: ModuleNotFoundError: ")
    assert (run.folder / "report.html").is_file()
    assert {"scores.json", "report.html", "README.md"} <= {path.name for path in run.folder.iterdir()}

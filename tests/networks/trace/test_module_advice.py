"""Mistakes in the code of a module: found in modules that have them, and in no others.

The other answers: PyTorch's own forward on numbers, one sample of which is changed, and its list of parameters.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visus.design import FAMILIES, resolve_network
from visus.design.advice.advise import MODULE_KINDS, Advice
from visus.networks.build import build
from visus.workbench.summaries import summarize

from .hard_modules import HARD, Made
from .rearranged_modules import REARRANGED
from .recurrent_modules import RECURRENT

IMAGE = (3, 20, 20)


class Flattening(nn.Module):
    """A small network that flattens its maps in one of several ways."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(400 if way == "rows" else 1600, 10)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv(x)))
        if self.way == "rows":
            x = x.view(-1, 400)
        elif self.way == "permuted":
            x = x.permute(1, 2, 3, 0).reshape(-1, 1600)
        elif self.way == "centered":
            x = (x - x.mean(0)).flatten(1)
        else:
            x = x.flatten(1)
        return self.head(x)


def advice_on(module: nn.Module, shape: tuple[int, ...] = IMAGE) -> list[Advice]:
    return [each for each in summarize(module, shape, 10).advice if each.kind in MODULE_KINDS]


def is_changed_by_the_other_sample(module: nn.Module) -> bool:
    """Whether the first output of two changes with the second sample."""
    one = torch.randn(2, *IMAGE)
    two = torch.cat([one[:1], torch.randn(1, *IMAGE)])
    with torch.no_grad():
        return not torch.equal(module.eval()(one)[0], module(two)[0])


@pytest.mark.parametrize("way", ["apart", "permuted", "centered"])
def test_samples_are_mixed_if_the_output_of_one_changes_with_another(way: str) -> None:
    module = Flattening(way)
    assert bool(advice_on(module)) == is_changed_by_the_other_sample(module) == (way != "apart")


def test_a_reshape_that_mixes_samples_is_found_at_the_layer_where_they_meet() -> None:
    (advice,) = advice_on(Flattening("permuted"))
    assert advice.text == (
        "head: the output of a sample depends on the other samples of its batch: values of several samples meet in this layer. "
        "Flatten with x.flatten(1), which keeps the samples apart, and size the next layer by what it then receives."
    )


class Normalized(nn.Module):
    """Logits that are normalized over some dimension."""

    def __init__(self, normalize: nn.Module) -> None:
        super().__init__()
        self.head, self.normalize = nn.Linear(1200, 10), normalize

    def forward(self, x: Tensor) -> Tensor:
        return self.normalize(self.head(x.flatten(1)))


@pytest.mark.parametrize("layer", [nn.Softmax, nn.LogSoftmax])
def test_a_softmax_over_the_batch_is_to_get_the_dimension_of_the_classes(layer: type[nn.Softmax]) -> None:
    (advice,) = advice_on(Normalized(layer(dim=0)))
    assert advice.text == (
        "normalize: the output of a sample depends on the other samples of its batch: values of several samples meet in this layer. "
        "Apply the softmax with dim=1, over the classes; dim=0 is the batch."
    )
    assert advice_on(Normalized(layer(dim=1))) == []


class Limited(Normalized):
    """Logits after a function that limits them."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(x))


def test_logits_that_a_function_limits_are_found() -> None:
    found = [each for each in summarize(Limited(nn.Identity()), IMAGE, 10).advice if each.kind == "output"]
    assert [each.text for each in found] == [
        "the network ends with a sigmoid, and the cross-entropy loss applies softmax itself: values from 0 to 1 give a class at most "
        "e/(e + 9) = 23.2 %. Return the values before it."
    ]


def test_a_mean_over_the_batch_is_not_to_be_flattened() -> None:
    (advice,) = advice_on(Flattening("centered"))
    assert advice.remedies == ("compute over dimensions from 1 on; dim=0 is the batch",)


def test_a_reshape_that_makes_several_rows_of_a_sample_is_found_with_its_sum() -> None:
    module = Flattening("rows")
    (advice,) = advice_on(module)
    assert advice.text == (
        "head: the network returns 4 rows for each sample, and the loss needs one. The values of a sample enter this layer "
        "as 4 rows of 400; 4 x 400 = 1,600 values belong into one row. Flatten with x.flatten(1), which keeps the samples "
        "apart, and size the next layer by what it then receives."
    )
    assert len(module(torch.zeros(5, *IMAGE))) == 4 * 5
    assert module.pool(module.conv(torch.zeros(5, *IMAGE))).flatten(1).shape[1] == 1600


class Listed(nn.Module):
    """Layers in a plain list and in a plain dict; one that is registered too, and a frozen one, are no mistakes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(32, 10)
        self.convs = [nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)]
        self.by_name = {"square": nn.Linear(32, 32)}
        self.bias = [nn.Parameter(torch.zeros(10))]
        self.again = [self.head, nn.ReLU()]
        self.frozen = [nn.Linear(3, 3).requires_grad_(False)]

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.relu(conv(x))
        return self.head(F.relu(self.by_name["square"](x.mean((2, 3))))) + self.bias[0]


def test_layers_in_a_plain_list_or_dict_are_found_with_their_parameters() -> None:
    module = Listed()
    assert [each.text for each in advice_on(module)] == [
        "convs: a plain list holds 2 layers with 448 + 4,640 = 5,088 parameters. PyTorch does not see them there: no optimizer "
        "updates them, and no weights file holds them. Use nn.ModuleList instead of the list.",
        "by_name: a plain dict holds 1 layer with 1,056 parameters. PyTorch does not see it there: no optimizer updates it, and "
        "no weights file holds it. Use nn.ModuleDict instead of the dict.",
        "bias: a plain list holds 1 parameter with 10 values. PyTorch does not see it there: no optimizer updates it, and no "
        "weights file holds it. Use nn.ParameterList instead of the list.",
    ]
    registered = sum(each.numel() for each in module.parameters())
    module.convs, module.by_name = nn.ModuleList(module.convs), nn.ModuleDict(module.by_name)  # type: ignore[assignment]
    module.bias = nn.ParameterList(module.bias)  # type: ignore[assignment]
    assert sum(each.numel() for each in module.parameters()) - registered == 5_088 + 1_056 + 10
    assert advice_on(module) == []


class Forgotten(nn.Module):
    """Layers that forward does not call; a loss, a softmax, an identity and what runs in training alone are no mistakes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 10)
        self.old = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 10))
        self.act = nn.ReLU()
        self.criterion, self.softmax, self.same, self.drop = (
            nn.CrossEntropyLoss(),
            nn.Softmax(1),
            nn.Identity(),
            nn.Dropout(0.0),
        )
        self.auxiliary = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).mean((2, 3))
        return self.head(x) + self.auxiliary(x) if self.training else self.head(x)


def test_layers_that_are_never_called_are_found_together() -> None:
    (advice,) = advice_on(Forgotten())
    assert advice.text == (
        "old: the forward pass never calls 2 layers: old (Sequential, 314 parameters), act (ReLU). "
        "Call them in forward, or remove them."
    )
    assert advice.paths == ("old", "act")


def test_one_layer_that_is_never_called_is_named() -> None:
    module = Forgotten()
    module.act = nn.Identity()
    assert [each.sentence for each in advice_on(module)] == [
        "the forward pass never calls this layer (Sequential, 314 parameters)."
    ]


def test_a_frozen_layer_that_is_never_called_is_named_as_any_other() -> None:
    frozen = Forgotten()
    frozen.old.requires_grad_(False)
    assert advice_on(frozen) == advice_on(Forgotten())


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_modules_of_the_families_have_no_such_mistakes(family: str) -> None:
    shape = {"lenet5": (1, 32, 32), "mlp": (1, 28, 28), "inception": (3, 108, 97)}.get(family, (3, 65, 64))
    design = resolve_network("mlp(16)" if family == "mlp" else family, input_shape=shape, num_classes=10)
    assert advice_on(build(design, shape, 10), shape) == []


@pytest.mark.parametrize("name", [*HARD, *REARRANGED])
def test_hard_modules_have_no_such_mistakes_but_layers_for_other_tests(name: str) -> None:
    make, shape = (HARD | REARRANGED)[name]
    assert {each.kind for each in advice_on(make(), shape)} <= {"unused"}
    if name in HARD:
        assert advice_on(make(), shape) == []


class Encoder(nn.Module):
    """Attention and a recurrent layer, with the samples in the second dimension in between."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.first = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.second = nn.TransformerEncoderLayer(32, 4, 64)
        self.recurrent = nn.LSTM(32, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.patches(x).flatten(2).transpose(1, 2))
        x, _ = self.recurrent(self.second(x.transpose(0, 1)).transpose(0, 1))
        return self.head(x[:, -1])


def test_attention_and_recurrent_layers_keep_samples_apart() -> None:
    assert advice_on(Encoder()) == []


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_keep_samples_apart(name: str) -> None:
    make, shape = RECURRENT[name]
    assert [each for each in advice_on(make(), shape) if each.kind == "batch"] == []


def test_advice_leaves_the_module_as_it_was() -> None:
    module = Listed()
    before = {name: dict(vars(each)["_forward_hooks"]) for name, each in module.named_modules()}
    advice_on(module)
    assert {name: dict(vars(each)["_forward_hooks"]) for name, each in module.named_modules()} == before
    assert module(torch.zeros(1, *IMAGE)).shape == (1, 10)


def test_a_module_that_needs_numbers_is_not_judged() -> None:
    module = Made(lambda m, x: x.mean((2, 3)) if bool((x > 0).any()) else x.amax((2, 3)))
    assert advice_on(module) == []

"""Weights to begin with: any file of tensors is read without running what is in it, and matched by name."""

from __future__ import annotations

import contextlib
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from visus.design import parse
from visus.errors import WeightsError
from visus.networks import build, weights
from visus.networks.initial_weights import from_file

DESIGN = "conv(4, 3), norm, relu, globalpool, linear(classes)"


def network(num_classes: int = 3, seed: int = 0, text: str = DESIGN) -> nn.Module:
    return build(parse(text), (1, 8, 8), num_classes, seed=seed)


def same(one: nn.Module, other: nn.Module, *, but: tuple[str, ...] = ()) -> bool:
    state = other.state_dict()
    return all(torch.equal(values, state[name]) for name, values in one.state_dict().items() if name not in but)


def test_files_of_pytorch_and_safetensors_give_the_same_tensors(tmp_path: Path) -> None:
    given = network(seed=1)
    state = given.state_dict()
    weights.save(given, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pt")
    torch.save(state, tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "d.pt")
    torch.save({"model": {"state_dict": state}}, tmp_path / "e.pt")
    for name in ("a.safetensors", "b.pt", "c.pth", "d.pt", "e.pt"):
        module = network(seed=2)
        assert weights.load_initial_weights(module, weights.read_weights(tmp_path / name)) == ()
        assert same(given, module), name


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module.model."])
def test_a_prefix_of_all_names_is_dropped_and_said(tmp_path: Path, prefix: str) -> None:
    given, module = network(seed=1), network(seed=2)
    torch.save({f"{prefix}{name}": values for name, values in given.state_dict().items()}, tmp_path / "w.pt")
    found = from_file(tmp_path / "w.pt").named_as(module)
    assert found.load_into(module) == ()
    assert same(given, module)
    assert found.source == f"the weights in w.pt (names without their prefix {prefix})"


def test_names_that_fit_no_layer_keep_their_prefix(tmp_path: Path) -> None:
    torch.save({"model.other": torch.zeros(1)}, tmp_path / "w.pt")
    found = from_file(tmp_path / "w.pt").named_as(network(seed=1))
    assert found.tensors is not None
    assert list(found.tensors) == ["model.other"]
    assert found.source == "the weights in w.pt"


class Headed(nn.Module):
    """A network with two heads, of which one is a convolution."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body, self.side, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, num_classes), nn.Conv2d(4, num_classes, 1)


def test_every_head_for_another_number_of_classes_is_new() -> None:
    given, module = Headed(9), Headed(5)
    before = module.side.weight.clone()
    found = weights.load_initial_weights(module, given.state_dict(), 5)
    assert set(found) == {"side.weight", "side.bias", "head.weight", "head.bias"}
    assert torch.equal(module.side.weight, before)
    assert torch.equal(module.body.weight, given.body.weight)


class Harm:
    """What a hostile file would have run."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return exec, ("raise SystemExit('it was run')",)


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    torch.save({"weight": Harm()}, tmp_path / "w.pt")
    with pytest.raises(WeightsError) as caught:
        weights.read_weights(tmp_path / "w.pt")
    assert str(caught.value) == (
        f"{tmp_path}/w.pt: this file cannot be read without running code in it (exec). "
        "Save the state dict alone: torch.save(network.state_dict(), FILE)."
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"epoch": 3, "lr": 0.1}, "a dict of epoch, lr"),
        ({}, "an empty dict"),
        (torch.zeros(3), "a Tensor"),
    ],
)
def test_a_file_without_tensors_by_name_is_reported(content: object, told: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError) as caught:
        weights.read_weights(tmp_path / "w.pt")
    assert str(caught.value) == (
        f"{tmp_path}/w.pt: a dict of tensors is needed, and this file holds {told}. "
        "Save the state dict alone: torch.save(network.state_dict(), FILE)."
    )


DAMAGED = "this file of torch.save is damaged or truncated. Use another copy of it."
SAVE = "Save the state dict alone: torch.save(network.state_dict(), FILE)."


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_file_that_was_cut_anywhere_is_reported_so(is_zip: bool, tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=is_zip)
    content = (tmp_path / "w.pt").read_bytes()
    for length in (2, 12, 60, 300, len(content) // 2, len(content) - 30, len(content) - 1):
        (tmp_path / "cut.pt").write_bytes(content[:length])
        with pytest.raises(WeightsError) as caught:
            weights.read_weights(tmp_path / "cut.pt")
        assert str(caught.value) == f"{tmp_path}/cut.pt: {DAMAGED}"


def test_no_damaged_byte_ends_in_anything_but_a_sentence(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    content = (tmp_path / "w.pt").read_bytes()
    for place in range(0, len(content), 3):
        spoilt = bytearray(content)
        spoilt[place] ^= 0x15
        (tmp_path / "w.pt").write_bytes(spoilt)
        with contextlib.suppress(WeightsError):
            weights.read_weights(tmp_path / "w.pt")
    (tmp_path / "w.pt").write_bytes(b"\x80")
    with pytest.raises(WeightsError) as caught:
        weights.read_weights(tmp_path / "w.pt")
    assert str(caught.value) == f"{tmp_path}/w.pt: {DAMAGED}"


def write_kind(kind: str, file: Path) -> None:
    """A file that is easily taken for a state dict."""
    state = {"weight": torch.zeros(2)}
    match kind:
        case "protocol":
            torch.save(state, file, pickle_protocol=4)
        case "pickle":
            file.write_bytes(pickle.dumps(state))
        case "numpy":
            with file.open("wb") as opened:
                np.savez(opened, weight=np.zeros(2))
        case "script":
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("net/data.pkl", b"")
                archive.writestr("net/constants.pkl", b"")
        case _:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("letter.txt", "Dear all")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (
            "protocol",
            "this file has pickle protocol 4, and without running code in it PyTorch reads only protocol 2. "
            f"Save it again without pickle_protocol. {SAVE}",
        ),
        ("pickle", f"this is a pickle that torch.save did not write. {SAVE}"),
        (
            "numpy",
            "this is a NumPy file of arrays (weight), and safetensors or a state dict of PyTorch is needed. Write one from it: "
            "torch.save({name: torch.from_numpy(array) for name, array in numpy.load(NPZ).items()}, FILE).",
        ),
        (
            "script",
            "this is a TorchScript archive, and safetensors or a state dict of PyTorch is needed. Write one from it: "
            "torch.save(torch.jit.load(ARCHIVE).state_dict(), FILE).",
        ),
        ("zip", f"this is a zip archive of other files (letter.txt), not a file of torch.save. {SAVE}"),
    ],
)
def test_a_file_of_another_kind_is_known_by_its_kind(kind: str, told: str, tmp_path: Path) -> None:
    write_kind(kind, tmp_path / "w.pt")
    with pytest.raises(WeightsError) as caught:
        weights.read_weights(tmp_path / "w.pt")
    assert str(caught.value) == f"{tmp_path}/w.pt: {told}"


def test_numbers_that_are_not_finite_are_named_and_nothing_is_loaded() -> None:
    given, module, before = network(5, seed=1), network(3), network(3)
    state = given.state_dict()
    state["conv1.weight"][0, 0, 1, 1:] = float("nan")
    state["norm1.bias"][2] = float("inf")
    state["linear1.weight"][0, 0] = float("nan")  # of a head for other classes, which is not loaded
    with pytest.raises(WeightsError) as caught:
        weights.load_initial_weights(module, state)
    assert str(caught.value) == (
        "the weights do not match the network. 2 mistakes:\n"
        "  - conv1.weight holds NaN or infinity in 2 of 36 values.\n"
        "  - norm1.bias holds NaN or infinity in 1 of 4 values."
    )
    assert same(module, before)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        weights.read_weights(tmp_path / "w.pt")
    assert str(caught.value) == f"{tmp_path}/w.pt: this weights file cannot be read: No such file or directory."


def test_only_the_head_may_be_for_another_number_of_classes() -> None:
    module, given = network(5), network(3, seed=1)
    new = ("linear1.weight", "linear1.bias")
    before = {name: module.state_dict()[name].clone() for name in new}
    assert weights.load_initial_weights(module, given.state_dict()) == new
    assert same(module, given, but=new)
    assert all(torch.equal(values, module.state_dict()[name]) for name, values in before.items())


def test_counters_that_old_files_lack_are_no_mistake() -> None:
    state = network(seed=1).state_dict()
    del state["norm1.num_batches_tracked"]
    module = network()
    assert weights.load_initial_weights(module, state) == ()
    assert torch.equal(module.state_dict()["conv1.weight"], state["conv1.weight"])


def test_missing_left_over_and_misshapen_layers_are_each_named_and_nothing_is_loaded() -> None:
    given = network(3, text="conv(6, 3), norm(name='bn'), relu, globalpool, linear(classes)")
    module = network(3)
    before = network(3)
    with pytest.raises(WeightsError) as caught:
        weights.load_initial_weights(module, given.state_dict())
    told = str(caught.value)
    assert "conv1.weight is 6 x 1 x 3 x 3 in the weights and 4 x 1 x 3 x 3 in the network." in told
    assert "norm1.weight (4) is missing from the weights." in told
    assert "bn.weight is in the weights, and the network has no such layer. Was it 'norm1.weight'?" in told
    assert same(module, before)

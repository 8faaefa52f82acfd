"""The choice of device and precision follows from features alone; machines that are not here are played."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from visus.errors import UsageError
from visus.networks import machine
from visus.networks.machine import Machine, autocast, choose, describe, quick_speed, suited


@pytest.fixture
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with nothing but an old processor; a test adds what it needs."""
    for question in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, question, lambda: False, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return monkeypatch


def give_cuda(patch: pytest.MonkeyPatch, capability: tuple[int, int], count: int = 1) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(torch.cuda, "device_count", lambda: count)
    patch.setattr(torch.cuda, "current_device", lambda: 0)
    patch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    patch.setattr(torch.cuda, "get_device_name", lambda device=None: "Some GPU")


def test_an_old_processor_computes_in_float32(plain_machine: pytest.MonkeyPatch) -> None:
    assert choose() == Machine(
        torch.device("cpu"), "float32", False, "float32: this processor has neither AMX nor AVX-512 BF16"
    )


@pytest.mark.parametrize(
    ("question", "feature"), [("_is_amx_tile_supported", "AMX"), ("_is_avx512_bf16_supported", "AVX-512 BF16")]
)
def test_a_processor_with_bfloat16_uses_it(plain_machine: pytest.MonkeyPatch, question: str, feature: str) -> None:
    plain_machine.setattr(torch.cpu, question, lambda: True, raising=False)
    assert choose() == Machine(torch.device("cpu"), "bfloat16", True, f"bfloat16: this processor has {feature}")


def test_a_pytorch_without_the_private_questions_means_float32(plain_machine: pytest.MonkeyPatch) -> None:
    for question in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        plain_machine.delattr(torch.cpu, question)
    assert choose().precision == "float32"


@pytest.mark.parametrize(
    ("capability", "precision", "reason"),
    [
        ((9, 0), "bfloat16", "bfloat16: Some GPU has compute capability 9.0"),
        ((7, 5), "float16", "float16: Some GPU has compute capability 7.5, and bfloat16 needs 8.0"),
        ((6, 1), "float32", "float32: Some GPU has compute capability 6.1, and bfloat16 needs 8.0"),
    ],
)
def test_a_gpu_is_taken_first_and_its_capability_decides(
    plain_machine: pytest.MonkeyPatch, capability: tuple[int, int], precision: str, reason: str
) -> None:
    give_cuda(plain_machine, capability)
    chosen = choose()
    assert (str(chosen.device), chosen.precision, chosen.channels_last) == ("cuda:0", precision, precision != "float32")
    assert chosen.reason == reason
    assert choose("cuda").device == chosen.device
    assert choose("cpu").device.type == "cpu"


def test_apples_gpu_computes_in_float32(plain_machine: pytest.MonkeyPatch) -> None:
    plain_machine.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose().to_dict() == {
        "device": "mps",
        "precision": "float32",
        "channels_last": False,
        "reason": "float32: by default visus uses bfloat16 only on x86 processors and on CUDA devices",
    }


def test_a_precision_that_is_asked_for_is_used(plain_machine: pytest.MonkeyPatch) -> None:
    assert choose("cpu", "float16").reason == (
        "float16: asked for, though this device has no fast float16, so it may be slower than float32"
    )
    assert choose("cpu", "bfloat16").reason == (
        "bfloat16: asked for, though this processor has neither AMX nor AVX-512 BF16, so it may be slower than float32"
    )
    give_cuda(plain_machine, (9, 0))
    assert choose("cuda:0", "float32") == Machine(torch.device("cuda:0"), "float32", False, "float32: asked for")


def refusal(*arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        choose(*arguments)
    return str(caught.value)


def test_unknown_and_absent_devices_are_refused_in_words(plain_machine: pytest.MonkeyPatch) -> None:
    plain_machine.setattr(torch.version, "cuda", None)
    plain_machine.setattr(torch.version, "hip", None, raising=False)
    plain_machine.setattr(torch, "__version__", "2.13.0+cpu")
    assert refusal("gpu") == "unknown device 'gpu'. Did you mean 'cuda'? Known: auto, cpu, cuda, mps."
    assert refusal("0") == "unknown device '0'. Did you mean 'cuda:0'? Known: auto, cpu, cuda, mps, cuda:N."
    assert refusal("cuda:x") == "unknown device 'cuda:x'. Did you mean 'cuda'? Known: auto, cpu, cuda, mps."
    assert refusal("cuda") == (
        "the device 'cuda' is not available: this PyTorch (2.13.0+cpu) is built without CUDA. Available: cpu. Use one of these, or auto."
    )
    assert refusal("mps") == "the device 'mps' is not available. Available: cpu. Use one of these, or auto."
    assert (
        refusal("auto", "bfloat")
        == "unknown precision 'bfloat'. Did you mean 'bfloat16'? Known: auto, bfloat16, float16, float32."
    )
    plain_machine.setattr(torch.version, "cuda", "12.6")
    assert refusal("cuda") == (
        "the device 'cuda' is not available: this PyTorch (2.13.0+cpu) is built for CUDA but finds no device or no driver. "
        "Available: cpu. Use one of these, or auto."
    )
    give_cuda(plain_machine, (9, 0), count=2)
    assert (
        refusal("cuda:7")
        == "the device 'cuda:7' is not available. Available: cuda:0, cuda:1, cpu. Use one of these, or auto."
    )


def test_autocast_lowers_a_convolution_to_the_precision() -> None:
    conv, batch = torch.nn.Conv2d(1, 1, 3), torch.zeros(1, 1, 5, 5)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        with autocast(torch.device("cpu"), precision):
            assert conv(batch).dtype == dtype
    with pytest.raises(UsageError) as caught:
        autocast(torch.device("cpu"), "float64")
    assert str(caught.value) == "unknown precision 'float64'. Did you mean 'float16'? Known: bfloat16, float16, float32."


def test_the_description_is_plain_data_about_this_machine(tmp_path: Path) -> None:
    facts = describe(tmp_path / "not" / "yet")
    assert json.loads(json.dumps(facts)) == facts
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["cores"] >= 1
    assert facts["threads"] == torch.get_num_threads()
    assert facts["free_bytes"] > 0
    assert "free_bytes" not in describe()


def test_cores_and_memory_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 3)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 1_000_000)
    assert (describe()["cores"], describe()["memory_bytes"]) == (3, 1_000_000)


@pytest.mark.long
def test_the_speed_test_compares_ways_and_leaves_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    speeds = quick_speed("cpu", seconds=0.01)
    assert torch.equal(torch.rand(3), expected)
    assert [speed.name for speed in speeds] == ["float32", "float32, channels last", "bfloat16, channels last"]
    assert speeds[0].ratio == 1.0
    assert all(speed.ratio == pytest.approx(speed.samples_per_second / speeds[0].samples_per_second) for speed in speeds)


@pytest.mark.parametrize(("channels", "dilation"), [(24, 1), (24, 2), (40, 3)])
def test_gradients_in_the_layout_that_suits_a_network_are_those_of_float32(channels: int, dilation: int) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
    suiting = suited(Machine(torch.device("cpu"), "bfloat16", True, "bfloat16: asked for"), torch.nn.Sequential(layer))
    assert suiting.channels_last == (dilation == 1)
    said = "bfloat16: asked for" + (
        "" if dilation == 1 else "; not channels last, since the network has dilated convolutions"
    )
    assert suiting.reason == said
    layout = torch.channels_last if suiting.channels_last else torch.contiguous_format
    samples = torch.randn(4, channels, 32, 32, generator=generator)
    weights = torch.randn(4, channels, 32, 32, generator=generator)
    (expected,) = torch.autograd.grad((layer(samples) * weights).sum(), [layer.weight])
    layer = layer.to(memory_format=layout)
    with suiting.autocast():
        drawn = layer(samples.contiguous(memory_format=layout))
    (found,) = torch.autograd.grad((drawn.float() * weights).sum(), [layer.weight])
    assert float((found - expected).norm() / expected.norm()) < 0.02


@pytest.mark.slow
def test_a_process_can_keep_the_memory_that_it_frees() -> None:
    code = "from visus.networks.machine import keep_freed_memory; import torch; print(keep_freed_memory()); print(int(torch.ones(3000, 3000).sum()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, total = done.stdout.split()
    assert kept == str(platform.libc_ver()[0] == "glibc")
    assert total == "9000000"


def test_where_the_allocator_has_no_such_setting_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: object())
    assert machine.keep_freed_memory() is False


@pytest.mark.slow
def test_memory_that_was_kept_is_given_back_after_a_block() -> None:
    code = """
import torch
from visus.networks.machine import freed_memory_kept

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

before = resident()
with freed_memory_kept():
    held = [torch.ones(1_000_000) for _ in range(50)]
    del held
    inside = resident() - before
print(inside, resident() - before)
"""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("another C library")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    inside, after = map(int, done.stdout.split())
    assert inside > 150_000_000
    assert after < 50_000_000

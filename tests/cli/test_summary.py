"""``visus summary``, ``diff``, ``solve`` and ``compare``: the texts that they print, exactly, and what they do not load."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.commands import Call
from torch import nn

import visus
from visus.design import account, parse
from visus.errors import DesignError, UsageError
from visus.workbench.summaries import summarize

IMPOSSIBLE = [
    (
        "conv(8, 3), relu, maxpool(2), conv(16, 5), relu, maxpool(2), conv(32, 5), globalpool, linear(classes)",
        "1,20,20",
        """
 path   layer                   output       parameters  multiply-adds  receptive field
 conv1  conv(8, 3, bias=True)   8 x 18 x 18          80         23.3 k  3/1
 relu1  relu                    8 x 18 x 18           0              0  3/1
 pool1  maxpool(2)              8 x 9 x 9             0              0  4/2
 conv2  conv(16, 5, bias=True)  16 x 5 x 5        3,216         80.0 k  12/2
 relu2  relu                    16 x 5 x 5            0              0  12/2
 pool2  maxpool(2)              16 x 2 x 2            0              0  14/4
3,296 parameters, 103 k multiply-adds for one sample up to here
""",
        "conv3: a 5 x 5 window does not fit a 2 x 2 map: (2 - 5 + 2*0)/1 + 1 = -2. The smallest image for this design is 30 x 30 (yours: 20 x 20). Or: padding=2; or kernel_size=2; or drop pool2.",
    ),
    (
        "conv(8, 3), norm, relu, linear(classes)",
        "3,8,8",
        """
 path   layer                   output     parameters  multiply-adds  receptive field
 conv1  conv(8, 3, bias=False)  8 x 6 x 6         216         7.78 k  3/1
 norm1  norm                    8 x 6 x 6          16              0  3/1
 relu1  relu                    8 x 6 x 6           0              0  3/1
232 parameters, 7.78 k multiply-adds for one sample up to here
""",
        "linear1: linear needs features, but its input is a map of 8 x 6 x 6. Add flatten or globalpool before it.",
    ),
    (
        "flatten, linear(16), relu, conv(8, 3)",
        "3,8,8",
        """
 path      layer       output  parameters  multiply-adds  receptive field
 flatten1  flatten     192              0              0  1/1
 linear1   linear(16)  16           3,088         3.07 k  all
 relu1     relu        16               0              0  all
3,088 parameters, 3.07 k multiply-adds for one sample up to here
""",
        "conv1: conv needs a map (channels and at least one axis), and gets 16 features. Put it before flatten, globalpool or linear.",
    ),
    (
        "conv(8, 3), relu, residual(conv(8, 3), norm), relu",
        "3,8,8",
        """
 path             layer                   output     parameters  multiply-adds  receptive field
 conv1            conv(8, 3, bias=True)   8 x 6 x 6         224         7.78 k  3/1
 relu1            relu                    8 x 6 x 6           0              0  3/1
 residual1.conv1  conv(8, 3, bias=False)  8 x 4 x 4         576         9.22 k  5/1
 residual1.norm1  norm                    8 x 4 x 4          16              0  5/1
816 parameters, 17.0 k multiply-adds for one sample up to here
""",
        "residual1: the layers turn a map of 6 x 6 into 4 x 4, which cannot be added to the input: a projection of stride 1 makes it 6 x 6. What works: padding=1 in residual1.conv1.",
    ),
    (
        "conv(8, 3), concat([conv(4, 1)], [maxpool(2)]), relu",
        "3,8,8",
        """
 path                   layer                  output     parameters  multiply-adds  receptive field
 conv1                  conv(8, 3, bias=True)  8 x 6 x 6         224         7.78 k  3/1
 concat1.branch1.conv1  conv(4, 1, bias=True)  4 x 6 x 6          36         1.15 k  3/1
 concat1.branch2.pool1  maxpool(2)             8 x 3 x 3           0              0  4/2
260 parameters, 8.93 k multiply-adds for one sample up to here
""",
        "concat1: branch1 ends in a map of 4 x 6 x 6 and branch2 in a map of 8 x 3 x 3. To be stacked, they must agree in all but the channels.",
    ),
    (
        "conv(8, 3), groupnorm(3), relu",
        "3,8,8",
        """
 path   layer                  output     parameters  multiply-adds  receptive field
 conv1  conv(8, 3, bias=True)  8 x 6 x 6         224         7.78 k  3/1
224 parameters, 7.78 k multiply-adds for one sample up to here
""",
        "groupnorm1: 8 channels cannot be cut into 3 equal groups. Nearest that can: 2.",
    ),
    (
        "conv(6, 3), relu, conv(8, 3, groups=4)",
        "3,8,8",
        """
 path   layer                  output     parameters  multiply-adds  receptive field
 conv1  conv(6, 3, bias=True)  6 x 6 x 6         168         5.83 k  3/1
 relu1  relu                   6 x 6 x 6           0              0  3/1
168 parameters, 5.83 k multiply-adds for one sample up to here
""",
        "conv2: groups=4 must divide the 6 channels that come in and the 8 that go out. Groups that do: 1, 2.",
    ),
    (
        "conv(8, 3), relu, residual(conv(8, 3, padding=1), flatten), linear(classes)",
        "3,8,8",
        """
 path                layer                             output     parameters  multiply-adds  receptive field
 conv1               conv(8, 3, bias=True)             8 x 6 x 6         224         7.78 k  3/1
 relu1               relu                              8 x 6 x 6           0              0  3/1
 residual1.conv1     conv(8, 3, padding=1, bias=True)  8 x 6 x 6         584         20.7 k  5/1
 residual1.flatten1  flatten                           288                 0              0  5/1
808 parameters, 28.5 k multiply-adds for one sample up to here
""",
        "residual1: the layers turn a map of 8 x 6 x 6 into 288 features, which cannot be added to the input. Keep flatten and globalpool out of the residual.",
    ),
    (
        "conv(8, 3), avgpool(2), conv(16, (3, 3, 3))",
        "3,8,8",
        """
 path   layer                  output     parameters  multiply-adds  receptive field
 conv1  conv(8, 3, bias=True)  8 x 6 x 6         224         7.78 k  3/1
 pool1  avgpool(2)             8 x 3 x 3           0              0  4/2
224 parameters, 7.78 k multiply-adds for one sample up to here
""",
        "conv2: kernel_size=(3, 3, 3) has 3 numbers, and the map has 2 axes. Give one number for all axes, or 2.",
    ),
    (
        'sequence(conv(8, 3, dilation=4), relu, name="stem"), 2 * [conv(8, 3), maxpool(2)], globalpool, linear(classes)',
        "3,16,16",
        """
 path          layer                              output     parameters  multiply-adds  receptive field
 stem.conv1    conv(8, 3, dilation=4, bias=True)  8 x 8 x 8         224         13.8 k  9/1
 stem.relu1    relu                               8 x 8 x 8           0              0  9/1
 block1.conv1  conv(8, 3, bias=True)              8 x 6 x 6         584         20.7 k  11/1
 block1.pool1  maxpool(2)                         8 x 3 x 3           0              0  12/2
 block2.conv1  conv(8, 3, bias=True)              8 x 1 x 1         584            576  16/2
1,392 parameters, 35.1 k multiply-adds for one sample up to here
""",
        "block2.pool1: a 2 x 2 window does not fit a 1 x 1 map: (1 - 2 + 2*0)/2 + 1 = 0.5, rounded down to 0. The smallest image for this design is 18 x 18 (yours: 16 x 16). Or: padding=1; or drop block2.pool1.",
    ),
]


@pytest.mark.parametrize(("design", "shape", "table", "error"), IMPOSSIBLE)
def test_an_impossible_design_prints_its_rows_up_to_the_failing_layer_and_then_the_error(
    visus_command: Call, design: str, shape: str, table: str, error: str
) -> None:
    answer = visus_command("summary", design, "--input", shape, "--classes", "10")
    assert "\n".join(line.rstrip() for line in answer.out.splitlines()) == table.strip("\n")
    assert (answer.code, answer.err) == (2, f"error: {error}\n")


@pytest.mark.parametrize(("design", "shape", "table", "error"), IMPOSSIBLE)
def test_rows_up_to_the_failing_layer_are_those_of_the_same_layers_without_what_follows(
    design: str, shape: str, table: str, error: str
) -> None:
    lengths = tuple(map(int, shape.split(",")))
    found = summarize(design, lengths, 10)
    assert str(found.error) == error
    assert len(found.account.rows) == len(table.strip("\n").splitlines()) - 2
    before, _, _ = design.partition(", concat" if "concat" in design else ", residual" if "residual" in design else "\0")
    if before != design:
        alone = account(parse(before), lengths, 10)
        assert found.account.rows[: len(alone.rows)] == alone.rows


def test_impossible_as_json_has_the_rows_so_far_and_the_error(visus_command: Call) -> None:
    answer = visus_command("summary", "conv(8, 3), linear(2)", "--input", "1,8,8", "--json")
    facts = json.loads(answer.out)
    assert answer.code == 2
    assert [row["path"] for row in facts["rows"]] == ["conv1"]
    assert facts["error"] == answer.err.removeprefix("error: ").strip()


def test_summary_prints_advice_after_the_totals_and_marks_what_they_mean(visus_command: Call) -> None:
    text = 'conv(4, 3), groupnorm(2), concat([conv(4, 2, padding="same")], [conv(4, 3, padding=1)]), globalpool, linear(classes), softmax'
    lines = visus_command("summary", text, "--input", "1,12,12", "--classes", "3").out.splitlines()
    assert [line.split()[-1] for line in lines[1:6]] == ["3/1", "3/1*", "4/1*", "5/1*", "5/1*!"]
    assert lines[9:12] == [
        "* every position also depends on positions beyond its window, as through a gate, a norm over the spatial axes or a running sum",
        "! the paths joined here are not aligned",
        "291 parameters, 24.4 k multiply-adds for one sample",
    ]
    assert lines[12].startswith("memory of a training step with batches of 64: ")
    assert lines[13].startswith("softmax1: the network ends with a softmax")


def test_summary_as_json_has_the_promised_names(visus_command: Call) -> None:
    text = "conv(4, 3), relu, globalpool, linear(classes), softmax"
    facts = json.loads(visus_command("summary", text, "--input", "1,12,12", "--classes", "3", "--json").out)
    assert {"input", "output", "num_parameters", "macs", "rows", "advice"} <= facts.keys()
    assert (facts["input"], facts["output"], facts["num_parameters"]) == ([1, 12, 12], [3], 55)
    assert set(facts["advice"][0]) == {"kind", "path", "sentence", "remedies"}
    assert (facts["advice"][0]["kind"], facts["advice"][0]["path"]) == ("softmax", "softmax1")


def test_summary_reports_the_memory_of_a_training(visus_command: Call) -> None:
    # 1,010 parameters: 12,120 bytes with adamw's numbers.
    # The peak is in the update: 400 bytes of the input and 40 of the output for each sample, and two copies of the largest weight.
    line = "{:,} bytes = 4,040 bytes weights + 8,080 bytes state of adamw + 4,040 bytes gradients + {:,} bytes the batch and temporary tensors"
    lines = {size: line.format(16_160 + (rest := 440 * size + 8_000), rest) for size in (64, 2)}
    for size, line in lines.items():
        out = visus_command("summary", "linear(10)", "--input", "100", "-b", size).out.splitlines()
        assert f"memory of a training step with batches of {size}: {line}" in out


@pytest.mark.long
def test_the_parts_of_the_memory_add_up_as_they_are_printed(visus_command: Call) -> None:
    for network, size in (("resnet(18)", 64), ("vgg(16)", 1), ("mobilenet", 128), ("lenet5", 3)):
        (line,) = [
            each
            for each in visus_command("summary", network, "--input", "3,64,64", "-b", size).out.splitlines()
            if " = " in each and each.startswith("memory")
        ]
        total, *terms = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) (?:bytes|KiB|MiB|GiB)", line))
        assert total == sum(terms)
        assert len(terms) == 4


def test_summary_as_json_has_the_memory_for_its_batch_size(visus_command: Call) -> None:
    facts = json.loads(visus_command("summary", "linear(10)", "--input", "100", "--batch-size", "3", "--json").out)
    costs = account(parse("linear(10)"), (100,))
    assert (facts["batch_size"], facts["bytes_weights"], facts["bytes_training"]) == (3, 4040, costs.bytes_training(3))
    assert (facts["rows"][0]["bytes_output"], facts["rows"][0]["bytes_saved"]) == (40, 400)


def test_summary_of_a_module_that_looks_at_values_says_why_its_memory_is_not_known(
    visus_command: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "looking_nets.py").write_text(
        "from torch import nn\n\n\nclass Looking(nn.Module):\n    def forward(self, x):\n        return x if x.sum() > 0 else -x\n\n\ndef make(num_classes):\n    return Looking()\n"
    )
    answer = visus_command("summary", "looking_nets:make", "--input", "3,9,9")
    assert answer.code == 0
    assert (
        " ".join(answer.out.split()).count("the memory of this module is not known, for it fails on tensors without data: ")
        == 1
    )
    facts = json.loads(visus_command("summary", "looking_nets:make", "--input", "3,9,9", "--json").out)
    assert facts["bytes_training"] is None


def test_rows_that_are_spoken_of_are_colored(visus_command: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    lines = visus_command("summary", "conv(4, 1, stride=2), flatten, linear(classes)", "--input", "1,9,9").out.splitlines()
    assert "\x1b[33m" in next(line for line in lines if "conv1" in line)  # yellow: pixels are never read
    assert "\x1b[36m" in next(line for line in lines if "linear1" in line)  # cyan: often meant to be so
    assert "\x1b[3" not in next(line for line in lines if "flatten1" in line)


# ---- from Python ----


def test_summary_in_python_takes_a_design_its_text_a_family_and_a_file(tmp_path: Path) -> None:
    text = "conv(4, 3), relu, globalpool, linear(classes)"
    (tmp_path / "net.txt").write_text(text)
    found = [visus.summary(each, (1, 9, 9), 3) for each in (visus.parse(text), text, str(tmp_path / "net.txt"))]
    assert found[0] == found[1] == found[2] == account(parse(text), (1, 9, 9), 3)
    assert visus.summary("resnet(18)", (3, 224, 224)).num_parameters == 11_689_512


def test_summary_in_python_raises_what_the_design_raises() -> None:
    with pytest.raises(DesignError) as caught:
        visus.summary("conv(8, 9), globalpool", (1, 4, 4))
    assert str(caught.value).startswith("conv1: a 9 x 9 window does not fit a 4 x 4 map: (4 - 9 + 2*0)/1 + 1 = -4.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"network": 3},
            "a network is a module, a design, its text, or the name of a callable (package.module:callable), and not an int. Give one of these.",
        ),
        (
            {"network": "conv(1)", "detail": "layer"},
            "unknown detail 'layer'. Did you mean 'layers'? Known: layers, operations.",
        ),
        ({"network": "conv(1)", "object_px": 0}, "the size of objects must be at least 1 px, not 0."),
        (
            {"network": "torch.nn.Linear"},
            "torch.nn.Linear: a class or function of a Python module is written with a colon: torch.nn:Linear.",
        ),
    ],
)
def test_what_cannot_be_summarised_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        visus.summary(input_shape=(1, 8, 8), **arguments)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_a_module_is_traced_and_advised_by_its_rows() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3), nn.Softmax(dim=1))
    found = summarize(module, (1, 12, 12), 3)
    assert found.account.num_parameters == sum(each.numel() for each in module.parameters())
    assert found.design is None
    assert [advice.kind for advice in found.advice] == ["softmax", "linear"]


def test_a_failing_module_prints_its_rows_up_to_the_failing_layer(
    visus_command: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_nets.py").write_text(
        "from torch import nn\n\n\ndef make(num_classes):\n    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(4, num_classes))\n"
    )
    answer = visus_command("summary", "broken_nets:make", "--input", "3,9,9", "--classes", "5")
    assert answer.code == 2
    assert [line.split()[0] for line in answer.out.splitlines()] == ["path", "0", "224"]
    assert answer.err.startswith("error: 1: Linear(5) fails on an input of shape (8, 7, 7)")


def test_the_operations_of_a_design_are_those_of_its_module() -> None:
    text = "conv(4, 3), relu, globalpool, linear(classes)"
    layers, operations = (visus.summary(text, (1, 9, 9), 3, detail=detail) for detail in ("layers", "operations"))
    assert (operations.num_parameters, operations.macs, operations.output) == (
        layers.num_parameters,
        layers.macs,
        layers.output,
    )
    assert len(operations.rows) >= len(layers.rows)


# ---- cost ----


def cpu_seconds(script: str) -> tuple[float, str]:
    """Seconds of processor time of a Python process, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, answer.stdout


@pytest.mark.long
def test_summary_of_a_design_takes_little_time_and_loads_neither_torch_nor_numpy() -> None:
    script = (
        "import sys\nfrom visus.cli import main\nsys.argv = ['visus', 'summary', 'resnet(50)', '--input', '3,224,224']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print(end.code, sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    spent = []
    for _ in range(3):
        seconds, printed = cpu_seconds(script)
        spent.append(seconds)
        assert printed.splitlines()[-1] == "0 []"
    known = min(cpu_seconds("import typer, rich.console")[0] for _ in range(3))  # about 0.2 s on a machine that is not busy
    assert min(spent) < max(1.0, 12 * known)


@pytest.mark.parametrize(
    "words",
    [
        ["diff", "resnet(18)", "vgg(11)", "--json"],
        ["solve", "--field", "40", "--input", "3,64,64", "--json"],
        ["experiment", "mlp", "lenet5", "--input", "1,32,32", "--json"],
    ],
)
def test_the_other_commands_about_designs_load_neither_torch_nor_numpy(words: list[str]) -> None:
    script = (
        f"import sys\nfrom visus.cli import main\nsys.argv = ['visus', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print(end.code, sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "0 []"


# ---- diff ----


def test_diff_shows_what_differs_side_by_side(visus_command: Call) -> None:
    left, right = "conv(8, 3), relu, globalpool, linear(classes)", "conv(8, 3), norm, relu, globalpool, linear(classes)"
    lines = [
        line.rstrip() for line in visus_command("diff", left, right, "--input", "1,9,9", "--classes", "3").out.splitlines()
    ]
    assert lines == [
        "    path         layer                   output     parameters  multiply-adds  receptive field",
        " <  conv1        conv(8, 3, bias=True)   8 x 7 x 7          80         3.53 k  3/1",
        " >  conv1        conv(8, 3, bias=False)  8 x 7 x 7          72         3.53 k  3/1",
        " >  norm1        norm                    8 x 7 x 7          16              0  3/1",
        "    relu1        relu                    8 x 7 x 7           0              0  3/1",
        "    globalpool1  globalpool              8                   0              0  all",
        "    linear1      linear(3)               3                  27             24  all",
        "2 of 5 rows differ; < conv(8, 3), relu, globalpool, linear(classes), > conv(8, 3), norm, relu, globalpool, linear(classes)",
        "parameters: 107 and 115, +8, 1.07 times",
        "multiply-adds: 3,552 and 3,552, the same",
        "memory of a training step with batches of 64: 317 KiB and 415 KiB, 1.31 times",
    ]


def test_diff_as_json_has_the_totals_and_names_what_differs(visus_command: Call) -> None:
    facts = json.loads(visus_command("diff", "conv(8, 3), relu", "conv(4, 3), relu", "--input", "1,9,9", "--json").out)
    asked = [account(parse(f"conv({width}, 3), relu"), (1, 9, 9)).bytes_training(64) for width in (8, 4)]
    totals = [
        {**facts[side], "bytes_training": facts[side]["bytes_training"] - limit}
        for side, limit in zip(("left", "right"), asked, strict=True)
    ]
    same = {"batch_size": 64, "bytes_training": 0}
    assert totals == [
        {"output": [8, 7, 7], "num_parameters": 80, "macs": 3528, "bytes_weights": 320, **same},
        {"output": [4, 7, 7], "num_parameters": 40, "macs": 1764, "bytes_weights": 160, **same},
    ]
    assert [row["differs"] for row in facts["rows"]] == [
        ["layer", "output_shape", "num_parameters", "macs"],
        ["output_shape"],
    ]


def test_diff_of_an_impossible_design_names_it(visus_command: Call) -> None:
    answer = visus_command("diff", "conv(8, 3)", "conv(8, 9)", "--input", "1,8,8")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: conv(8, 9): conv1: a 9 x 9 window does not fit an 8 x 8 map")


# ---- solve ----


SOLVED = [
    (
        ["--in", "224", "--kernel", "7", "--stride", "2", "--out", "112"],
        "padding (P) = 3: (224 - 7 + 2*3)/2 + 1 = 112.5, rounded down to 112; 1 px of the padding at the far edge is not read\n",
    ),
    (
        ["--kernel", "3", "--padding", "1", "--stride", "2", "--out", "16"],
        "input_size (W) = 31: (31 - 3 + 2*1)/2 + 1 = 16\n"
        "input_size (W) = 32: (32 - 3 + 2*1)/2 + 1 = 16.5, rounded down to 16; 1 px of the padding at the far edge is not read\n",
    ),
    (
        ["--in", "32", "--stride", "1", "--padding", "4", "--out", "32", "--dilation", "4"],
        "kernel_size (K) = 3: (32 - 9 + 2*4)/1 + 1 = 32; K_eff = 4*(3 - 1) + 1 = 9\n",
    ),
    (
        ["--in", "224", "--kernel", "3", "--padding", "1", "--out", "1"],
        "stride (S) = any from 224 on: (224 - 3 + 2*1)/224 + 1 = 1.996, rounded down to 1; 222 px at the far edge are not read\n",
    ),
    (
        ["--kernel", "3", "--padding", "1", "--stride", "1000000000", "--out", "1000000000"],
        "input_size (W) = any from 999999999000000001 to 1000000000000000000, 1,000,000,000 whole numbers; the first and the last:\n"
        "input_size (W) = 999999999000000001: (999999999000000001 - 3 + 2*1)/1000000000 + 1 = 1000000000; "
        "999999996000000003 px between the windows are not read\n"
        "input_size (W) = 1000000000000000000: (1000000000000000000 - 3 + 2*1)/1000000000 + 1 = 1000000000.999999999, rounded down to 1000000000; "
        "999999998 px at the far edge are not read; 999999996000000003 px between the windows are not read\n",
    ),
    (
        ["--in", "224", "--kernel", "7", "--padding", "3", "--stride", "2", "--out", "112"],
        "right: O = 112. (224 - 7 + 2*3)/2 + 1 = 112.5, rounded down to 112; 1 px of the padding at the far edge is not read.\n",
    ),
    (
        ["--in", "10", "--kernel", "2", "--padding", "0", "--stride", "3"],
        "output_size (O) = 3: (10 - 2 + 2*0)/3 + 1 = 3.67, rounded down to 3; 2 px at the far edge are not read; 2 px between the windows are not read\n",
    ),
    (
        ["--in", "7", "--out", "14", "--kernel", "3", "--stride", "2"],
        "padding (P) = 11: (7 - 3 + 2*11)/2 + 1 = 14; the first window reads padding alone, which a convolution accepts and a pool rejects\n",
    ),
]

ASSUMED = [
    (
        ["--in", "28", "--kernel", "3"],
        "output_size (O) = 26: (28 - 3 + 2*0)/1 + 1 = 26\n",
        "note: --stride is 1 and --padding is 0, the defaults of PyTorch.\n",
    ),
    (
        ["--in", "32", "--kernel", "5", "--out", "32"],
        "padding (P) = 2: (32 - 5 + 2*2)/1 + 1 = 32\n",
        "note: --stride is 1, the default of PyTorch.\n",
    ),
]

UNSOLVED = [
    (
        ["--in", "8", "--kernel", "3", "--padding", "0", "--out", "20"],
        "no whole number for stride (S) gives output_size (O) = 20. The nearest: 6 with stride (S) = 1, (8 - 3 + 2*0)/1 + 1 = 6.\n",
    ),
    (
        ["--in", "224", "--kernel", "2", "--stride", "1", "--out", "224"],
        "no whole number for padding (P) gives output_size (O) = 224. The nearest: 223 with padding (P) = 0, "
        "(224 - 2 + 2*0)/1 + 1 = 223; or 225 with padding (P) = 1, (224 - 2 + 2*1)/1 + 1 = 225.\n",
    ),
    (
        ["--in", "2", "--kernel", "5", "--padding", "0", "--stride", "1"],
        "nothing comes out: (2 - 5 + 2*0)/1 + 1 = -2, so the kernel does not fit.\n",
    ),
    (
        ["--in", "2", "--kernel", "5", "--padding", "0", "--out", "1"],
        "no whole number for stride (S) gives output_size (O) = 1, whatever it is: (2 - 5 + 2*0)/1 + 1 = -2, so the kernel does not fit.\n",
    ),
    (
        ["--in", "1", "--padding", "1", "--stride", "1", "--out", "1", "--dilation", "10"],
        "no whole number for kernel_size (K) gives output_size (O) = 1. The nearest: 3 with kernel_size (K) = 1, (1 - 1 + 2*1)/1 + 1 = 3; "
        "the first window reads padding alone, which a convolution accepts and a pool rejects; K_eff = 10*(1 - 1) + 1 = 1.\n",
    ),
    (
        ["--in", "224", "--kernel", "7", "--padding", "3", "--stride", "2", "--out", "111"],
        "wrong: O = 112, not 111. (224 - 7 + 2*3)/2 + 1 = 112.5, rounded down to 112; 1 px of the padding at the far edge is not read.\n",
    ),
]


@pytest.mark.parametrize(("words", "text"), SOLVED)
def test_solve_returns_every_whole_number_for_the_missing_letter(visus_command: Call, words: list[str], text: str) -> None:
    assert visus_command("solve", *words) == (0, text, "")


@pytest.mark.parametrize(("words", "text", "note"), ASSUMED)
def test_solve_takes_the_defaults_of_pytorch_and_says_so(
    visus_command: Call, words: list[str], text: str, note: str
) -> None:
    assert visus_command("solve", *words) == (0, text, note)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--in", "0", "--kernel", "3"], "--in must be at least 1, not 0."),
        (
            ["--in", "28"],
            "exactly one of the five numbers must be left out, not 4. Left out: --kernel, --padding, --stride, --out.",
        ),
    ],
)
def test_errors_of_solve_name_the_options(visus_command: Call, words: list[str], message: str) -> None:
    assert visus_command("solve", *words) == (2, "", f"error: {message}\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "input 3 x 224 x 224, 1,000 classes (defaults; --input, --classes)"),
        (["--classes", "10"], "input 3 x 224 x 224 (default; --input), 10 classes"),
        (["--input", "3,224,224"], None),
    ],
)
def test_summary_names_the_default_input_first(visus_command: Call, words: list[str], line: str | None) -> None:
    first = visus_command("summary", "conv(4, 3)", *words).out.splitlines()[0]
    assert first == line if line else first.split()[:2] == ["path", "layer"]


@pytest.mark.parametrize(("words", "text"), UNSOLVED)
def test_solve_says_with_the_sum_why_there_is_no_solution(visus_command: Call, words: list[str], text: str) -> None:
    assert visus_command("solve", *words) == (1, text, "")


@pytest.mark.parametrize(("words", "text"), [*SOLVED, *UNSOLVED])
def test_solve_as_json_has_the_same_code_and_the_same_numbers(visus_command: Call, words: list[str], text: str) -> None:
    answer = visus_command("solve", *words, "--json")
    facts = json.loads(answer.out)
    assert answer.code == int((words, text) in UNSOLVED)
    if "is_right" in facts:
        assert (facts["is_right"], facts["gives"], facts["output_size"]) == (answer.code == 0, 112, int(words[-1]))
        return
    assert (facts["least"] is None) == bool(answer.code)
    for each in [*facts["solutions"], *facts["nearest"]]:
        assert f"{each[facts['missing']]}: " in text or f"{each[facts['missing']]}, " in text or len(facts["solutions"]) > 2


def test_solved_paddings_give_the_output_in_torch(visus_command: Call) -> None:
    words = ["--in", "57", "--kernel", "5", "--stride", "3", "--out", "19", "--dilation", "2", "--json"]
    found = json.loads(visus_command("solve", *words).out)
    assert (found["missing"], found["least"], found["most"], found["num_solutions"]) == ("padding", 3, 4, 2)
    for each in found["solutions"]:
        layer = nn.Conv1d(1, 1, 5, stride=3, padding=each["padding"], dilation=2)
        assert layer(torch.zeros(1, 1, 57)).shape[-1] == 19
    names = {"input_size", "kernel_size", "padding", "stride", "output_size", "unread_border", "dilation", "kernel_span"}
    assert set(found["solutions"][0]) == names | {"reads_padding_alone", "unread_padding", "unread_gaps"}


def test_solve_says_why_no_change_leads_to_a_field(visus_command: Call) -> None:
    words = ["solve", "conv(4, 3, padding=1), globalpool", "--field", "100000", "--input", "1,32,32"]
    answer = visus_command(*words)
    assert (answer.code, answer.err) == (1, "")
    assert answer.out.splitlines()[3:] == [
        "more layers: no way: at least 49,999 more convolutions are needed, and 200 are tried at most.",
        "larger kernels: no way: with kernels of 131 it is 131 x 131 px, and nothing beyond is tried.",
        "stride: no way: with stride=2 in conv1 it is 3 x 3 px, and no other convolution with a window larger than 1 has a stride of 1.",
        "pooling: no way: no other position is left for a pool.",
        "dilation: no way: with dilation=2 in conv1 it is 5 x 5 px, and dilation=50000 in conv1 spans 100,001 px in conv1, "
        "where the map is 32 x 32.",
    ]
    plain = visus_command(*words, "--json")
    facts = json.loads(plain.out)
    assert (plain.code, facts["field"], facts["ways"], facts["now"]["field"]) == (1, 100000, [], [3, 3])
    assert [f"{each['kind']}: no way: {each['reason']}." for each in facts["no_way"]] == answer.out.splitlines()[3:]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--in", "8", "--field", "20"], "--in cannot be given with --field. Leave it out."),
        (["--field", "20", "--dilation", "2"], "--dilation cannot be given with --field. Leave it out."),
        (["--field", "20", "--padding", "0"], "--padding cannot be given with --field. Leave it out."),
        (["resnet(18)", "--in", "8"], "NETWORK cannot be given with the letters of a window. Leave it out."),
        (
            ["--in", "8", "--kernel", "3", "--classes", "3"],
            "--classes cannot be given with the letters of a window. Leave it out.",
        ),
        (
            ["torch.nn:Linear", "--field", "9"],
            "torch.nn:Linear: ways to a receptive field need a design, and this is the name of a Python callable.",
        ),
        (
            ["conv(8, 3)", "--field", "3"],
            "the last map of this design sees 3 x 3 px already, and 3 px were requested. Request more.",
        ),
        (
            ["globalpool, linear(classes)", "--field", "3"],
            "there is no convolution with a window larger than 1, so the receptive field cannot grow. Give a design with one.",
        ),
    ],
)
def test_solve_refuses_what_plays_no_part(visus_command: Call, words: list[str], message: str) -> None:
    assert visus_command("solve", *words) == (2, "", f"error: {message}\n")


def test_solve_shows_that_stride_reaches_the_field_without_more_memory(visus_command: Call) -> None:
    facts = json.loads(visus_command("solve", "--field", "100", "--input", "3,224,224", "--json").out)
    now, ways = facts["now"], {way["kind"]: way for way in facts["ways"]}
    assert (set(ways), facts["no_way"]) == ({"more layers", "larger kernels", "stride", "pooling", "dilation"}, [])
    assert all(min(way["field"]) >= 100 for way in ways.values())
    assert ways["stride"]["num_parameters"] == now["num_parameters"]
    assert ways["stride"]["activation_bytes"] < now["activation_bytes"] < ways["more layers"]["activation_bytes"]
    text = visus_command("solve", "--field", "100", "--input", "3,224,224").out.splitlines()
    assert "stride: 127 px instead of 13 in 0.026 times the memory of the design as it is" in text


# ---- what is asked wrongly ----


@pytest.mark.parametrize("command", [["summary", "lenet5"], ["solve", "--field", "50"], ["experiment", "mlp", "lenet5"]])
def test_no_classes_are_refused_by_the_name_of_the_option(visus_command: Call, command: list[str]) -> None:
    answer = visus_command(*command, "--classes", "0")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: Invalid value for '--classes': ")


@pytest.mark.parametrize("shape", [None, 3, (3, "a", 2), (3, 8.5, 8)])
def test_an_input_shape_that_is_none_is_refused(shape: object) -> None:
    for network in (nn.Linear(3, 2), "lenet5"):
        with pytest.raises(UsageError) as caught:
            visus.summary(network, shape)  # type: ignore[arg-type]
        assert str(caught.value) == f"the input shape is (channels, *lengths), such as (3, 224, 224), and not {shape!r}."


def test_no_classes_are_refused_whatever_is_said_of_them() -> None:
    for text in ("conv(8, 3), globalpool, linear(classes)", "lenet5", "torch.nn:Identity"):
        with pytest.raises(UsageError) as caught:
            visus.summary(text, (1, 32, 32), 0)
        assert str(caught.value) == "the number of classes must be at least 1, not 0."


def test_a_module_that_is_one_layer_has_a_path_that_can_be_read(visus_command: Call) -> None:
    lines = visus_command("summary", "torch.nn:Identity", "--input", "3,4,4").out.splitlines()
    assert lines[1].split()[:2] == ["(itself)", "Identity"]


# ---- compare ----


def test_compare_shows_three_honest_twins(visus_command: Call) -> None:
    lines = [line.rstrip() for line in visus_command("experiment", "mlp", "conv(64, 3, padding=1)").out.splitlines()]
    assert lines == [
        " network                parameters  multiply-adds   weights  activations  widths",
        " the design                  1,792         86.7 M  7.00 KiB     12.2 MiB",
        " equal width             9,633,856         9.63 M  36.8 MiB    256 bytes  64",
        " equal output      483,388,358,656          483 G  1.76 TiB     12.2 MiB  3,211,264",
        " equal parameters          150,529          151 k   588 KiB      4 bytes  1",
        "equal width: each convolution becomes a dense layer with as many units as it has filters",
        "equal output: each convolution becomes a dense layer with as many units as the next layer reads",
        "equal parameters: all hidden layers have the one width that comes nearest to the parameters of the design; "
        "even layers with one unit have 150,529 parameters",
        "for one sample of 3 x 224 x 224, 4 bytes per value",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["conv(8, 3)", "--shuffle-pixels", "--input", "1,8,8"],
            "--shuffle-pixels cannot be given with a network. Leave it out.",
        ),
        (["lenet5", "--device", "cpu", "-q"], "--quiet, --device cannot be given with a network. Leave it out."),
        (
            ["torch.nn:Linear"],
            "torch.nn:Linear: equivalent perceptrons need a design, and this is the name of a Python callable.",
        ),
        (["mlp(8)"], "this design has no convolution, so it is its own perceptron. Give a design with at least one."),
    ],
)
def test_what_has_no_twin_is_refused(visus_command: Call, words: list[str], message: str) -> None:
    assert visus_command("experiment", "mlp", *words) == (2, "", f"error: {message}\n")


def test_a_module_on_features_is_summed_up_without_a_image() -> None:
    from torch import nn

    network = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
    costs = visus.summary(network, (20,))
    assert (costs.output, costs.num_parameters) == ((4,), sum(values.numel() for values in network.parameters()))


# ---- what is typed by mistake ----


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["solve", "--in", "1e3", "--kernel", "3"], "--in takes a whole number, not '1e3'. Write 1e3 as 1000."),
        (["solve", "--in=2.5e2", "--kernel", "3"], "--in takes a whole number, not '2.5e2'. Write 2.5e2 as 250."),
        (["summary", "lenet5", "-b", "many"], "-b takes a whole number, not 'many'."),
        (
            ["summary", "lenet5", "--input", "3,1e11,1e5"],
            "--input takes whole numbers such as 3,224,224, not '3,1e11,1e5'. Write 1e11 as 100000000000, and 1e5 as 100000.",
        ),
    ],
)
def test_a_number_that_is_not_written_out_is_refused_in_words(visus_command: Call, words: list[str], message: str) -> None:
    answer = visus_command(*words)
    assert (answer.code, answer.out, answer.err.splitlines()[0]) == (2, "", f"error: {message}")


@pytest.mark.parametrize("command", [["summary"], ["diff", "lenet5"], ["solve", "--field", "50"], ["experiment", "mlp"]])
def test_an_input_of_an_absurd_size_is_refused(visus_command: Call, command: list[str]) -> None:
    network = "conv(4, 3), globalpool, linear(classes)"
    answer = visus_command(*command, network, "--input", "3,100000000000,100000")
    assert (answer.code, answer.out) == (2, "")
    sentence = (
        "an input with an axis of 100,000,000,000 px is too long: at most 10,000,000 px are allowed. Give a shorter one."
    )
    assert answer.err == f"error: {sentence}\n"


def test_an_absurd_input_of_a_module_is_refused_before_it_is_run() -> None:
    with pytest.raises(DesignError) as caught:
        visus.summary(nn.Conv2d(3, 4, 3), (3, 10**11, 10))
    assert str(caught.value).startswith("an input with an axis of 100,000,000,000 px is too long")


@pytest.mark.parametrize("command", [["summary"], ["diff", "lenet5"], ["diff"], ["solve", "--field", "9"]])
def test_a_folder_in_the_place_of_a_network_is_refused(visus_command: Call, command: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run.1"
    folder.mkdir()
    words = [*command, str(folder), *(["lenet5"] if command == ["diff"] else [])]
    needed = "this is a folder, and a network is needed: a family, a design or its file, or package.module:callable."
    assert visus_command(*words) == (2, "", f"error: {folder}: {needed}\n")


@pytest.mark.slow
def test_a_run_of_a_callable_stands_for_its_module(
    visus_command: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\n\n\ndef make(num_classes, in_channels):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))\n"
    )
    np.savez(
        tmp_path / "squares.npz", x=np.random.default_rng(0).integers(0, 255, (40, 1, 12, 12), np.uint8), y=np.arange(40) % 2
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    recipe = visus.Recipe(epochs=1, batch_size=16, precision="float32")
    run = visus.train("squares.npz", "own_nets:make", recipe, output=tmp_path / "runs", name="own", progress=False)
    found = visus_command("summary", "runs/own")
    assert found.code == 0, found.err
    head, *table = found.out.splitlines()
    assert head == "input 1 x 12 x 12, 2 classes, as in the run"
    assert table == visus_command("summary", "own_nets:make", "--input", "1,12,12", "--classes", "2").out.splitlines()
    assert visus.summary("runs/own", (3, 20, 20), 5).num_parameters == 3 * 4 * 9 + 4 + 4 * 5 + 5
    assert visus_command("diff", "runs/own", "own_nets:make", "--input", "1,12,12", "--classes", "2").code == 0
    told = "ways to a receptive field need a design, and the network of this run is a module of Python."
    assert visus_command("solve", "--field", "9", "runs/own").err == f"error: runs/own: {told}\n"
    monkeypatch.setattr("visus.workbench.modules.call_by_name", lambda *_: nn.Sequential(nn.Flatten(), nn.Linear(144, 2)))
    told = visus_command("summary", "runs/own")  # the module is now another one, which the weights do not fit
    assert told.code == 1
    assert "weights" in told.err
    (run.folder / "design.txt").write_text("# a Python object: own_nets.Net\n")
    assert visus_command("summary", "runs/own") == (
        2,
        "",
        "error: runs/own: the network of this run was given as a Python object (own_nets.Net) and cannot be made from its name. "
        "In Python, give the object itself: visus.summary(network, input_shape).\n",
    )


def test_a_run_folder_stands_for_its_design(visus_command: Call, tmp_path: Path) -> None:
    text = "conv(4, 3), relu, globalpool, linear(classes)"
    (tmp_path / "design.txt").write_text(f"{text}\n")
    assert visus_command("summary", str(tmp_path), "--classes", "7") == visus_command("summary", text, "--classes", "7")
    assert visus_command("diff", str(tmp_path), text, "--input", "3,8,8").code == 0
    (tmp_path / "data.json").write_text(json.dumps({"preprocessing": {"channels": 1, "size": [28, 28]}}))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    found = visus_command("summary", str(tmp_path)).out.splitlines()
    assert found[0] == "input 1 x 28 x 28, 2 classes, as in the run"
    assert found[1:] == visus_command("summary", text, "--input", "1,28,28", "--classes", "2").out.splitlines()


def test_a_family_is_taken_before_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lenet5").mkdir()
    monkeypatch.chdir(tmp_path)
    assert visus.summary("lenet5", (1, 32, 32), 10).output == (10,)


def test_a_long_design_is_not_taken_for_a_file(visus_command: Call) -> None:
    design = ", ".join(["conv(8, 3, padding=1), relu"] * 30 + ["globalpool, linear(classes)"])
    assert visus_command("summary", design, "--input", "3,8,8").code == 0


# ---- the size of the input and of objects ----


def test_an_account_says_how_an_image_size_without_channels_is_read() -> None:
    design = "conv(4, 3), relu, globalpool, linear(classes)"
    note = "read as a signal with 28 channels of length 28; images have three numbers: (3, 28, 28)"
    assert note in repr(visus.summary(design, (28, 28)))
    assert all("three numbers" not in repr(visus.summary(design, shape)) for shape in ((3, 28, 28), (12, 5000), (1, 30)))


@pytest.mark.parametrize(
    ("given", "is_noted"), [("28,28", True), ("224,224", True), ("1,28,28", False), ("12,5000", False), ("1,30", False)]
)
def test_an_image_size_without_channels_is_read_as_a_signal_and_said_so(
    visus_command: Call, given: str, is_noted: bool
) -> None:
    answer = visus_command("summary", "conv(4, 3), relu, globalpool, linear(classes)", "--input", given)
    size = given.replace(",", " channels of length ")
    note = f"note: --input {given} is a signal with {size}. Images have three numbers: --input 1,{given} (gray) or --input 3,{given} (color).\n"
    assert (answer.code, answer.err) == (0, note if is_noted else "")


@pytest.mark.parametrize(
    ("given", "note"),
    [
        ("32,32,3", "is an image of 32 x 3 px with 32 channels. The channels come first: --input 3,32,32."),
        ("28,28,1", "is an image of 28 x 1 px with 28 channels. The channels come first: --input 1,28,28."),
        ("64,1,28,28", "is a volume of 1 x 28 x 28 with 64 channels. For images, leave out the batch: --input 1,28,28."),
        ("1,3,32,32", "is a volume of 3 x 32 x 32 with 1 channels. For images, leave out the batch: --input 3,32,32."),
        ("1,16,28,28", ""),
        ("3,32,32", ""),
        ("64,7,3", ""),
    ],
)
def test_channels_that_come_last_and_a_batch_are_read_as_they_stand_and_said_so(
    visus_command: Call, given: str, note: str
) -> None:
    answer = visus_command("summary", "conv(4, 1), relu, globalpool, linear(classes)", "--input", given)
    assert (answer.code, answer.err) == (0, f"note: --input {given} {note}\n" if note else "")


def test_objects_that_fit_are_confirmed_with_the_sizes(visus_command: Call) -> None:
    text = "conv(8, 3, padding=1), relu, maxpool(2), conv(16, 3, padding=1), relu, globalpool, linear(classes)"
    words = ("summary", text, "--input", "3,32,32", "--object-size")
    assert visus_command(*words, "6").out.splitlines()[-1] == (
        "objects of 6 px fit: the last map (relu2) has a receptive field of 8 px, 2 px more than an object, in images of 32 x 32."
    )
    assert "fit:" not in visus_command(*words, "9").out
    assert "fit:" not in visus_command(*words[:-1]).out


def test_a_network_whose_first_layer_fails_has_no_table(visus_command: Call) -> None:
    answer = visus_command("summary", "conv(8, 9), globalpool, linear(classes)", "--input", "1,4,4", "--classes", "3")
    assert (answer.code != 0, answer.out) == (True, "")

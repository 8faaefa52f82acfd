"""Designs and modules as networks for a number of classes."""

from __future__ import annotations

import pytest

from visus.errors import DesignError, UsageError
from visus.workbench.modules import make_network

pytestmark = pytest.mark.usefixtures("light_pages")


def test_a_design_with_the_wrong_end_is_refused_before_training() -> None:
    for text, gives in (("conv(8, 3)", "8 x 8 x 8"), ("globalpool, linear(5)", "5")):
        with pytest.raises(DesignError) as caught:
            make_network(text, (3, 10, 10), 2)
        assert str(caught.value) == (
            f"this design gives {gives} numbers for a sample, and 2 are needed: one for each class. End it with globalpool, linear(classes)."
        )


def test_a_module_without_parameters_is_refused() -> None:
    import torch

    with pytest.raises(UsageError) as caught:
        make_network(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()), (2, 8, 8), 2)
    assert str(caught.value) == "Sequential: this module has no trainable parameter."

"""How long a training will still take: sums over sizes, and what fits into a limit."""

from __future__ import annotations

import math

import pytest

from visus.training.forecast import Forecast


def test_every_size_has_its_share_of_the_steps() -> None:
    forecast = Forecast(num_steps=90, num_epochs=9, sizes=(0.5, 0.5, 1.0))
    forecast.add_step(0.5, 1.0)
    forecast.add_step(1.0, 5.0)
    forecast.add_validation(0.5, 0.0)
    assert forecast.seconds_left(0.0) == pytest.approx(60 + 150)
    assert forecast.seconds_left(0.5) == pytest.approx(15 + 150)
    assert forecast.seconds_left(1.0) == 0


def test_a_size_that_was_not_met_yet_is_scaled_by_its_area() -> None:
    forecast = Forecast(num_steps=10, num_epochs=1, sizes=(0.5, 1.0), num_axes=3)
    forecast.add_step(0.5, 1.0)
    assert forecast.seconds_left(0.5) == pytest.approx(5 * 8)
    assert math.isnan(Forecast(10, 1).seconds_left(0.0))


def test_guesses_give_way_to_real_steps() -> None:
    forecast = Forecast(num_steps=10, num_epochs=1)
    forecast.add_step(1.0, 100.0)
    forecast.drop_steps()
    forecast.add_step(1.0, 1.0)
    assert forecast.seconds_left(0.0) == pytest.approx(10)


def test_epochs_that_fit_into_a_limit_share_the_time_between_the_sizes() -> None:
    forecast = Forecast(num_steps=100, num_epochs=10, sizes=(0.5, 1.0))
    forecast.add_step(0.5, 0.1)
    forecast.add_step(1.0, 0.4)
    assert forecast.epochs_within(10.0, 0.0) == pytest.approx(5 + 1.25)  # 5 s at 1 s an epoch, 5 s at 4 s

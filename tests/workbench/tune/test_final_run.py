"""The run at the end of a search is reserved by its slowest measured epoch, with a reserve."""

from __future__ import annotations

import pytest

from visus.workbench.train.time_limit import TimeLimit
from visus.workbench.tune.final_run import RESERVE, FinalRun, over_limit_sentence, too_short
from visus.workbench.tune.trial import FINISHED, PRUNED, Trial


def trial(seconds: float, epochs: int, state: str = FINISHED) -> Trial:
    return Trial(1, {}, state, 0.9, 0.3, epochs, seconds, 50)


def test_the_slowest_epoch_of_finished_trials_counts() -> None:
    trials = [trial(4, 4), trial(12, 4), trial(50, 1, PRUNED)]
    assert FinalRun(0, 0).reserved_s(4, trials) == RESERVE * 12
    assert FinalRun(0, 0).reserved_s(8, trials) == RESERVE * 24
    assert FinalRun(1, 3).reserved_s(8, []) == RESERVE * 4


@pytest.mark.parametrize("limit_s", [None, 90, 100])
def test_a_search_within_its_limit_prints_nothing(limit_s: float | None) -> None:
    assert over_limit_sentence(limit_s, 90) == ""


def test_the_message_names_what_was_spent_and_what_is_reserved() -> None:
    assert too_short(TimeLimit(90, 0.0), 66, 27, 3, "1 epoch", 2.1) == (
        "the time limit of 1 min 30 s is too short: start and preparation took 1 min 06 s, and 27 s are reserved for preparation, scores and report of the run "
        "at the end. That leaves 0 s for trainings. A training of 1 epoch takes about 2.1 s here, and a search needs 3 of them at least. Give at least 1 min 40 s."
    )

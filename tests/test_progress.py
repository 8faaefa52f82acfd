"""Progress and cancellation: what a monitor reports, and when it stops."""

from __future__ import annotations

import pytest

from visus.errors import CanceledError
from visus.progress import SILENT, Monitor, Progress, one


def test_a_stage_is_reported_before_its_first_unit_and_after_each_item() -> None:
    seen: list[Progress] = []
    assert list(Monitor(seen.append).over(["ab", "c"], "scoring", 3)) == ["ab", "c"]
    assert seen == [Progress("scoring", 0, 3), Progress("scoring", 2, 3), Progress("scoring", 3, 3)]
    assert [each.is_done for each in seen] == [False, False, True]


def test_items_are_counted_as_is_asked() -> None:
    seen: list[Progress] = []
    list(Monitor(seen.append).over(["ab", "c"], "moving samples", 2, one))
    assert [each.done for each in seen] == [0, 1, 2]


def test_a_stage_of_unknown_length_is_never_done() -> None:
    seen: list[Progress] = []
    list(Monitor(seen.append).over(["ab"], "predicting"))
    assert seen == [Progress("predicting", 0, None), Progress("predicting", 2, None)]
    assert not any(each.is_done for each in seen)


def test_work_that_is_asked_to_stop_ends_with_the_stage_and_what_is_done() -> None:
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(len(asked) == 1)
        return asked[-1]

    with pytest.raises(CanceledError) as caught:
        list(Monitor(should_stop=stop).over(["ab", "c"], "scoring", 3))
    assert str(caught.value) == "canceled while scoring, after 2 of 3."
    assert (caught.value.exit_code, caught.value.http_status) == (130, 499)
    with pytest.raises(CanceledError) as caught:
        Monitor(should_stop=lambda: True).step("scoring", 0, 3)
    assert str(caught.value) == "canceled while scoring."
    with pytest.raises(CanceledError) as caught:
        Monitor(should_stop=lambda: True).check("predicting", 2)
    assert str(caught.value) == "canceled while predicting, after 2."


def test_finished_work_is_not_canceled_any_more() -> None:
    Monitor(should_stop=lambda: True).step("scoring", 3, 3)


def test_a_silent_monitor_reports_nothing_and_never_stops() -> None:
    assert list(SILENT.over(["ab"], "scoring", 2)) == ["ab"]
    assert SILENT.keywords == {"on_event": None, "should_stop": None}

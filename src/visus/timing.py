"""Timing of several computations that take turns, so that other load on the machine affects all of them equally."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

Work = Callable[[], object]


def take_turns(
    works: Sequence[Work],
    *,
    rounds: int | None = None,
    until: float | None = None,
    min_rounds: int = 1,
    calls: Sequence[int] | None = None,
    wait: Work = lambda: None,
    after_each: Work = lambda: None,
    after_round: Work = lambda: None,
) -> list[list[float]]:
    """Seconds of one call of each work, for each round. Every second round goes through the works in the other order.

    Args:
        works: the computations.
        rounds: maximum number of rounds; None for no maximum.
        until: value of ``time.perf_counter`` after which no further round begins; None for no limit.
        min_rounds: number of rounds that are measured in any case.
        calls: calls of each work in a round, of which the median counts; default: one.
        wait: synchronizes with the device, before and after each call.
        after_each: called after each work of a round, outside of the timing.
        after_round: called after each round.

    >>> [len(each) for each in take_turns([int, str], rounds=3)]
    [3, 3]
    """
    found = every_call(
        works,
        rounds=rounds,
        until=until,
        min_rounds=min_rounds,
        calls=calls,
        wait=wait,
        after_each=after_each,
        after_round=after_round,
    )
    return [[statistics.median(seconds) for seconds in each] for each in found]


def every_call(
    works: Sequence[Work],
    *,
    rounds: int | None = None,
    until: float | None = None,
    min_rounds: int = 1,
    calls: Sequence[int] | None = None,
    untimed_calls: int = 0,
    wait: Work = lambda: None,
    after_each: Work = lambda: None,
    after_round: Work = lambda: None,
) -> list[list[tuple[float, ...]]]:
    """Seconds of every call of each work, for each round; the arguments are those of ``take_turns``.

    Args:
        untimed_calls: calls before those that are timed, in each round: the works before have filled the caches with their own data.

    >>> [[len(calls) for calls in each] for each in every_call([int, str], rounds=2, calls=[1, 3])]
    [[1, 1], [3, 3]]
    """
    seconds: list[list[tuple[float, ...]]] = [[] for _ in works]
    done = 0
    while (rounds is None or done < rounds) and (done < min_rounds or until is None or time.perf_counter() < until):
        order = range(len(works)) if done % 2 == 0 else reversed(range(len(works)))
        for place in order:
            num_calls = calls[place] if calls else 1
            for _ in range(untimed_calls):
                works[place]()
            seconds[place].append(tuple(timed(works[place], wait) for _ in range(num_calls)))
            after_each()
        after_round()
        done += 1
    return seconds


def timed(work: Work, wait: Work = lambda: None) -> float:
    """Seconds of one call.

    >>> timed(lambda: None) < 1
    True
    """
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began

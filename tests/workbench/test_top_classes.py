"""The most probable classes of a prediction."""

from __future__ import annotations

import numpy as np

from visus.workbench.runs.predictions import top_k


def test_the_most_probable_class_comes_first_and_equal_ones_keep_their_order() -> None:
    chances = np.array([[0.25, 0.25, 0.5], [0.2, 0.7, 0.1]])
    assert top_k(chances, ["a", "b", "c"], 2) == [[("c", 0.5), ("a", 0.25)], [("b", 0.7), ("a", 0.2)]]
    names = [str(each) for each in range(500)]
    assert [name for name, _ in top_k(np.full((1, 500), 0.002), names, 500)[0]] == names
    assert [len(row) for row in top_k(chances, ["a", "b", "c"], 9)] == [3, 3]

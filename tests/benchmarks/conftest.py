"""The images and the run of the other tests, and the benchmark beside peers, called in this process."""

from __future__ import annotations

import sys

import pytest
from tests.doors.conftest import Answer, Call, other_photos, photos, run

__all__ = ["Call", "other_photos", "peer_benchmark", "photos", "run"]


@pytest.fixture
def peer_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """``peer_benchmark(folder, ...)`` -> exit code, stdout, stderr."""
    from peers.command import main

    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["peer_benchmark.py", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return Answer(int(end.value.code or 0), out, err)

    return call

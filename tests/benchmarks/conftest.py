"""The benchmark beside other libraries, called in this process."""

from __future__ import annotations

import sys

import pytest
from tests.commands import Answer, Call

__all__ = ["Call", "peer_benchmark"]


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

"""How long a training command takes from its start to its result, and its parts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from visus.training.runs import RunFolder
from visus.units import write_duration

FILE: Final = "times.json"
REPORT: Final = "report"


@dataclass
class CommandTimes:
    """A stopwatch for the parts of a command, which add up to the whole.

    Args:
        began: value of ``time.perf_counter`` at the start of the command.
        parts: seconds of each part so far, in order.

    >>> times = CommandTimes(parts={"data": 3.0, "training": 61.0})
    >>> times.sentence()
    '1 min 04 s: data 3 s, training 1 min 01 s'
    """

    began: float = field(default_factory=time.perf_counter)
    parts: dict[str, float] = field(default_factory=dict)

    def mark(self, part: str) -> None:
        """Add the time since the last mark to a part."""
        seconds = time.perf_counter() - self.began - self.whole_s
        self.parts[part] = self.parts.get(part, 0.0) + max(0.0, seconds)

    @property
    def whole_s(self) -> float:
        """Seconds from the start to the last mark."""
        return sum(self.parts.values())

    def sentence(self) -> str:
        """The whole and its parts; parts below a tenth of a second are not named."""
        named = (f"{name} {write_duration(seconds)}" for name, seconds in self.parts.items() if seconds >= 0.1)
        return f"{write_duration(self.whole_s)}: {', '.join(named)}"

    def write(self, folder: RunFolder) -> None:
        """Save the seconds in the run."""
        folder.write_json(FILE, {name: round(seconds, 3) for name, seconds in self.parts.items()})

    @classmethod
    def read(cls, folder: RunFolder) -> CommandTimes | None:
        """The saved times of a run up to its report; None if it has none."""
        if not (folder.path / FILE).is_file():
            return None
        parts = {str(name): float(seconds) for name, seconds in folder.read_json(FILE).items()}
        return cls(0.0, {name: seconds for name, seconds in parts.items() if name != REPORT})

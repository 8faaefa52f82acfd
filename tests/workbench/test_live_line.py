"""The line about the work that goes on: redrawn in a terminal, updated in a notebook, printed now and then in a log, for console and Python."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import sys
import time
import types
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.levels import write_levels

import visus
from visus.caller import called_by_command
from visus.progress import Monitor, Progress
from visus.training.distribution import ALONE
from visus.training.recipe import Recipe
from visus.workbench import live_line
from visus.workbench.live_line import LiveLine, following, showing_work, working
from visus.workbench.screen import Screen
from visus.workbench.train import kernels_in_time
from visus.workbench.train.kernels_in_time import compile_kernels

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3), relu, globalpool, linear(classes)"
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.01, precision="float32", device="cpu")
ERASE = "\r\x1b[2K"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(file: Path, tmp_path_factory: pytest.TempPathFactory) -> visus.Run:
    return visus.train(file, NETWORK, RECIPE, output=tmp_path_factory.mktemp("runs"), progress=False)


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> list[str]:
        """What the line was, in the order of its changes; empty where it was cleared."""
        return re.sub(r"\x1b\[[02]m", "", self.getvalue()).split(ERASE)[1:]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 80 columns as stderr."""
    found = Terminal()
    monkeypatch.setattr(live_line, "Console", lambda **facts: Console(**facts, file=found))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return found


Notebook = list[tuple[str, str]]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """What a notebook displayed and updated, in order."""
    shown: Notebook = []

    class Handle:
        def update(self, content: dict[str, str], raw: bool) -> None:
            shown.append(("update", content["text/plain"]))

    def display(content: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.append(("display", content["text/plain"]))
        return Handle()

    ipython, of_display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=None)  # type: ignore[attr-defined]
    of_display.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", of_display)
    return shown


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event is shown, and nothing else: no thread redraws the line."""
    for name in ("APPEARS_S", "PATIENCE_S", "LOG_S", "REDRAWN_S"):
        monkeypatch.setattr(live_line, name, 0.0)
    monkeypatch.setattr(LiveLine, "_tick", lambda _: None)


# ---- a terminal ----


@pytest.mark.usefixtures("at_once")
def test_a_terminal_has_one_line_that_is_redrawn_and_cleared(terminal: Terminal) -> None:
    seen: list[object] = []
    with following("scoring", Monitor(on_event=seen.append)) as monitor:
        monitor.step("scoring", 1, 3)
        monitor.step("decoding", 2)
    assert terminal.shown() == ["scoring  1 of 3", "scoring: decoding  2", ""]
    assert seen == [Progress("scoring", 1, 3), Progress("decoding", 2)]


@pytest.mark.usefixtures("at_once")
def test_a_command_and_python_draw_the_same_line(terminal: Terminal) -> None:
    with showing_work("scoring") as on_event:
        on_event(Progress("scoring", 1, 3))
    of_command = terminal.shown()
    with following("scoring") as monitor:
        monitor.step("scoring", 0, 3)
        monitor.step("scoring", 1, 3)
    assert of_command == ["scoring", "scoring  1 of 3", ""]
    assert terminal.shown() == 2 * of_command


@pytest.mark.usefixtures("at_once")
def test_work_that_fails_leaves_no_line_behind(terminal: Terminal) -> None:
    def fail() -> None:
        with following("scoring") as monitor:
            monitor.step("scoring", 1, 3)
            raise ValueError("it failed.")

    with pytest.raises(ValueError, match="it failed"):
        fail()
    assert terminal.shown() == ["scoring  1 of 3", ""]
    assert live_line.speaks.get()


@pytest.mark.long
def test_a_line_appears_in_a_terminal_after_a_short_while(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_line, "APPEARS_S", 60.0)
    with following("scoring") as monitor:
        monitor.step("scoring", 1, 3)
        time.sleep(0.3)
    assert terminal.getvalue() == ""
    monkeypatch.setattr(live_line, "APPEARS_S", 0.05)
    with working("scoring"):
        time.sleep(0.6)
    assert terminal.shown()[0] == "scoring"


@pytest.mark.usefixtures("at_once")
def test_a_line_fits_into_the_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    with following("scoring") as monitor:
        monitor.step("scoring", 1, 3)
        monitor.step("scoring the samples of 日本語 and more", 1, 3)
    shown = terminal.shown()
    assert shown[0] == "scoring  1 of 3"
    assert shown[1].startswith("scoring: scoring the")
    assert max(map(cell_len, shown)) <= 23


@pytest.mark.slow
def test_a_terminal_shows_a_stage_with_its_seconds_and_clears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_line, "APPEARS_S", 0.0)
    screen = Terminal()
    with LiveLine(Console(file=screen, force_terminal=True, width=40, highlight=False, _environ={"TERM": "xterm"})) as line:
        line.on_event(Progress("scoring", 3, 8))
        time.sleep(1.5)
    assert "scoring  3 of 8  1 s" in screen.shown()
    assert screen.shown()[-1] == ""


@pytest.mark.usefixtures("at_once")
def test_the_line_is_cleared_while_something_else_is_printed(terminal: Terminal) -> None:
    with LiveLine(live_line.error_console()) as line:
        line.stage("decoding")
        line.print("data      levels")
        line.refresh()
    assert terminal.shown() == ["decoding", "data      levels\n", "decoding", ""]


@pytest.mark.usefixtures("at_once")
def test_a_long_stage_gets_its_hint_and_a_later_one_does_not(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with LiveLine(live_line.error_console()) as line:
        line.show(["compiling"], hint="waiting helps")
        monkeypatch.setattr(live_line, "HINT_S", 0.0)
        line.refresh()
        line.show(["compiling", "1 of 2"], hint="waiting helps")
        line.show(["timing"], hint="waiting helps")
        line.show(["timing"], hint="another one")
    assert terminal.shown() == [
        "compiling",
        "compiling  waiting helps",
        "compiling  waiting helps  1 of 2",
        "timing",
        "timing  another one",
        "",
    ]


@pytest.mark.parametrize(
    ("caller", "hint"),
    [(called_by_command, "--kernels pytorch"), (contextlib.nullcontext, 'Recipe(kernels="pytorch")')],
)
@pytest.mark.usefixtures("at_once")
def test_a_long_wait_for_kernels_names_the_way_to_skip_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, caller: Callable[[], AbstractContextManager[None]], hint: str
) -> None:
    monkeypatch.setattr(live_line, "HINT_S", 0.0)
    monkeypatch.setattr(kernels_in_time, "why_no_kernels", lambda: "")
    monkeypatch.setenv("COLUMNS", "100")
    with caller(), Screen(False) as screen:
        compile_kernels(ALONE, Monitor(screen.show), can_skip=True)
        screen.show(Progress("opening the data", 0))
        compile_kernels(ALONE, Monitor(screen.show), can_skip=False)
    stage = "compiling the kernels, once on this machine"
    assert terminal.shown() == [f"{stage}  {hint} skips this", "opening the data", stage, ""]


def test_a_terminal_that_cannot_erase_is_a_log(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(live_line, "APPEARS_S", 0.0)
    with showing_work("scoring") as on_event:
        on_event(Progress("scoring", 3, 8))
        time.sleep(0.3)
    assert terminal.getvalue() == ""


@pytest.mark.usefixtures("at_once")
def test_predictions_clear_the_line_before_each_is_returned(run: visus.Run, terminal: Terminal) -> None:
    x = np.zeros((3, 3, 8, 8), np.uint8)
    ends = [(prediction.file, terminal.shown()[-1]) for prediction in run.predict(x)]
    assert ends == [(f"array 1[{place}]", "") for place in range(3)]
    assert terminal.shown()[0] == "predicting"
    assert terminal.shown()[-1] == ""
    before = terminal.getvalue()
    assert len(list(run.predict(x, progress=False))) == 3
    assert terminal.getvalue() == before


# ---- a log ----


@pytest.mark.long
def test_a_log_has_a_line_of_long_work_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_line, "PATIENCE_S", 0.0)
    monkeypatch.setattr(live_line, "LOG_S", 0.3)
    screen = io.StringIO()
    with LiveLine(Console(file=screen), indent=10) as line:
        line.show(["decoding", "3 of 8", "[##..]"], is_timed=True)
        time.sleep(0.9)
    lines = screen.getvalue().splitlines()
    assert lines[0] == "          decoding  3 of 8"
    assert 2 <= len(lines) <= 3


@pytest.mark.usefixtures("at_once")
def test_a_log_has_a_hint_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(live_line, "HINT_S", 0.0)
    with LiveLine(live_line.error_console()) as line:
        line.show(["compiling"], hint="waiting helps")
        line.refresh()
        line.show(["compiling"], hint="waiting helps")
    assert capsys.readouterr().err == "compiling  waiting helps\ncompiling\ncompiling\n"


@pytest.mark.usefixtures("at_once")
def test_named_work_ends_in_a_log_with_its_duration(capsys: pytest.CaptureFixture[str]) -> None:
    with following("scoring") as monitor:
        monitor.step("scoring", 1, 3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "scoring  1 of 3"
    assert re.fullmatch(r"scoring: [\d.e-]+ s", lines[1])
    assert len(lines) == 2


def test_a_log_has_nothing_of_short_work_and_of_work_within_other_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live_line, "LOG_S", 0.0)
    with following("scoring") as monitor, showing_work("loading") as on_event:
        monitor.step("scoring", 1, 3)
        on_event(Progress("scoring", 1, 3))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(live_line, "PATIENCE_S", 0.0)
    with following("comparing"), following("scoring") as monitor:
        monitor.step("scoring", 1, 3)
    assert "scoring" not in capsys.readouterr().err
    with following("comparing", progress=False) as monitor, following("scoring") as monitor:
        monitor.step("scoring", 1, 3)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("at_once")
def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with showing_work("scoring", quiet=True) as on_event, following("scoring", progress=False) as monitor:
        on_event(Progress("scoring", 3, 8))
        monitor.step("scoring", 3, 8)
    assert capsys.readouterr() == ("", "")


# ---- a notebook ----


@pytest.mark.usefixtures("at_once")
def test_a_notebook_has_one_output_that_is_updated(notebook: Notebook) -> None:
    with following("scoring") as monitor:
        monitor.step("scoring", 1, 3)
        monitor.step("scoring", 2, 3)
    assert notebook[:2] == [("display", "scoring  1 of 3"), ("update", "scoring  2 of 3")]
    assert re.fullmatch(r"scoring: [\d.e-]+ s", notebook[2][1])
    assert len(notebook) == 3


def test_a_notebook_shows_nothing_of_short_work(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_line, "REDRAWN_S", 0.0)
    monkeypatch.setattr(live_line, "PATIENCE_S", 60.0)
    with following("scoring") as monitor:
        monitor.step("scoring", 1, 3)
    assert notebook == []


@pytest.mark.usefixtures("at_once")
def test_a_training_in_a_notebook_has_one_line_that_changes(
    file: Path, tmp_path: Path, notebook: Notebook, capsys: pytest.CaptureFixture[str]
) -> None:
    visus.train(file, NETWORK, RECIPE, output=tmp_path)
    assert [kind for kind, _ in notebook] == ["display", *["update"] * (len(notebook) - 1)]
    assert capsys.readouterr() == ("", "")  # nothing beside it
    texts = [text for _, text in notebook]
    last_lines = [text.splitlines()[-1] for text in texts if text]
    assert any(re.fullmatch(r"loss \d\.\d{3} before the first step", line) for line in last_lines)
    assert any(line.startswith("epoch 1/2") for line in last_lines)
    assert any(line.startswith("epoch 2/2  100 % of the training  ") for line in last_lines)
    lines = texts[-1].splitlines()
    assert lines[0].startswith("data      levels: 3 classes")
    assert [line.split()[0] for line in lines if "/2 " in line[:5]] == ["1/2", "2/2"]
    assert lines[-1] == "next      run.predict(files), run.evaluate(), run.look(sample)"
    of_words = [line for line in lines if len(line[10:].split()) > 1]  # a long path is not broken
    assert max(map(len, of_words)) <= live_line.NOTEBOOK_WIDTH
    for before, after in itertools.pairwise(texts):  # what was printed stays
        assert after.startswith(before.rpartition("\n")[0])


def test_what_is_printed_in_a_notebook_is_drawn_even_if_it_comes_at_once(notebook: Notebook) -> None:
    with LiveLine(live_line.error_console()) as line:
        for number in range(50):
            line.print(f"line {number}")
    assert notebook[-1][1].splitlines() == [f"line {number}" for number in range(50)]
    assert len(notebook) < 5


@pytest.mark.long
def test_a_notebook_draws_what_was_printed_while_the_work_goes_on(notebook: Notebook) -> None:
    with LiveLine(live_line.error_console()) as line:
        time.sleep(0.3)
        line.print("one")
        line.print("two")
        time.sleep(0.6)
        assert notebook[-1][1] == "one\ntwo"


@pytest.mark.slow
def test_a_training_in_a_real_notebook_is_one_output_and_the_stop_button_says_how_to_go_on(
    file: Path, tmp_path: Path
) -> None:
    import nbformat
    from nbclient import NotebookClient

    settings = (
        f"{str(file)!r}, {NETWORK!r}, visus.Recipe(epochs=30, batch_size=8, precision='float32'), output={str(tmp_path)!r}"
    )
    press = "lambda event: os.kill(os.getpid(), signal.SIGINT) if type(event).__name__ == 'StepDone' else None"
    cells = [
        "import visus, os, signal\nfrom visus.workbench import live_line as shown\nshown.PATIENCE_S = shown.REDRAWN_S = 0.0",
        f"run = visus.train({settings}, name='whole')",
        f"run = visus.train({settings}, name='stopped', on_event={press})",
        f"data = visus.open_data({str(file)!r})\ndata",
        "run.predict(data.split('test').rows(__import__('numpy').arange(3)))",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    outputs = [cell["outputs"] for cell in notebook["cells"]]
    (whole,) = outputs[1]  # one output, which was updated
    assert whole["output_type"] == "display_data"
    lines = whole["data"]["text/plain"].splitlines()
    assert lines[0].startswith("data      levels: 3 classes")
    assert len([line for line in lines if "/30 " in line[:6]]) > 5
    line, error = outputs[2]
    assert line["data"]["text/plain"].split()[-2:] == ["next", f"visus.resume({str(tmp_path / 'stopped')!r})"]
    assert error["ename"] == "KeyboardInterrupt"
    assert error["evalue"].startswith("stopped after a step; everything up to there is safe. next: visus.resume(")
    for shown, count in ((outputs[3], 24), (outputs[4], 3)):
        assert shown[-1]["data"]["text/html"].count("<img") == count


@pytest.mark.slow
def test_a_real_notebook_updates_one_output_and_a_failure_leaves_no_bar(run: visus.Run) -> None:
    import nbformat
    from nbclient import NotebookClient

    cells = [
        "import visus, sys\nfrom visus.workbench import live_line as shown\nshown.PATIENCE_S = shown.REDRAWN_S = 0.0",
        f"run = visus.load({str(run.folder)!r}, device='cpu')\nscores = run.evaluate()",
        "try:\n    run.evaluate(should_stop=lambda: True)\nexcept visus.VisusError as error:\n    print(error)",
        "scores = run.evaluate(progress=False)",
        "run",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [cell["outputs"] for cell in notebook["cells"]]
    assert outputs[0] == []
    (line,) = outputs[1]  # one output, which was updated
    assert line["output_type"] == "display_data"
    assert re.fullmatch(r"scoring: [\d.e-]+ s", line["data"]["text/plain"])
    texts = [each.get("text") or each["data"]["text/plain"] for each in outputs[2]]
    assert [text for text in texts if text.startswith("scoring: stopped after ")] != []
    assert "canceled while scoring.\n" in texts
    assert outputs[3] == []
    (shown,) = outputs[4]
    assert shown["data"]["text/html"].startswith(f"<table><caption>Run {run.name}")
    assert shown["data"]["text/plain"] == repr(run)


# ---- trainings from Python ----


def test_a_training_is_shown_with_a_line_for_each_epoch_and_events_are_passed_on(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events: list[object] = []
    visus.train(file, NETWORK, RECIPE, output=tmp_path, on_event=events.append)
    out, said = capsys.readouterr()
    assert out == ""
    lines = said.splitlines()
    assert lines[0].startswith("data      levels: 3 classes")
    assert [line.split()[0] for line in lines if "/2 " in line[:5]] == ["1/2", "2/2"]
    assert lines[-1] == "next      run.predict(files), run.evaluate(), run.look(sample)"
    assert type(events[-1]).__name__ == "Scored"


def test_progress_false_shows_nothing(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = visus.train(file, NETWORK, RECIPE, output=tmp_path, progress=False)
    visus.resume(run.folder, progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("at_once")
def test_resuming_shows_its_decoding(run: visus.Run, tmp_path: Path, terminal: Terminal) -> None:
    visus.resume(run.folder, cache_dir=tmp_path)
    assert any(text.startswith("decoding  60 of 60") for text in terminal.shown())

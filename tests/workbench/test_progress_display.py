"""From Python, visus shows what it does, prints itself in a few lines, and takes arrays where it takes paths."""

from __future__ import annotations

import io
import re
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visus
from visus.data.opened import open_scoring_data
from visus.errors import UsageError
from visus.progress import Monitor, Progress
from visus.training.recipe import Recipe
from visus.workbench import progress_display
from visus.workbench.progress_display import following, working

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3), relu, globalpool, linear(classes)"
RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=0.01, precision="float32", device="cpu")


def images(num: int = 60, channels: int = 3) -> tuple[Any, Any]:
    """uint8 images (num, channels, 8, 8) of three brightnesses, and their labels."""
    labels = np.arange(num) % 3
    levels = (labels * 80).astype(np.uint8)[:, None, None, None]
    return np.random.default_rng(0).integers(0, 90, (num, channels, 8, 8), dtype=np.uint8) + levels, labels


@pytest.fixture(autouse=True)
def spoken() -> Any:
    """Whatever a command in an earlier test has set."""
    token = progress_display.speaks.set(True)
    yield
    progress_display.speaks.reset(token)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("data") / "levels.npz"
    x, y = images()
    np.savez(found, x=x, y=y)
    return found


@pytest.fixture(scope="module")
def run(file: Path, tmp_path_factory: pytest.TempPathFactory) -> visus.Run:
    return visus.train(file, NETWORK, RECIPE, output=tmp_path_factory.mktemp("runs"), progress=False)


# ---- progress ----


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
    assert lines[-1].startswith("next      visus predict ")
    assert type(events[-1]).__name__ == "Scored"


def test_progress_false_shows_nothing(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = visus.train(file, NETWORK, RECIPE, output=tmp_path, progress=False)
    visus.resume(run.folder, progress=False)
    assert capsys.readouterr() == ("", "")


def test_what_takes_long_is_named_and_what_does_not_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_display, "PATIENCE_S", 0.02)
    with working("scoring"), working("within it"):
        time.sleep(0.1)
    assert capsys.readouterr().err.splitlines()[0] == "scoring ..."
    with working("scoring", progress=False):
        time.sleep(0.1)
    monkeypatch.setattr(progress_display, "PATIENCE_S", 60.0)
    with working("scoring"):
        pass
    assert capsys.readouterr().err == ""


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event is shown."""
    for name in ("PATIENCE_S", "LIVE_S", "LOG_S"):
        monkeypatch.setattr(progress_display, name, 0.0)
    timer = types.SimpleNamespace(start=lambda: None, cancel=lambda: None)
    monkeypatch.setattr(progress_display.threading, "Timer", lambda *_: timer)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    found = Terminal()
    monkeypatch.setattr(progress_display, "sys", types.SimpleNamespace(stderr=found, modules=sys.modules))
    return found


@pytest.mark.usefixtures("at_once")
def test_a_terminal_has_one_line_that_is_updated_and_replaced_by_the_duration(terminal: Terminal) -> None:
    seen: list[object] = []
    with following("scoring", Monitor(on_event=seen.append)) as monitor:
        monitor.step("scoring", 1, 3)
        monitor.step("decoding", 2)
    erase = "\r\x1b[2K"
    assert terminal.getvalue().startswith(f"{erase}scoring: 1 of 3{erase}scoring: decoding, 2{erase}scoring: ")
    assert re.fullmatch(r"scoring: [\d.e-]+ s\n", terminal.getvalue().rpartition(erase)[2])
    assert seen == [Progress("scoring", 1, 3), Progress("decoding", 2)]


@pytest.mark.usefixtures("at_once")
def test_work_that_fails_leaves_no_line_behind(terminal: Terminal) -> None:
    def fail() -> None:
        with following("scoring") as monitor:
            monitor.step("scoring", 1, 3)
            raise ValueError("it failed.")

    with pytest.raises(ValueError, match="it failed"):
        fail()
    assert terminal.getvalue().endswith("scoring: 1 of 3\r\x1b[2K")
    assert progress_display.speaks.get()


@pytest.mark.usefixtures("at_once")
def test_a_log_has_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with following("scoring") as monitor:
        monitor.step("scoring", 1, 3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "scoring: 1 of 3"
    assert re.fullmatch(r"scoring: [\d.e-]+ s", lines[1])


def test_nothing_is_shown_of_short_work_and_of_work_within_other_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with following("scoring") as monitor:
        monitor.step("scoring", 1, 3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress_display, "PATIENCE_S", 0.0)
    with following("comparing"), following("scoring") as monitor:
        monitor.step("scoring", 1, 3)
    assert "scoring" not in capsys.readouterr().err
    with following("comparing", progress=False) as monitor, following("scoring") as monitor:
        monitor.step("scoring", 1, 3)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("at_once")
def test_predictions_clear_the_line_before_each_is_returned(run: visus.Run, terminal: Terminal) -> None:
    x, _ = images(3)
    ends = [(prediction.file, terminal.getvalue()[-4:]) for prediction in run.predict(x)]
    assert ends == [(f"array 1[{place}]", "\x1b[2K") for place in range(3)]
    assert terminal.getvalue().endswith(" s\n")
    before = terminal.getvalue()
    assert len(list(run.predict(x, progress=False))) == 3
    assert terminal.getvalue() == before


@pytest.mark.slow
def test_a_real_notebook_updates_one_output_and_a_failure_leaves_no_bar(run: visus.Run) -> None:
    import nbformat
    from nbclient import NotebookClient

    cells = [
        "import visus, sys\nfrom visus.workbench import progress_display as shown\nshown.PATIENCE_S = shown.LIVE_S = 0.0",
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


def test_a_notebook_has_one_line_that_changes(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[tuple[str, str]] = []

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
    monkeypatch.setattr("visus.workbench.live_line.REDRAWN_S", 0.0)
    visus.train(file, NETWORK, RECIPE, output=tmp_path)
    assert [kind for kind, _ in shown[:2]] == ["display", "update"]
    assert re.fullmatch(r"loss \d\.\d{3} before the first step", shown[0][1])
    assert any(text.startswith("epoch 1/2") for _, text in shown)
    assert shown[-1][1].startswith("epoch 2/2  100 %")


# ---- in a few lines ----


def test_results_print_in_a_few_lines(run: visus.Run, file: Path) -> None:
    data = visus.open_data(file)
    account = visus.summary("lenet5", (1, 28, 28), 10)
    look = visus.look(run, images(1)[0][0])
    for result in (run, run.scores, data, account, look):
        assert len(repr(result)) < 500
        assert repr(result).count("\n") <= 5
        assert result._repr_html_().startswith("<table><caption>")
    assert repr(run).splitlines()[0] == "Run levels: 3 classes"
    assert repr(run).splitlines()[1] == f"  network   {NETWORK}, 127 parameters"
    assert repr(run).splitlines()[3] == f"  folder    {run.folder}"
    assert repr(account).splitlines()[:3] == [
        "Account of 12 rows",
        "  shapes  1 x 28 x 28 -> 10",
        "  costs   44,426 parameters, 282 k multiply-adds",
    ]


def test_mistakes_shifts_and_comparisons_print_in_a_few_lines(run: visus.Run) -> None:
    mistakes, shifts, comparison = run.mistakes(), run.shifts(), run.compare(run)
    for result in (mistakes, shifts, comparison):
        assert len(repr(result)) < 700
        assert repr(result).count("\n") <= 8
        assert result._repr_html_().startswith("<table><caption>")
    num_samples = run.scores.num_samples
    assert repr(mistakes).splitlines()[0] == f"Mistakes on {num_samples} images of the test split"
    assert repr(mistakes).splitlines()[1].split() == ["wrong", str(mistakes.num_wrong)]
    assert repr(shifts).splitlines()[0] == f"Shifts of {num_samples} images of the test split"
    assert repr(comparison).splitlines()[0] == f"Comparison on {num_samples} images of the test split"


# ---- arrays and paths alike ----


def test_one_path_one_array_and_several_are_predicted_alike(run: visus.Run, file: Path) -> None:
    x, _ = images()
    expected = [each.probabilities for each in run.predict([file])]
    for given in (file, str(file), x, torch.from_numpy(x), [x], np.moveaxis(x, 1, -1)):
        assert [each.probabilities for each in run.predict(given)] == expected
    for one in (x[0], torch.from_numpy(x[0]), np.moveaxis(x[0], 0, -1)):
        assert [each.label for each in run.predict(one)] == [next(iter(run.predict(x))).label]


def test_arrays_are_scored_with_names_or_numbers_as_labels(run: visus.Run, file: Path) -> None:
    x, y = images()
    expected = run.evaluate(open_scoring_data(file, run.preprocessing, run.classes))
    for labels in (y, torch.from_numpy(y), [run.classes[place] for place in y]):
        scores = run.evaluate((x, labels))
        assert (scores.confusion, scores.accuracy) == (expected.confusion, expected.accuracy)
        assert (scores.num_learned, scores.num_chose) == (expected.num_learned, expected.num_chose) == (43, 5)
    said = "43 of 60 samples were in the training set and 5 more were in the validation set, so the metrics are too good; accuracy on the 12 new samples: "
    assert repr(scores).splitlines()[1].startswith(f"  note      {said}")


@pytest.mark.parametrize(
    ("labels", "split", "said"),
    [
        ([0, 1], None, "there are 3 samples and 2 labels. Give one label for each sample."),
        ([0, 1, 3], None, "the label 3 is no class: with 3 classes, labels are 0 to 2."),
        (["0", "1", "cat"], None, "unknown class 'cat'. Known: 0, 1, 2."),
        ([[0, 1, 2]], None, "labels of 1 x 3 cannot be used: one for each sample is needed."),
        ([0, 1, 2], "test", "a pair of arrays has no split 'test'. Leave the split out."),
    ],
)
def test_labels_that_cannot_be_used_are_refused(run: visus.Run, labels: Any, split: str | None, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        run.evaluate((images(3)[0], labels), split=split)
    assert str(caught.value) == said


def test_a_run_is_asked_all_that_is_there(run: visus.Run) -> None:
    assert run.shifts().num_samples > 0
    assert run.look("test:0").layers
    assert run.report().path == run.folder / "report.html"
    assert len(run.compare(run.folder).contenders) == 2
    assert run.mistakes(limit=1) is not None

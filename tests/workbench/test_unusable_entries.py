"""Entries of a folder that cannot be read: each is one row with an error, in its place, and every other entry has its predictions."""

from __future__ import annotations

import csv
import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.commands import Call
from tests.workbench.brightness import Brightness, write_images

import visus
from visus.data.ledger import Ledger
from visus.data.preprocessing import Preprocessing
from visus.errors import DataError
from visus.workbench.runs import predict_inputs
from visus.workbench.runs.bulk.predicting import predict_to
from visus.workbench.runs.predictions import predict_with


class Levels(Brightness):
    """The same network for signals of 4 values, which lie in array files."""

    preprocessing = Preprocessing("array", 1, (4,), "squash", "uint8", "mean-deviation", (0.0,), (255.0,))


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _npz_member(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def _unknown_compression() -> bytes:
    """An NPZ file whose member is compressed by a method that does not exist."""
    content = bytearray(_npz_member("x.npy", SIGNALS))
    content[content.index(b"PK\x01\x02") + 10] = 99
    return bytes(content)


SIGNALS = _npy(np.arange(8, dtype=np.uint8).reshape(2, 4))
NAMES = {"dangling": "nowhere", "circular": ""}  # kind of a link -> where it leads; "" is itself
IMAGES: dict[str, bytes] = {"empty": b"", "text": b"no image", "vanished": b"x"}
ARRAYS: dict[str, tuple[str, bytes]] = {
    "empty": (".npy", b""),
    "text": (".npz", b"no array"),
    "cut off": (".npy", SIGNALS[:-1]),
    "damaged header": (".npy", SIGNALS.replace(b"{", b"(")),
    "too large": (".npy", SIGNALS.replace(b"(2, 4), }" + b" " * 15, b"(9999999999999999, 4), }")),
    "another shape": (".npy", _npy(np.zeros((2, 3, 3, 3)))),
    "one number": (".npy", _npy(np.array(3))),
    "other names": (".npz", _npz_member("y.npy", SIGNALS)),
    "not an array": (".npz", _npz_member("x", b"text")),
    "unknown compression": (".npz", _unknown_compression()),
    "vanished": (".npy", SIGNALS),
}


def _write_image(kind: str, place: Path) -> int:
    """Write an entry for a network of images, and return its number of samples; 0 where it is unusable."""
    if kind == "image":
        Image.new("L", (4, 4), 99).save(place.with_suffix(".png"))
        return 1
    _write_link_or(kind, place.with_suffix(".png"), IMAGES.get(kind, b""))
    return 0


def _write_array(kind: str, place: Path) -> int:
    """Write an entry for a network of signals, and return its number of samples; 0 where it is unusable."""
    if kind == "array":
        place.with_suffix(".npy").write_bytes(SIGNALS)
        return 2
    suffix, content = ARRAYS.get(kind, (".npy", b""))
    _write_link_or(kind, place.with_suffix(suffix), content)
    return 0


def _write_link_or(kind: str, path: Path, content: bytes) -> None:
    if kind in NAMES:
        path.symlink_to(NAMES[kind] or path.name)
    else:
        path.write_bytes(content)


def _walk_and_remove(is_vanished: Callable[[Path], bool]) -> Callable[[Path, Ledger], Iterator[Path | DataError]]:
    """A walk after which some of the files that it found are gone."""
    walk = predict_inputs.walk_files

    def walk_and_remove(folder: Path, ledger: Ledger) -> Iterator[Path | DataError]:
        found = list(walk(folder, ledger))
        for entry in found:
            if isinstance(entry, Path) and is_vanished(entry):
                entry.unlink()
        yield from found

    return walk_and_remove


@pytest.mark.parametrize(
    ("network", "write", "usable", "unusable"),
    [(Brightness, _write_image, "image", [*NAMES, *IMAGES]), (Levels, _write_array, "array", [*NAMES, *ARRAYS])],
    ids=["images", "arrays"],
)
@pytest.mark.long
def test_the_rows_are_those_of_the_usable_files_and_one_error_for_each_other_file(
    network: type[Brightness], write: Callable[[str, Path], int], usable: str, unusable: list[str]
) -> None:
    @given(
        kinds=st.lists(st.one_of(st.just(usable), st.sampled_from(unusable)), min_size=1, max_size=12),
        chunk=st.integers(1, 5),
        size=st.integers(1, 9),
    )
    @settings(max_examples=60, deadline=None)
    def law(kinds: list[str], chunk: int, size: int) -> None:
        def rows() -> list[tuple[str, bool]]:
            found = []
            for number, kind in enumerate(kinds):
                num_samples = write(kind, folder / f"{number:02}")
                found += [(f"{number:02}", True)] * num_samples or [(f"{number:02}", False)]
            return found

        with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
            folder = Path(name, "in")
            folder.mkdir()
            gone = {f"{number:02}" for number, kind in enumerate(kinds) if kind == "vanished"}
            patch.setattr(predict_inputs, "walk_files", _walk_and_remove(lambda file: file.stem in gone))
            expected = rows()
            answers = list(predict_with(network(chunk), folder, (), progress=False))
            assert [(Path(each.file).name[:2], each.error is None) for each in answers] == expected
            for file in folder.iterdir():
                file.unlink()
            rows()
            out = Path(name, "t.csv")
            found = predict_to(network(chunk), folder, out, part_size=size, progress=False)
            with open(out, newline="", encoding="utf-8") as table:
                written = list(csv.DictReader(table))
            assert [(row["file"], row["label"], row["error"]) for row in written] == [
                (each.file, each.label or "", each.error or "") for each in answers
            ]
            assert (found.num_samples, found.num_errors) == (len(expected), sum(not is_usable for _, is_usable in expected))

    law()


def test_every_reason_of_an_unusable_file_is_a_sentence_with_a_cause(tmp_path: Path) -> None:
    for kind in [*NAMES, *ARRAYS]:
        _write_array(kind, tmp_path / kind)
    (tmp_path / "vanished.npy").unlink()
    damaged = "this is not a readable NumPy file of plain numbers."
    given = [next(iter(tmp_path.glob(f"{kind}.*")), tmp_path / f"{kind}.npy") for kind in [*NAMES, *ARRAYS]]
    found = predict_with(Levels(), [*given, *given[:1]], (), progress=False)
    assert [(Path(each.file.partition(":")[0]).stem, each.error) for each in found] == [
        ("dangling", "this link leads to nowhere, which does not exist."),
        ("circular", "this link leads back to itself. Replace it with the file."),
        ("empty", damaged),
        ("text", damaged),
        ("cut off", damaged),
        ("damaged header", damaged),
        ("too large", "this cannot be read (there is not enough memory)."),
        ("another shape", "an array of 2 x 3 x 3 x 3 does not fit a network for 1 x 4."),
        ("one number", "an array of one number does not fit a network for 1 x 4."),
        ("other names", "this file has no array x, images, x_test or test_images; it has y."),
        ("not an array", damaged),
        ("unknown compression", damaged),
        ("vanished", "there is no such file or folder."),
        ("dangling", "this link leads to nowhere, which does not exist."),
    ]


def test_a_subfolder_and_a_file_that_may_not_be_read_are_one_row_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("a", "b", "c"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "1.npy").write_bytes(SIGNALS)
        (tmp_path / place / "2.npy").write_bytes(SIGNALS)
    list_folder, open_file = os.scandir, open

    def scandir(place: Path) -> object:
        if Path(place).name == "b":
            raise PermissionError(13, "Permission denied")
        return list_folder(place)

    def open_some(path: Path, *options: str) -> object:
        if path == tmp_path / "a" / "1.npy":
            raise PermissionError(13, "Permission denied")
        return open_file(path, *options)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(predict_inputs, "open", open_some, raising=False)
    found = list(predict_with(Levels(), tmp_path, (), progress=False))
    assert [each.file.removeprefix(f"{tmp_path}/") for each in found] == [
        *("a/1.npy", "a/2.npy[0]", "a/2.npy[1]", "b"),
        *("c/1.npy[0]", "c/1.npy[1]", "c/2.npy[0]", "c/2.npy[1]"),
    ]
    assert [each.error for each in found if each.error] == [
        "this cannot be read (Permission denied). Change its permissions so that you can read it.",
        "the folder cannot be listed (Permission denied). Change its permissions so that you can read it.",
    ]


@pytest.mark.long
def test_no_damaged_byte_of_an_array_file_ends_a_prediction(tmp_path: Path) -> None:
    content = {".npy": SIGNALS, ".npz": _npz_member("x.npy", SIGNALS)}
    (tmp_path / "z.npy").write_bytes(SIGNALS)
    for suffix, right in content.items():
        for place in range(len(right)):
            wrong = bytearray(right)
            wrong[place] ^= 0xFF
            (tmp_path / f"a{suffix}").write_bytes(wrong)
            answers = list(predict_with(Levels(), tmp_path, (), progress=False))
            assert [each.file for each in answers[-2:]] == [f"{tmp_path}/z.npy[0]", f"{tmp_path}/z.npy[1]"], place
        (tmp_path / f"a{suffix}").unlink()


def test_names_in_a_table_that_no_file_can_have_are_rows(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    (tmp_path / "list.csv").write_text("path\na\0b.png\n000000.png\n")
    (tmp_path / "wide.csv").write_text(f"path\n{'a' * 200_000}\n")
    found = predict_to(Brightness(), [tmp_path / "wide.csv", tmp_path / "list.csv"], tmp_path / "t.csv", progress=False)
    assert (found.num_samples, found.num_errors) == (3, 2)
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as table:
        assert [row["error"] for row in csv.DictReader(table)] == [
            "this is not a readable table (field larger than field limit (131072)). Save it again as CSV.",
            "there is no such file or folder.",
            "",
        ]


def test_the_command_and_the_table_keep_the_files_after_a_dangling_link(
    visus_command: Call, run: Path, tmp_path: Path
) -> None:
    folder = write_images(tmp_path / "in", 4)
    (folder / "000001a.png").symlink_to("nowhere")
    printed = visus_command("predict", run, folder, "-q")
    written = visus_command("predict", run, folder, "--out", tmp_path / "t.csv", "-q")
    assert (printed.code, written.code) == (1, 1)
    names = [Path(row["file"]).name for row in csv.DictReader(io.StringIO(printed.out))]
    assert names == ["000000.png", "000001.png", "000001a.png", "000002.png", "000003.png"]
    assert (tmp_path / "t.csv").read_text() == printed.out
    in_python = visus.load(run).predict(folder, progress=False)
    assert [Path(each.file).name for each in in_python if each.error] == ["000001a.png"]


def test_a_file_that_vanishes_after_its_prediction_is_not_sorted_and_the_others_are(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "in", 3)
    predictions = predict_with(Brightness(), folder, (), progress=False)
    assert "000001.png" in str(predictions)  # predicted to be shown
    (folder / "000001.png").unlink()
    found = predictions.sort_into(tmp_path / "sorted")
    assert sum(each.num_copied for each in found.folders) == 2
    assert found.not_copied == (str(folder / "000001.png"),)
    assert f"note: not copied, since it cannot be read: {folder / '000001.png'}" in found.text()

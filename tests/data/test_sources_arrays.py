"""IDX, CIFAR, NPZ and NPY files as sources, the included images, and every message."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visus
from visus.data.ledger import Ledger
from visus.data.samples import Samples
from visus.data.source_arrays import channels_first, layout_of
from visus.data.source_cifar import read_plain_pickle
from visus.data.sources import SAMPLE_NAME, read_source, sample_data
from visus.errors import DataError

REAL = Path(os.environ.get("VISUS_REAL_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
CODES = {"u1": 0x08, "i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def read(path: Path, **options: object) -> Samples:
    return read_source(path, Ledger(), **options)  # type: ignore[arg-type]


def message(path: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read(path, **options)
    return str(caught.value)


def counting(*shape: int, dtype: object = np.uint8) -> np.ndarray:
    """An array whose rows all differ."""
    rows = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return (np.arange(np.prod(shape[1:])).reshape(shape[1:]) + 7 * rows).astype(dtype)


def idx_bytes(values: np.ndarray, code: str = "u1") -> bytes:
    head = bytes([0, 0, CODES[code], values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.astype(code).tobytes()


def write_idx(
    folder: Path, word: str, images: np.ndarray, labels: list[int], code: str = "u1", packed: bool = False
) -> Path:
    folder.mkdir(exist_ok=True)
    for what, data in (("images", idx_bytes(images, code)), ("labels", idx_bytes(np.array(labels)))):
        name = f"{word}-{what}-idx{images.ndim if what == 'images' else 1}-ubyte"
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return folder


# ---- IDX


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_give_official_splits_and_label_values_as_classes(tmp_path: Path, packed: bool) -> None:
    write_idx(tmp_path, "train", counting(4, 5, 6), [3, 10, 3, 10], packed=packed)
    write_idx(tmp_path, "t10k", counting(2, 5, 6) + 100, [10, 3], packed=packed)
    samples = read(tmp_path)
    assert (samples.kind, samples.classes, samples.official) == ("idx", ("3", "10"), {"train", "test"})
    assert samples.names == ("train[0]", "train[1]", "train[2]", "train[3]", "t10k[0]", "t10k[1]")
    assert samples.labels.tolist() == [0, 1, 0, 1, 1, 0]
    assert samples.reader.shape == (1, 5, 6)
    np.testing.assert_array_equal(samples.reader.read(slice(0, 4))[:, 0], counting(4, 5, 6))


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("shape", [(3, 7), (3, 4, 5), (3, 4, 5, 6)])
def test_idx_of_every_type_and_rank_is_read(tmp_path: Path, code: str, shape: tuple[int, ...]) -> None:
    samples = read(write_idx(tmp_path, "train", counting(*shape) % 100, [0, 1, 1], code))
    assert samples.reader.shape == (1, *shape[1:])
    assert samples.reader.dtype == np.dtype(code).newbyteorder("=")
    np.testing.assert_array_equal(samples.reader.read(slice(None))[:, 0], counting(*shape) % 100)


def test_an_idx_test_file_alone_is_still_to_be_cut(tmp_path: Path) -> None:
    samples = read(write_idx(tmp_path, "t10k", counting(2, 5, 5), [0, 1]))
    assert samples.official == frozenset()
    assert samples.notes == ("only a test part is there, so visus splits it into train, val and test.",)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            b"\x89PNG\r\n",
            "this is not an IDX file: its first bytes are 89 50 4e 47. "
            "Needed: 00 00, a type (08 to 0e) and the number of axes.",
        ),
        (
            b"",
            "this is not an IDX file: its first bytes are none. Needed: 00 00, a type (08 to 0e) and the number of axes.",
        ),
        (
            idx_bytes(counting(2, 5, 5))[:-1],
            "the header states 2 x 5 x 5 values, 50 bytes, but 49 follow. "
            "The file is truncated or damaged: copy or download it again.",
        ),
    ],
)
def test_a_damaged_idx_file_is_an_error(tmp_path: Path, data: bytes, expected: str) -> None:
    write_idx(tmp_path, "train", counting(2, 5, 5), [0, 1])
    (tmp_path / "train-images-idx3-ubyte").write_bytes(data)
    assert message(tmp_path) == f"{tmp_path / 'train-images-idx3-ubyte'}: {expected}"


def test_a_gzip_file_cut_short_is_an_error(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", counting(2, 5, 5), [0, 1], packed=True)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-9])
    assert message(tmp_path) == (
        f"{file}: the gzip file is truncated or damaged (Compressed file ended before the end-of-stream marker was reached). "
        "Copy or download it again."
    )


def test_idx_counts_that_differ_and_a_missing_partner_are_errors(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", counting(3, 5, 5), [0, 1])
    assert message(tmp_path) == (
        f"{tmp_path}: train-images-idx3-ubyte has 3 samples but train-labels-idx1-ubyte has 2 labels. "
        "The files do not belong together, or one is truncated."
    )
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert message(tmp_path) == (
        f"{tmp_path}: train-images-idx3-ubyte is there without its labels file. Put both into this folder."
    )


def test_a_class_in_the_idx_test_file_alone_is_an_error(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", counting(2, 5, 5), [0, 1])
    write_idx(tmp_path, "t10k", counting(2, 5, 5), [1, 2])
    assert (
        message(tmp_path) == f"{tmp_path}: test has 1 sample of the class '2', which train does not have. train has: 0, 1."
    )


# ---- the packaged images


@pytest.mark.long
def test_the_packaged_images_are_cut_8000_to_2000_stratified_and_always_alike() -> None:
    samples = sample_data(Ledger())
    again = read_source(None, Ledger())
    assert samples.name == SAMPLE_NAME == "Fashion-MNIST sample"
    assert samples.class_counts("train").tolist() == [800] * 10
    assert samples.class_counts("test").tolist() == [200] * 10
    assert samples.official == {"train", "test"}
    assert samples.splits.tolist() == again.splits.tolist()
    assert samples.fingerprint == again.fingerprint
    assert samples.classes[0] == "T-shirt/top"
    assert samples.reader.shape == (1, 28, 28)


def test_the_packaged_images_carry_their_notice() -> None:
    folder = Path(sample_data.__code__.co_filename).parent / "fashion"
    assert "Copyright (c) 2017 Zalando SE" in (folder / "LICENSE").read_text()
    readme = (folder / "README.md").read_text()
    assert "8,000 / 2,000" in readme
    assert "not a Fashion-MNIST\nbenchmark figure" in readme


# ---- CIFAR


def cifar_records(num_samples: int, num_labels: int, num_classes: int, start: int = 0) -> np.ndarray:
    records = counting(num_samples, num_labels + 3072) + np.uint8(start)
    records[:, num_labels - 1] = np.arange(num_samples) % num_classes
    return records


def cifar_10(folder: Path) -> Path:
    for batch in (1, 2):
        cifar_records(4, 1, 2, batch).tofile(folder / f"data_batch_{batch}.bin")
    cifar_records(2, 1, 2, 9).tofile(folder / "test_batch.bin")
    (folder / "batches.meta.txt").write_text("plane\ncar\n\n")
    return folder


def test_cifar_10_binary_files_are_read_plane_by_plane(tmp_path: Path) -> None:
    samples = read(cifar_10(tmp_path))
    assert (samples.name, samples.classes, samples.official) == ("CIFAR-10", ("plane", "car"), {"train", "test"})
    assert samples.labels.tolist() == [0, 1] * 5
    assert samples.reader.shape == (3, 32, 32)
    np.testing.assert_array_equal(samples.reader.read(5).reshape(-1), cifar_records(4, 1, 2, 2)[1, 1:])
    assert samples.names[8] == "test[0]"


def test_cifar_100_binary_files_give_fine_labels(tmp_path: Path) -> None:
    cifar_records(6, 2, 3).tofile(tmp_path / "train.bin")
    cifar_records(3, 2, 3, 5).tofile(tmp_path / "test.bin")
    (tmp_path / "fine_label_names.txt").write_text("apple\nbear\nclock\n")
    samples = read(tmp_path)
    assert (samples.name, samples.classes) == ("CIFAR-100", ("apple", "bear", "clock"))
    assert samples.labels.tolist() == [0, 1, 2] * 3


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_cifar_python_batches_equal_the_binary_files(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "py").mkdir()
    binary = read(cifar_10(tmp_path / "bin"))
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        records = np.fromfile(tmp_path / "bin" / f"{name}.bin", dtype=np.uint8).reshape(-1, 3073)
        batch = {
            "batch_label": name,
            "labels": records[:, 0].tolist(),
            "data": records[:, 1:].copy(),
            "filenames": ["a.png"],
        }
        (tmp_path / "py" / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    (tmp_path / "py/batches.meta").write_bytes(pickle.dumps({"label_names": ["plane", "car"]}, protocol=protocol))
    python = read(tmp_path / "py")
    assert python.fingerprint == binary.fingerprint
    np.testing.assert_array_equal(python.reader.read(slice(None)), binary.reader.read(slice(None)))


def test_a_batch_pickled_by_python_2_is_read(tmp_path: Path) -> None:
    state = b"(I1\n(I2\nI3\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x00\\x01\\x80\\xff\\x04\\x05'\ntb."
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR" + state
    (tmp_path / "batch").write_bytes(array)
    values = read_plain_pickle(tmp_path / "batch").values()  # type: ignore[attr-defined]
    assert values.tolist() == [[0, 1, 128], [255, 4, 5]]


class Harm:
    """An object that writes a file when a standard unpickler loads it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.file}",)


def test_a_pickle_with_a_function_in_it_is_refused_and_never_run(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    cifar_records(2, 1, 2).tofile(tmp_path / "data/none.bin")
    (tmp_path / "data/none.bin").unlink()
    file = tmp_path / "data/data_batch_1"
    file.write_bytes(pickle.dumps({"data": Harm(tmp_path / "harm"), "labels": [0]}))
    (tmp_path / "data/batches.meta").write_bytes(pickle.dumps({"label_names": ["plane", "car"]}))
    assert message(tmp_path / "data") == (
        f"{file}: the Python batch refers to {os.system.__module__}.system, which plain data does not need, so it is not read. "
        "Use the published file, or its binary format."
    )
    assert not (tmp_path / "harm").exists()


def test_allowed_names_are_harmless_in_the_wrong_place(tmp_path: Path) -> None:
    for number, data in enumerate(
        [b"cnumpy\nndarray\n(I1000000000\ntR.", b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", b"garbage"]
    ):
        file = tmp_path / str(number)
        file.write_bytes(data)
        with pytest.raises(DataError) as caught:
            read_plain_pickle(file)
        assert str(caught.value).startswith(f"{file}: the Python batch is truncated or damaged (")


def test_cifar_mistakes_are_reported(tmp_path: Path) -> None:
    cifar_10(tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(b"\0" * 3072)
    assert message(tmp_path) == (
        f"{tmp_path / 'data_batch_1.bin'}: 3,072 bytes are not a whole number of records of 3,073 bytes. "
        "The file is truncated or damaged: copy or download it again."
    )
    cifar_10(tmp_path)
    (tmp_path / "batches.meta.txt").write_text("plane\n")
    assert message(tmp_path) == f"{tmp_path}: the label 1 has no class name: there are 1 class names, for the labels 0 to 0."
    (tmp_path / "batches.meta.txt").unlink()
    assert (
        message(tmp_path) == f"{tmp_path}: the file of class names, batches.meta.txt, is missing. Put it into this folder."
    )
    (tmp_path / "batches.meta").write_bytes(b"")


# ---- layouts


@pytest.mark.parametrize(
    ("shape", "plain", "images"),
    [
        ((9, 100), "NL", "NL"),
        ((9, 28, 28), "NHW", "NHW"),
        ((9, 1, 8000), "NCL", "NHW"),
        ((9, 64, 256), None, "NHW"),
        ((9, 4, 4), None, "NHW"),
        ((9, 128, 9), "NLC", "NHW"),
        ((9, 8000, 1), "NLC", "NHW"),
        ((9, 48, 64), "NHW", "NHW"),
        ((9, 5, 10), None, "NHW"),
        ((9, 5, 11), None, "NHW"),
        ((9, 32, 32, 3), "NHWC", "NHWC"),
        ((9, 3, 32, 32), "NCHW", "NDHW"),
        ((9, 3, 5, 3), None, "NHWC"),
        ((9, 2, 32, 32), "NCHW", "NDHW"),
        ((9, 13, 64, 64), None, "NDHW"),
        ((9, 64, 64, 64), None, "NDHW"),
        ((9, 1, 8, 8, 8), "NCDHW", "NCDHW"),
        ((9, 8, 8, 8, 1), "NDHWC", "NDHWC"),
        ((9, 2, 2, 2, 2, 2), None, None),
    ],
)
def test_the_layout_rule(shape: tuple[int, ...], plain: str | None, images: str | None) -> None:
    assert layout_of(shape, "plain") == plain
    assert layout_of(shape, "images") == images


def test_channels_first_moves_values_and_changes_none() -> None:
    array = counting(2, 4, 5, 3)
    moved = channels_first(array, "NHWC")
    assert moved.shape == (2, 3, 4, 5)
    assert moved[1, 2, 3, 4] == array[1, 3, 4, 2]
    assert np.shares_memory(moved, array)


# ---- NPZ and NPY


def test_the_medmnist_layout_returns_three_official_splits(tmp_path: Path) -> None:
    arrays = {}
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        arrays[f"{split}_images"] = counting(count, 6, 7, 8) + ord(split[1])
        arrays[f"{split}_labels"] = np.arange(count).reshape(-1, 1) % 2
    np.savez_compressed(tmp_path / "organs.npz", **arrays)
    samples = read(tmp_path / "organs.npz")
    assert (samples.kind, samples.name, samples.classes) == ("npz", "organs", ("0", "1"))
    assert samples.official == {"train", "val", "test"}
    assert samples.reader.shape == (1, 6, 7, 8)
    assert samples.notes == ()
    np.testing.assert_array_equal(samples.reader.read(4)[0], arrays["val_images"][0])
    assert read(tmp_path).fingerprint == samples.fingerprint


def test_keras_names_give_official_splits(tmp_path: Path) -> None:
    x = counting(6, 8, 8, 3)
    np.savez(tmp_path / "k.npz", x_train=x[:4], y_train=[0, 1, 0, 1], x_test=x[4:], y_test=[1, 0])
    samples = read(tmp_path / "k.npz")
    assert samples.official == {"train", "test"}
    np.testing.assert_array_equal(samples.reader.read(5), np.moveaxis(x[5], 2, 0))
    assert samples.notes == (
        "an array of 4 x 8 x 8 x 3 is read as (samples, height, width, channels); layout selects another layout (NCHW, NDHW).",
    )


@pytest.mark.parametrize(("x", "y"), [("x", "y"), ("X", "Y"), ("X", "y"), ("images", "labels")])
def test_plain_pairs_with_groups_splits_and_classes(tmp_path: Path, x: str, y: str) -> None:
    extra = {"groups": np.array(["s1", "s2", "s1", "s2"]), "splits": np.array(["train", "train", "train", "test"])}
    np.savez(
        tmp_path / "p.npz", **{x: counting(4, 2, 50), y: [0, 1, 2, 1]}, classes=["no", "yes", "maybe"], extra=[1], **extra
    )
    samples = read(tmp_path / "p.npz")
    assert samples.classes == ("no", "yes", "maybe")
    assert samples.groups == ("s1", "s2", "s1", "s2")
    assert samples.splits.tolist() == ["train", "train", "train", "test"]
    assert samples.reader.shape == (2, 50)
    assert samples.names[3] == f"{x}[3]"
    assert samples.notes == (
        "an array of 4 x 2 x 50 is read as (samples, channels, length); layout selects another layout (NLC, NHW).",
        "unused arrays: extra.",
    )
    assert samples.warnings[-1] == (
        "1 group with samples in more than one official split, so the scores on these splits are too high: s2."
    )


def test_a_stated_layout_overrides_the_rule(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", x=counting(3, 8, 8, 8), y=[0, 1, 1])
    assert message(tmp_path / "v.npz") == (
        f"{tmp_path / 'v.npz'}: the layout of the array x, shape 3 x 8 x 8 x 8, is ambiguous: NCHW is 8 channels, height 8, width 8; "
        "NHWC is height 8, width 8, 8 channels; NDHW is depth 8, height 8, width 8. Choose one with layout, or store an "
        "array named layout in the file."
    )
    assert read(tmp_path / "v.npz", layout="NCHW").reader.shape == (8, 8, 8)
    assert read(tmp_path / "v.npz", layout="NDHW").reader.shape == (1, 8, 8, 8)
    np.savez(tmp_path / "w.npz", x=counting(3, 8, 8, 8), y=[0, 1, 1], layout="ndhw")
    assert read(tmp_path / "w.npz").reader.shape == (1, 8, 8, 8)
    assert message(tmp_path / "v.npz", layout="NDHWX") == (
        f"{tmp_path / 'v.npz'}: unknown layout 'NDHWX'. Did you mean 'NDHW'? "
        "Known: NCDHW, NCHW, NCL, NDHW, NDHWC, NHW, NHWC, NL, NLC."
    )
    assert message(tmp_path / "v.npz", layout="NL") == (
        f"{tmp_path / 'v.npz'}: the array x has the shape 3 x 8 x 8 x 8; the layout NL has 2 axes."
    )


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float16", "float64", "bool"])
def test_types_stay_as_they_are(tmp_path: Path, dtype: str) -> None:
    np.savez(tmp_path / "t.npz", x=counting(3, 9) % 2 if dtype == "bool" else counting(3, 9, dtype=dtype), y=["b", "a", "a"])
    reader = read(tmp_path / "t.npz").reader
    assert reader.dtype == np.dtype("uint8" if dtype == "bool" else dtype)
    assert reader.read(slice(None)).shape == (3, 1, 9)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([10, 9, -1]), ("-1", "9", "10")),
        (np.array([2.0, 1.0, 1.0]), ("1", "2")),
        (np.array(["t10", "t9", "t9"]), ("t9", "t10")),
        (np.array([b"b", b"a", b"a"]), ("a", "b")),
        (np.array([[True], [False], [True]]), ("0", "1")),
    ],
)
def test_labels_of_any_kind_become_class_names(tmp_path: Path, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    np.savez(tmp_path / "l.npz", x=counting(3, 9), y=labels)
    assert read(tmp_path / "l.npz").classes == classes


def test_npy_files_are_mapped_and_paired(tmp_path: Path) -> None:
    x = counting(3, 6, 6)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", np.array([0, 1, 1]))
    for path in (tmp_path, tmp_path / "x.npy"):
        samples = read(path)
        assert (samples.kind, samples.reader.shape) == ("npy", (1, 6, 6))
        np.testing.assert_array_equal(samples.reader.read(slice(None))[:, 0], x)
    (tmp_path / "y.npy").unlink()
    assert message(tmp_path / "x.npy") == (
        f"{tmp_path / 'x.npy'}: an NPY file needs a file of labels in the same folder: x.npy with y.npy, or train_images.npy with "
        "train_labels.npy."
    )


NEEDED = "Needed: train_images with train_labels, x_train with y_train, x with y, or images with labels."


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"a": [1], "b": [2]}, f": there are no arrays of samples and labels. Found: a, b. {NEEDED}"),
        ({"x": np.zeros((2, 4))}, ": the array 'x' is there without 'y'. Found: x."),
        (
            {"x": counting(3, 4), "y": [0, 1]},
            ": x has the shape 3 x 4 but y has 2 labels. One label per sample is needed, with samples along the first axis.",
        ),
        (
            {"x": counting(3, 4), "y": 2 * np.eye(3)},
            ": y: the labels have the shape 3 x 3; needed is one label per sample, (n,) or (n, 1). "
            "For one-hot labels, save labels.argmax(1); for sets of classes as 0 and 1, write task='multi-label'.",
        ),
        ({"x": counting(3, 4), "y": [0, 0.5, 1]}, ": y: the label of row 1 is 0.5, which is not an integer. For numbers that are no classes: task='regression'."),
        ({"x": counting(3, 4), "y": [0, np.nan, 1]}, ": y: the label of row 1 is missing (NaN). Give each sample a label, or leave it out."),
        (
            {"x": counting(3, 4), "y": np.array([1j, 2, 3])},
            ": y: labels of type complex128 are not supported. Save them as integers or text.",
        ),
        (
            {"x": np.array([[1.0, 2], [np.nan, 0], [np.inf, 1]]), "y": [0, 1, 1]},
            ": 2 samples of 3 hold NaN or infinite values; the first is x[1]. Repair or remove them.",
        ),
        (
            {"x": np.array([[1.0, 2], [np.nan, 0], [0, 1]]), "y": [0, 1, 1]},
            ": 1 sample of 3 holds NaN or infinite values; the first is x[1]. Repair or remove them.",
        ),
        (
            {"x": counting(3, 4), "y": [0, 1, 2], "classes": ["a", "b", "a"]},
            ": classes: the class name 'a' occurs twice, for the labels 0 and 2, which would become one class. Give each class a name of its own.",
        ),
        (
            {"x": np.array([["a"], ["b"]]), "y": [0, 1]},
            ": the array x has the type <U1; integers or floating-point numbers of at most 64 bits are needed.",
        ),
        ({"x": np.zeros(3), "y": [0, 1, 1]}, ": the array x has the shape 3; 2 to 5 axes are needed, samples first."),
        ({"x": np.zeros((3, 0)), "y": [0, 1, 1]}, ": samples of x are empty: their shape is 0."),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0, int)}, ": no samples found."),
        (
            {"x_train": counting(2, 9), "y_train": [0, 1], "x_test": counting(2, 8), "y_test": [0, 1]},
            ": samples of train are 9 but those of test are 8. Save them with the same shape.",
        ),
        (
            {"x_train": counting(2, 9), "y_train": [0, 1], "x_test": np.zeros((1, 9)), "y_test": [0]},
            ": the array train has the type uint8 but test has float64. Save both with the same type.",
        ),
        (
            {"x": counting(2, 9), "y": [0, 1], "images": counting(2, 9), "labels": [0, 1]},
            ": there is more than one set of samples: x, images. Keep one set of names.",
        ),
        (
            {"x": counting(2, 9), "y": [0, 1], "x_train": counting(2, 9), "y_train": [0, 1]},
            ": there is more than one set of samples: x_train, x. Keep one set of names.",
        ),
        ({"x": counting(2, 9), "y": [0, 2], "classes": ["a", "b"]}, ": the label 2 has no class name: there are 2 class names, for the labels 0 to 1."),
        ({"x": counting(2, 9), "y": [0, 1], "groups": [1]}, ": groups has 1 values for 2 samples."),
        (
            {"x": counting(2, 9), "y": [0, 1], "splits": ["train", "tset"]},
            ": unknown split 'tset'. Did you mean 'test'? Known: test, train, val, valid, validation.",
        ),
        ({"x": counting(2, 9), "y": [5, 5]}, (
            ": there is one class only, '5' with 2 samples; a classifier needs at least two classes. Add samples of another class."
        )),
    ],
)  # fmt: skip
def test_every_mistake_in_an_npz_file_is_reported(tmp_path: Path, arrays: dict[str, object], expected: str) -> None:
    file = tmp_path / "bad.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]
    assert message(file) == f"{file}{expected}"


def test_arrays_of_python_objects_are_refused(tmp_path: Path) -> None:
    ragged = np.array([np.zeros(2), np.zeros(3)], dtype=object)
    advice = (
        "the array holds Python objects, which are stored as a pickle, and visus does not unpickle data. "
        "Save it with a numeric type, such as np.stack(samples) for samples of one size."
    )
    np.savez(tmp_path / "o.npz", x=ragged, y=[0, 1])
    assert message(tmp_path / "o.npz") == f"{tmp_path / 'o.npz'}: x: {advice}"
    np.save(tmp_path / "x.npy", ragged)
    np.save(tmp_path / "y.npy", [0, 1])
    assert message(tmp_path / "x.npy") == f"{tmp_path / 'x.npy'}: {advice}"


def test_damaged_npz_and_npy_files_are_errors(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=counting(50, 100), y=np.arange(50) % 2)
    data = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(data[: len(data) // 2])
    assert message(tmp_path / "d.npz") == (
        f"{tmp_path / 'd.npz'}: the NPZ file is truncated or damaged (File is not a zip file). Copy or save it again."
    )
    (tmp_path / "d.npz").write_bytes(data.replace(bytes(counting(50, 100)[20]), b"\7" * 100))
    assert message(tmp_path / "d.npz") == (
        f"{tmp_path / 'd.npz'}: the array 'x' cannot be read (Bad CRC-32 for file 'x.npy'). "
        "The file is truncated or damaged: copy or save it again."
    )
    np.save(tmp_path / "y.npy", np.arange(50) % 2)
    (tmp_path / "x.npy").write_bytes(b"nothing of the kind")
    assert message(tmp_path / "y.npy").startswith(f"{tmp_path / 'x.npy'}: the NPY file is truncated or damaged (")


# ---- real data


@pytest.mark.skipif(not (REAL / "fashion_mnist").is_dir(), reason="needs the full Fashion-MNIST (VISUS_REAL_DATA)")
@pytest.mark.long
def test_the_full_fashion_mnist_is_recognized() -> None:
    samples = read(REAL / "fashion_mnist")
    assert (samples.name, len(samples.indices("train")), len(samples.indices("test"))) == ("Fashion-MNIST", 60_000, 10_000)
    assert samples.classes[9] == "Ankle boot"


@pytest.mark.skipif(not (REAL / "photos_sign_digits").is_dir(), reason="needs the sign-language photos (VISUS_REAL_DATA)")
def test_photos_with_capital_suffixes_are_found() -> None:
    samples = read(REAL / "photos_sign_digits")
    assert (len(samples), samples.classes) == (2062, tuple("0123456789"))


@pytest.mark.parametrize("dtype", [np.int64, np.float32, bool])
def test_one_hot_labels_are_read_as_their_classes(dtype: Any, tmp_path: Path) -> None:
    x, places = counting(6, 4), np.array([2, 0, 1, 1, 0, 2])
    np.savez(tmp_path / "plain.npz", x=x, y=places)
    np.savez(tmp_path / "hot.npz", x=x, y=np.eye(3)[places].astype(dtype))
    hot, plain = (
        visus.open_data(tmp_path / "hot.npz", progress=False),
        visus.open_data(tmp_path / "plain.npz", progress=False),
    )
    assert hot.samples.task == "single-label"
    assert hot.samples.label_texts() == plain.samples.label_texts()
    note = "the labels are one-hot: read as 3 classes; task='multi-label' reads them as sets."
    assert note in hot.samples.notes
    assert note not in plain.samples.notes
    sets = visus.open_data(tmp_path / "hot.npz", task="multi-label", progress=False)
    assert sets.samples.task == "multi-label"
    assert note not in sets.samples.notes


def test_one_hot_labels_need_a_class_name_for_each_column(tmp_path: Path) -> None:
    np.savez(tmp_path / "hot.npz", x=counting(3, 4), y=np.eye(3), classes=["a", "b"])
    with pytest.raises(DataError) as caught:
        visus.open_data(tmp_path / "hot.npz", progress=False)
    assert str(caught.value) == f"{tmp_path / 'hot.npz'}: y: there are 2 class names for 3 columns of labels."

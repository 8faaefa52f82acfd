"""Images with matching names: masks are recognized by content, second copies are left out, other pairs are reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visus.data.excluded_images import EXCLUDED_IMAGE, find_excluded_images
from visus.data.ledger import Ledger
from visus.data.preprocessing import Preprocessing
from visus.data.sources import read_source
from visus.workbench.runs.predict_inputs import find_samples


def photo(seed: int, shape: tuple[int, ...] = (48, 64, 3)) -> Image.Image:
    """Smooth noise, as in a photo."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, *shape[2:])).astype(np.uint8))
    return coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)


def mask(seed: int, kind: str) -> Image.Image:
    values = np.zeros((48, 64), np.uint8)
    values[10 + seed : 20 + seed, 5:30] = 1
    return {
        "black and white": Image.fromarray(values * 255),
        "class numbers": Image.fromarray(values),
        "colors": Image.fromarray(np.stack([values * 128, values * 64, values], -1)),
        "empty": Image.fromarray(values * 0),
        "bits": Image.fromarray(values * 255).convert("1"),
    }[kind]


def write(root: Path, ending: str, other_ending: str, other: str, num_images: int = 4) -> list[str]:
    for label in ("crack", "free"):
        (root / label / "Imgs").mkdir(parents=True)
        for number in range(num_images):
            image = photo(number + 100 * (label == "free"))
            image.save(root / label / "Imgs" / f"p{number}.{ending}")
            beside = (
                image
                if other == "same"
                else photo(number + 1000 + 100 * (label == "free"))
                if other == "photo"
                else mask(number, other)
            )
            if number != 3:
                beside.save(root / label / "Imgs" / f"p{number}.{other_ending}")
    return [file.relative_to(root).as_posix() for file in sorted(root.rglob("*.*"))]


LOSSLESS = [
    (kind, ending) for kind in ("black and white", "class numbers", "colors", "empty", "bits") for ending in ("png", "bmp")
]


@pytest.mark.parametrize(("kind", "ending"), [*LOSSLESS, ("black and white", "jpg"), ("empty", "jpg"), ("bits", "jpg")])
def test_a_mask_that_has_the_name_of_its_image_is_found_by_its_content(tmp_path: Path, kind: str, ending: str) -> None:
    samples = write(tmp_path, "png" if ending == "jpg" else "jpg", ending, kind)
    found = find_excluded_images(tmp_path, samples)
    assert len(found.pairs.masks) == 6
    assert all(sample.endswith(ending) and not image.endswith(ending) for sample, image in found.pairs.masks.items())
    assert not found.pairs.copies
    assert not found.pairs.others


def test_a_folder_with_such_masks_is_read_without_them(tmp_path: Path) -> None:
    write(tmp_path, "jpg", "png", "black and white")
    ledger = Ledger()
    samples = read_source(tmp_path, ledger)
    assert (len(samples.names), samples.classes) == (8, ("crack", "free"))
    assert samples.warnings == (
        "6 images are masks of another image by content (a few colors), such as crack/Imgs/p0.png of crack/Imgs/p0.jpg, and were left out. "
        "Rename them if they are samples.",
    )
    assert len(ledger.reasons(EXCLUDED_IMAGE)) == 6


def test_of_one_image_in_two_formats_one_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "jpg", "png", "same")
    samples = read_source(tmp_path, Ledger())
    assert {Path(sample).suffix for sample in samples.names} == {".jpg"}
    assert samples.warnings == (
        "6 images exist in two formats with the same name, such as crack/Imgs/p0.png and crack/Imgs/p0.jpg. "
        "One of each was left out, since a copy in another split would make the score too high.",
    )


def test_two_photos_that_share_a_name_by_chance_are_both_samples_and_reported(tmp_path: Path) -> None:
    write(tmp_path, "jpg", "png", "photo")
    samples = read_source(tmp_path, Ledger())
    assert len(samples.names) == 14
    assert samples.warnings == (
        "6 images have the same name as a different image in the same folder, such as crack/Imgs/p0.png and crack/Imgs/p0.jpg. "
        "Both are samples. If one of them is an annotation of the other, move it out of the folder.",
    )


def test_of_many_pairs_some_are_read_and_hold_for_all(tmp_path: Path) -> None:
    samples = write(tmp_path, "jpg", "png", "bits", num_images=30)
    assert len(find_excluded_images(tmp_path, samples).pairs.masks) == 58


def test_a_damaged_partner_is_left_to_the_reading(tmp_path: Path) -> None:
    samples = write(tmp_path, "jpg", "png", "bits")
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"nothing")
    assert find_excluded_images(tmp_path, samples).reasons == {}


def test_a_prediction_of_a_folder_passes_such_masks_over_too(tmp_path: Path) -> None:
    write(tmp_path, "jpg", "png", "black and white")
    plan = Preprocessing("images", 3, (48, 64), "squash", "uint8", "fixed", (0.0,) * 3, (255.0,) * 3)
    ledger = Ledger()
    assert len(list(find_samples([tmp_path], plan, ledger))) == 8
    assert len(ledger.reasons(EXCLUDED_IMAGE)) == 6


def lay_masks(root: Path, where: str, kind: str = "black and white") -> None:
    """Six photos of two classes, and a mask of each; ``where`` names the mask by class and number."""
    for label in ("cat", "dog"):
        for number in range(6):
            image = root / ("images" if where.startswith("maschere") else "") / label / f"{label}_{number}.jpg"
            place = root / f"{where.format(label=label, number=number)}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            photo(number + 100 * (label == "dog")).save(image)
            mask(number, kind).save(place)


@pytest.mark.parametrize(
    "where",
    [
        "{label}/Masken/{label}_{number}",
        "{label}/{label}_{number} (x)",
        "{label}/{label}_{number}_maske",
        "{label}/{label}_{number}Bw",
        "{label}/{label}_{number}_m",
        "máscaras/{label}_{number}",
        "掩码/{label}/{label}_{number}",
        "maschere/{label}/{label}_{number}",
    ],
)
def test_masks_are_found_by_their_content_under_any_name_and_in_any_folder(tmp_path: Path, where: str) -> None:
    lay_masks(tmp_path, where)
    samples = read_source(tmp_path, Ledger())
    assert (len(samples.names), samples.classes) == (12, ("cat", "dog"))
    assert all(sample.endswith(".jpg") for sample in samples.names)
    assert "12 images are masks of another image" in samples.warnings[0]


def test_classes_whose_files_are_numbered_alike_are_no_masks_of_each_other(tmp_path: Path) -> None:
    for number in range(12):
        for label, image in (("photo", photo(number)), ("silhouette", mask(number % 6, "black and white"))):
            (tmp_path / label).mkdir(exist_ok=True)
            image.save(tmp_path / label / f"{number}.png")
    assert len(read_source(tmp_path, Ledger()).names) == 24


def test_changed_copies_of_photos_are_no_masks(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(6):
            photo(number + 50 * (label == "b")).save(tmp_path / label / f"{number}.png")
            photo(number + 50 * (label == "b")).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
                tmp_path / label / f"{number}_flip.png"
            )
    samples = read_source(tmp_path, Ledger())
    assert (len(samples.names), samples.warnings) == (24, ())

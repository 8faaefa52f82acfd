"""Masks next to images are recognized by name and left out; classes of people with face masks are not masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from visus.data.folder_layouts import CLASSIFIES
from visus.data.ledger import Ledger
from visus.data.masks import masks_among
from visus.data.sources import read_source
from visus.errors import DataError

from .test_layouts import lay, message, read


def names(*folders: str, ending: str = "png", num_images: int = 6) -> list[str]:
    return [f"{folder}/{number}.{ending}" for folder in folders for number in range(num_images)]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"),
        ("images", "annotations"),
        ("image", "label"),
        ("imgs", "gt"),
        ("JPEGImages", "SegmentationClass"),
        ("train", "train_masks"),
        ("train", "trainannot"),
        ("original", "ground_truth"),
        ("input", "trimaps"),
        ("cat/images", "cat/masks"),
        ("crack", "crack/masks"),
        ("images/train", "masks/train"),
        ("test/bad", "ground_truth/bad"),
    ],
)
def test_a_folder_of_masks_is_found_next_to_its_images(images: str, masks: str) -> None:
    found = masks_among([*names(images, ending="jpg"), *names(masks), *names("other/good")])
    assert found == {f"{masks}/{number}.png": f"{images}/{number}.jpg" for number in range(6)}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("1.png", "1_mask.png"),
        ("benign (1).png", "benign (1)_mask_1.png"),
        ("Part0.jpg", "Part0_label.bmp"),
        ("a-b.jpg", "a-b-seg.png"),
        ("x.jpg", "mask_x.png"),
        ("X.JPG", "x_GT.png"),
        ("5.jpg", "5.mask.png"),
    ],
)
def test_a_mask_is_found_next_to_its_image(image: str, mask: str) -> None:
    assert masks_among([f"a/{image}", f"a/{mask}", "b/y.png"]) == {f"a/{mask}": f"a/{image}"}


@pytest.mark.parametrize(
    "classes",
    [
        ("with_mask", "without_mask"),
        ("mask", "no_mask"),
        ("Mask", "Non Mask"),
        ("masked", "unmasked"),
        ("mask_worn_incorrectly", "with_mask", "without_mask"),
        ("label", "price"),
        ("cat", "dog"),
        ("cat", "mask", "dog"),
    ],
)
def test_classes_are_no_masks_though_their_files_are_numbered_alike(classes: tuple[str, ...]) -> None:
    assert masks_among(names(*classes)) == {}


def test_people_with_and_without_masks_are_classes_though_a_file_name_says_mask() -> None:
    assert masks_among([*[f"mask/{n}_mask.png" for n in range(5)], *[f"no_mask/{n}.png" for n in range(5)]]) == {}


def test_a_mask_without_its_image_is_an_image() -> None:
    assert masks_among(["a/1_mask.png", "b/2.png"]) == {}


def test_masks_next_to_photos_are_left_out_and_reported(tmp_path: Path) -> None:
    lay(tmp_path, "crack", "ok", *[f"crack/{number}_mask.png" for number in range(3)])
    ledger = Ledger()
    samples = read_source(tmp_path, ledger)
    assert samples.class_counts().tolist() == [3, 3]
    assert samples.warnings == (
        "3 images are masks of another image by name, such as crack/0_mask.png of crack/0.jpg, and were left out. "
        "Rename them if they are samples.",
    )
    assert ledger.sentences() == [
        "3 images were left out (crack/0_mask.png, crack/1_mask.png, crack/2_mask.png): a mask of another image."
    ]


def test_images_and_masks_alone_are_refused(tmp_path: Path) -> None:
    assert message(lay(tmp_path, "images", "masks")) == (
        f"{tmp_path}: 3 files are masks of the other images (masks/0.jpg of images/0.jpg), not a class. {CLASSIFIES}"
    )


def test_two_classes_of_the_same_odd_file_names_are_warned_of(tmp_path: Path) -> None:
    odd = [f"scan_{number * number}.jpg" for number in range(12)]
    lay(tmp_path, *[f"{name}/{file}" for name in ("visible", "infrared") for file in odd])
    assert read(tmp_path).warnings == (
        "the classes 'infrared' and 'visible' hold files with the same names. If these are two images of each object, such as a photo and its "
        "mask, a network would learn the kind of image, not the class.",
    )


def test_a_mistake_in_the_folders_reports_masks_too(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(lay(tmp_path, "train", "trainannot", "val", "valannot"))
    assert str(caught.value).startswith(
        f"{tmp_path}: 6 images are masks of another image by name, such as trainannot/0.jpg of train/0.jpg, and were left out. "
    )

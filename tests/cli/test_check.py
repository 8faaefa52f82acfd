"""``visus check``: its options, and class names that look like markup."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.commands import Call


def test_class_names_with_brackets_are_shown_as_they_are(visus_command: Call, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "b.npz",
        x=np.arange(20, dtype=np.float32)[:, None, None] + np.zeros((20, 1, 9), np.float32),
        y=np.arange(20) % 2,
        classes=np.array(["[/b]", "[red]ok"]),
    )
    out = visus_command("check", tmp_path / "b.npz").out
    assert "[/b]" in out
    assert "[red]ok" in out


def test_check_takes_the_options_of_the_data(visus_command: Call, photos: Path) -> None:
    answer = visus_command("check", photos, "--channels", "1", "--resize-mode", "crop", "--img-size", "8", "-j", "1")
    assert answer.code == 0
    assert "60 images of 1 x 8 x 8" in answer.out
    wrong = visus_command("check", photos, "--resize-mode", "corp")
    assert wrong.err == "error: unknown resize mode 'corp'. Did you mean 'crop'? Known: crop, pad, squash.\n"


def test_augment_writes_a_sheet_with_the_settings_of_set(visus_command: Call, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "sheet.png"
    answer = visus_command("check", photos, "--augment", "--set", "mixup=0.2", "--set", "translate=0.1", "-o", file)
    assert answer.code == 0
    assert f"blended in pairs (mixup 0.2); 6 versions of each sample in {file}" in " ".join(answer.out.split())
    assert file.read_bytes().startswith(b"\x89PNG")
    alone = visus_command("check", photos, "--set", "mixup=0.2")
    assert (
        alone.err == "error: --recipe, --set and --output belong to the contact sheet. Add --augment, or leave them out.\n"
    )
    assert alone.code == 2


def test_the_contact_sheet_has_the_augmentation_of_a_recipe_and_of_options_that_override_it(
    visus_command: Call, photos: Path, tmp_path: Path
) -> None:
    recipe, words = tmp_path / "recipe.yaml", ("check", photos, "--augment", "-o", tmp_path / "sheet.png")
    recipe.write_text("mixup: 0.3\ncolor: 0.2\n")
    answer = visus_command(*words, "--recipe", recipe)
    assert "blended in pairs (mixup 0.3)" in " ".join(answer.out.split())
    answer = visus_command(*words, "--recipe", recipe, "--set", "mixup=0.1")
    assert "blended in pairs (mixup 0.1)" in " ".join(answer.out.split())
    assert answer.out.splitlines()[-1] == f"next: visus train {photos} --set mixup=0.1 --recipe {recipe}"
    recipe.write_text("mixing: 0.3\n")
    answer = visus_command(*words, "--recipe", recipe)
    assert (answer.code, answer.err.partition("'. ")[0]) == (2, f"error: {recipe}: unknown setting 'mixing")


def test_a_repeated_label_column_is_several_columns(visus_command: Call, photos: Path) -> None:
    table = photos.parent / "columns.csv"
    files = sorted(photos.rglob("*.png")) or sorted(photos.rglob("*.jpg"))
    rows = [f"{file},{number % 2},{number % 3 // 2}" for number, file in enumerate(files)]
    table.write_text("\n".join(["path,worn,new", *rows]) + "\n")
    repeated = visus_command("check", table, "--task", "multi-label", "--label-column", "worn", "--label-column", "new")
    assert repeated.code == 0
    assert repeated.out == visus_command("check", table, "--task", "multi-label", "--label-column", "worn,new").out


def test_a_run_in_the_place_of_data_or_of_its_recipe_is_named(visus_command: Call, run: Path, photos: Path) -> None:
    found = visus_command("check", run)
    assert (found.code, found.err) == (
        1,
        f"error: {run}: this is the folder of a run, and data is needed here: a folder of samples, a table or an array file. To compare runs: visus compare "
        "RUN RUN.\n",
    )
    found = visus_command("check", photos, "--augment", "--recipe", run)
    assert (found.code, found.err) == (
        2,
        f"error: {run}: this is a folder, and a recipe is a file. Give the recipe.yaml in it.\n",
    )

"""Bundles whose held-out samples come in groups: the metrics of engines and of int8 networks have intervals over them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.ship import tiny_bundles

from visus.data.npy import npy_bytes
from visus.errors import BundleError
from visus.evaluation.intervals import wilson_interval
from visus.ship.files import BundleFiles, write_bundle
from visus.ship.manifest import FileFacts, digest
from visus.ship.parity import check_bundle
from visus.ship.proof import GROUPS, read_proof

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TASKS = ["single-label", "multi-label", "regression"]


def patients(num_patients: int) -> list[str]:
    return [f"patient {place % num_patients}" for place in range(128)]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_scores_of_a_bundle_are_over_its_groups(task: str, tmp_path: Path) -> None:
    """Engines are checked and timed with the interval that the run has; the names of groups stay at home."""
    grouped = tiny_bundles.made(tiny_bundles.source_of(task, groups=patients(8)), tmp_path / "grouped")
    apart = tiny_bundles.made(tiny_bundles.source_of(task), tmp_path / "apart")
    checks = [check_bundle(BundleFiles(each), ["onnxruntime"])[0] for each in (grouped, apart)]
    assert [each.num_groups for each in checks] == [8, None]
    assert checks[0].score == checks[1].score
    assert (checks[0].score_low, checks[0].score_high) != (checks[1].score_low, checks[1].score_high)
    assert checks[0].score_words().endswith(" over 8 groups)")
    files = BundleFiles(grouped)
    assert read_proof(files).groups.tolist() == [place % 8 for place in range(128)]
    assert not any(b"patient" in files.read(each) for each in files.manifest.files)
    assert read_proof(BundleFiles(apart)).groups is None


@pytest.mark.parametrize("task", TASKS)
def test_a_loss_over_copies_of_a_sample_is_that_of_one(task: str) -> None:
    source, random = tiny_bundles.source_of(task), np.random.default_rng(0)
    logits = random.normal(size=(30, 3))
    run, found = (source.task.answers(each, 1.0, 0.0) for each in (logits, logits + random.normal(size=(30, 3))))
    labels = source.labels[:30]
    groups = np.repeat(np.arange(30), 4)
    copied = source.task.loss(*(np.repeat(each, 4, axis=0) for each in (run, found, labels)), groups)
    alone = source.task.loss(*(np.repeat(each, 4, axis=0) for each in (run, found, labels)))
    assert copied.value == pytest.approx(alone.value)
    assert copied.high - copied.low > 1.5 * (alone.high - alone.low)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_a_bundle_of_one_group_is_checked_and_only_an_error_has_no_interval(task: str, tmp_path: Path) -> None:
    bundle = tiny_bundles.made(tiny_bundles.source_of(task, groups=["a"] * 128), tmp_path / "bundle")
    (found,) = check_bundle(BundleFiles(bundle), ["onnxruntime"])[:1]
    ends = {"regression": (None, None), "single-label": wilson_interval(1, 1)}  # every label is right
    assert (found.score_low, found.score_high, found.num_groups) == (*ends.get(task, (0.0, 1.0)), 1)
    assert BundleFiles(bundle).manifest.checks[0]["num_groups"] == 1


@pytest.mark.long
def test_groups_of_another_shape_or_type_are_refused(tmp_path: Path) -> None:
    bundle = tiny_bundles.made(tiny_bundles.source(groups=patients(8)), tmp_path / "bundle")
    files = BundleFiles(bundle)
    held = {name: files.read(name) for name in files.manifest.files}
    for groups, problem in (
        (np.zeros(127, dtype=np.int64), "this array has the shape (127,), and (128,) is needed. Export the run again."),
        (np.zeros(128, dtype=np.int32), "these values are int32, and int64 is needed. Export the run again."),
    ):
        contents = held | {GROUPS: npy_bytes(groups)}
        facts = {name: FileFacts(digest(each), len(each)) for name, each in sorted(contents.items())}
        write_bundle(tmp_path / groups.dtype.name, replace(files.manifest, files=facts), contents)
        with pytest.raises(BundleError) as caught:
            read_proof(BundleFiles(tmp_path / groups.dtype.name))
        assert str(caught.value) == f"{tmp_path / groups.dtype.name}: {GROUPS}: {problem}"

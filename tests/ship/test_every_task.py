"""Bundles of sets of classes and of numbers: the same proof as for one class, the same refusals, and int8 networks of both."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.ship import tiny_bundles
from tests.ship.test_files import manifest
from tests.ship.test_forged_manifests import ODD, is_one_sentence, places, sentence, use, written

from visus.errors import BundleError, ParityError, UsageError, VisusError
from visus.ship import export, quantize
from visus.ship.answers import Answerer
from visus.ship.engine_times import measure_engines, score
from visus.ship.engines import check_against, open_engine
from visus.ship.files import BundleFiles, write_bundle
from visus.ship.manifest import ANSWERS, MANIFEST, FileFacts, answers_digest, digest, read_manifest
from visus.ship.parity import Check, check_bundle, check_classes, compare_engine
from visus.ship.proof import answer_paths, read_proof
from visus.ship.quantize import MIN_SAMPLES, Int8, judged, quantized
from visus.ship.tasks.multi_label import MultiLabelBundle
from visus.ship.tasks.registry import SINGLE_LABEL
from visus.ship.tasks.regression import RegressionBundle

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

TASKS = ["multi-label", "regression"]
STEPS = {
    "multi-label": "calibration (temperature and sigmoid)",
    "regression": "conversion to the units of the labels",
}


def files_of(task: str) -> BundleFiles:
    return BundleFiles(tiny_bundles.bundle_of(task))


def forged(task: str, target: Path, changed: dict[str, bytes] | None = None, **fields: Any) -> BundleFiles:
    """The bundle with other files and fields, whose hashes and notes are right."""
    files = files_of(task)
    contents = {name: files.read(name) for name in files.manifest.files} | (changed or {})
    made = replace(files.manifest, **fields)
    model = onnx.load_from_string(contents["network.onnx"])
    for note in model.metadata_props:
        if note.key == ANSWERS:
            note.value = answers_digest(made.preprocessing, made.temperature, made.smoothing, made.tta, made.task)
    contents["network.onnx"] = model.SerializeToString(deterministic=True)
    facts = {name: FileFacts(digest(each), len(each)) for name, each in sorted(contents.items())}
    write_bundle(target, replace(made, files=facts), contents)
    return BundleFiles(target)


def npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(VisusError) as caught:
        action()
    return str(caught.value)


@pytest.mark.parametrize("task", [pytest.param(TASKS[0], marks=pytest.mark.slow), TASKS[1]])
@pytest.mark.long
def test_every_engine_answers_as_the_run(task: str) -> None:
    files = files_of(task)
    proof = read_proof(files)
    assert proof.labels.shape == (128, 3)
    for name in ("onnxruntime", "openvino", "torch", "torch-program"):
        engine = open_engine(files, name, "float32", 1)
        found = score(engine, files.manifest, proof, (7, 64))
        assert found.refusal == "", name
        assert (found.check.agreement, found.check.task) == (1.0, task)
        assert found.check.score == pytest.approx(found.check.run_score, abs=1e-5)
        assert found.check.max_difference < 1e-5
        answers = Answerer(engine, files.manifest)(proof.samples)
        assert files.manifest.task.differences(answers, proof.answers).max() < 1e-5


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_the_second_output_of_the_graph_is_the_answer_for_any_program(task: str) -> None:
    """Large numbers of a small spread keep their digits."""
    import onnxruntime

    files = files_of(task)
    proof = read_proof(files)
    session = onnxruntime.InferenceSession(files.read("network.onnx"))
    assert [each.name for each in session.get_outputs()] == ["logits", files.manifest.task.output]
    _, answers = session.run(None, {"samples": proof.samples})
    assert files.manifest.task.differences(answers, proof.answers).max() < 1e-5


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_the_check_of_a_bundle_names_the_metric_of_its_task(task: str) -> None:
    (check, *_) = check_bundle(files_of(task), ["onnxruntime"], batches=(64,))
    of = {
        "multi-label": "100.0 % of the sets of labels; probabilities differ by up to {}; mean average precision {}, the run {}",
        "regression": "100.0 % of the numbers; numbers differ by up to {} standard deviations; mean absolute error {}, the run {} standard deviations",
    }[task]
    assert check.result() == of.format(f"{check.max_difference:.1e}", check.write(check.score), check.write(check.run_score))
    assert 0 < check.run_score < 1, "a tenth of the labels are wrong"


@pytest.mark.parametrize("task", TASKS)
def test_a_fault_after_the_logits_is_found_there(task: str) -> None:
    files = files_of(task)
    engine = open_engine(files, "onnxruntime", "float32", 1)

    class Shifted:
        name, precision, num_threads, version = engine.name, engine.precision, engine.num_threads, engine.version
        logits = staticmethod(engine.logits)

        def run(self, samples: Any) -> Any:
            logits, answers = engine.run(samples)
            return logits, answers + 0.01 * np.array(getattr(files.manifest.task, "std", 1.0))

    said = refused(lambda: compare_engine(Shifted(), files.manifest, read_proof(files), (64,)))
    noun, unit = ("a number", " standard deviations") if task == "regression" else ("a probability", "")
    assert said == (
        f"onnxruntime, float32, batches of 64: {noun} differs by 1.0e-02{unit}, and at most 1e-04 is accepted, though the logits agree: the difference "
        f"begins in the {STEPS[task]}."
    )
    said = refused(lambda: check_against(Shifted(), engine, files.manifest, (4, 3, 8, 8)))
    assert said == (
        f"onnxruntime and onnxruntime answer differently here: {noun} differs by 1.0e-02{unit}, and at most 1e-04 is accepted. Use engine onnxruntime."
    )


OTHERS: dict[str, Any] = {
    "multi-label": MultiLabelBundle((0.4, 0.5, 0.6)),
    "regression": RegressionBundle(tiny_bundles.MEAN, (20.0, *tiny_bundles.STD[1:]), (5.0, 2e-3, 400.0)),
}


@pytest.mark.parametrize("task", TASKS)
def test_another_task_in_the_manifest_is_refused_by_every_engine(task: str, tmp_path: Path) -> None:
    files = files_of(task)
    contents = {name: files.read(name) for name in files.manifest.files}
    write_bundle(tmp_path / "forged", replace(files.manifest, task=OTHERS[task]), contents)
    for name in ("onnxruntime", "openvino", "torch", "torch-program"):
        said = refused(lambda name=name: open_engine(BundleFiles(tmp_path / "forged"), name, "float32", 1))  # type: ignore[misc]
        assert said == (
            f"{tmp_path / 'forged'}: the task, preprocessing, temperature, smoothing or tta of the manifest was changed: the network was exported with "
            "other ones. Export the run again."
        )


@pytest.mark.parametrize("task", TASKS)
def test_any_odd_value_of_the_task_in_a_manifest_is_refused_in_one_sentence(task: str, tmp_path: Path) -> None:
    files = forged(task, tmp_path / "forged")
    plain = json.loads(files.manifest.text())
    for path in places(plain["task"]):
        for value in ODD:
            other = json.loads(json.dumps(plain))
            inner = other["task"]
            for key in path[:-1]:
                inner = inner[key]
            if inner[path[-1]] == value:
                continue
            inner[path[-1]] = value
            said = sentence(use, written(tmp_path / "forged", other))
            assert is_one_sentence(said, tmp_path / "forged"), (path, value)


@pytest.mark.parametrize("task", TASKS)
def test_forged_answers_of_the_proof_are_refused(task: str, tmp_path: Path) -> None:
    files = files_of(task)
    of_golden, of_samples = answer_paths(files.manifest.task)
    answers = read_proof(files).answers.copy()
    answers[5] = answers[6]
    made = forged(task, tmp_path / "answers", {of_samples: npy(answers)})
    assert "and at most 1e-04 is accepted" in refused(lambda: check_bundle(made, ["onnxruntime"], batches=(64,)))
    made = forged(task, tmp_path / "nan", {of_golden: npy(np.full((2, 3), np.nan))})
    assert refused(lambda: read_proof(made)) == (
        f"{tmp_path / 'nan'}: {of_golden}: a value is NaN or infinite. Export the run again."
    )


@pytest.mark.parametrize("task", TASKS)
def test_forged_labels_of_the_proof_are_refused(task: str, tmp_path: Path) -> None:
    labels = read_proof(files_of(task)).labels
    kinds = {"multi-label": "float32", "regression": "float64"}
    for place, (values, said) in enumerate(
        (
            (labels.argmax(axis=1), "this array has the shape (128,), and (128, 3) is needed"),
            (labels.astype(np.int8), f"these values are int8, and {kinds[task]} is needed"),
            *([(labels / 2, "a value is neither 0 nor 1")] if task == "multi-label" else []),
        )
    ):
        made = forged(task, tmp_path / f"{place}", {"proof/labels.npy": npy(values)})
        assert refused(lambda made=made: read_proof(made)) == (  # type: ignore[misc]
            f"{tmp_path / f'{place}'}: proof/labels.npy: {said}. Export the run again."
        )


def test_other_names_of_classes_or_targets_are_refused(tmp_path: Path) -> None:
    files = files_of("regression")
    made = forged("regression", tmp_path / "forged", classes=("light", "gray", "dark"))
    golden = read_proof(files).golden[0]
    before, after = golden.label, golden.label.replace("dark", "x").replace("light", "dark").replace("x", "light")
    assert refused(lambda: check_classes(made, read_proof(made))) == (
        f"{tmp_path / 'forged'}: {golden.path}: the list of targets was changed: the run called this file {before}, and the list calls it {after}. Export "
        "the run again."
    )
    assert refused(lambda: open_engine(made, "onnxruntime", "float32", 1)) == (
        f"{tmp_path / 'forged'}: the list of targets was changed: the network names other targets than the manifest. Export the run again."
    )


@pytest.mark.parametrize("task", TASKS)
def test_a_changed_byte_is_refused(task: str, tmp_path: Path) -> None:
    files = files_of(task)
    for name in (answer_paths(files.manifest.task)[1], MANIFEST):
        target = tmp_path / name.replace("/", "-")
        write_bundle(target, files.manifest, {each: files.read(each) for each in files.manifest.files})
        content = bytearray((target / name).read_bytes())
        content[-3] ^= 1
        (target / name).write_bytes(content)
        assert "SHA-256" in refused(lambda target=target: check_bundle(BundleFiles(target), ["onnxruntime"]))  # type: ignore[misc]


@pytest.mark.parametrize("task", TASKS)
def test_too_few_held_out_samples_are_refused_before_the_export(task: str, tmp_path: Path) -> None:
    source = tiny_bundles.source_of(task)
    one = replace(source, samples=source.samples[:1], labels=source.labels[:1])
    assert refused(lambda: export.make_bundle(one, tmp_path / "one")) == (
        "the export cannot be checked: there is one held-out sample, and two at least are needed for an interval. Compare more held-out samples, or hold "
        "out more data."
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", TASKS)
def test_the_benchmark_of_engines_uses_the_words_of_the_task(task: str) -> None:
    found = measure_engines(
        files_of(task),
        engines=("onnxruntime", "openvino"),
        precisions=("float32",),
        batch_sizes=(1,),
        threads=(1,),
        rounds=1,
    )
    said = str(found.text())
    words = {
        "multi-label": "same set of labels and largest difference of a probability: beside the run",
        "regression": "same numbers, up to the tolerance, largest difference and mean absolute error in standard deviations of the training labels: beside",
    }
    assert words[task] in said
    assert "test-time augmentation are exempt" not in said
    assert all(each.is_within for each in found.scores)


@pytest.fixture(scope="module")
def int8_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], BundleFiles]:
    """The bundle of a task with an int8 network."""
    made: dict[str, BundleFiles] = {}

    def of(task: str) -> BundleFiles:
        if task not in made:
            files = files_of(task)
            held = {name: files.read(name) for name in files.manifest.files}
            graph, new = quantized(held["network.onnx"], held, tiny_bundles.samples(MIN_SAMPLES, 5), "onnxruntime")
            contents = held | new
            facts = {name: FileFacts(digest(each), len(each)) for name, each in sorted(contents.items())}
            target = tmp_path_factory.mktemp("int8") / task
            write_bundle(target, replace(files.manifest, files=facts, graphs=(*files.manifest.graphs, graph)), contents)
            made[task] = BundleFiles(target)
        return made[task]

    return of


@pytest.mark.parametrize("task", TASKS)
def test_an_int8_network_is_judged_by_the_metric_of_its_task(int8_of: Any, task: str) -> None:
    files = int8_of(task)
    found = judged(files, MIN_SAMPLES, max_loss=0.2)
    sign = -1 if task == "regression" else 1
    assert found.loss == pytest.approx(sign * (found.run_score - found.score), abs=1e-9)
    assert found.loss_low <= found.loss <= found.loss_high
    assert found.score_low <= found.score <= found.score_high
    assert 0 < abs(found.loss) < 0.2, "int8 differs a little"
    words = {
        "multi-label": "onnxruntime, int8: mean average precision ",
        "regression": "onnxruntime, int8: mean absolute error ",
    }
    assert found.sentence().startswith(words[task])
    assert Int8(**found.to_json()) == found
    (check, *_) = check_bundle(files, precision="int8", batches=(7,))
    assert (check.precision, check.tolerance, check.task) == ("int8", None, task)


@pytest.mark.parametrize("task", TASKS)
def test_an_int8_network_that_loses_too_much_is_refused(int8_of: Any, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = int8_of(task)
    answers = read_proof(files).answers
    monkeypatch.setattr(quantize, "Answerer", lambda *_: lambda samples: np.roll(answers, 1, axis=0))
    with pytest.raises(ParityError) as caught:
        judged(files, MIN_SAMPLES)
    found = judged(files, MIN_SAMPLES, max_loss=1.0) if task == "multi-label" else None
    what = {"multi-label": "loses too much mean average precision", "regression": "is too far from the labels"}[task]
    accepted = {"multi-label": "points", "regression": "standard deviations"}[task]
    said = str(caught.value)
    assert said.startswith(f"the int8 network {what}, so nothing was written. onnxruntime, int8: ")
    assert said.endswith(
        f"at most {1 if task == 'multi-label' else 0.01:g} is accepted. Accept a larger loss with --max-loss, or export without --int8"
    )
    assert f" {accepted} (" in said
    assert found is None or found.loss > 0.01


def test_a_bundle_of_the_format_before_the_tasks_is_read_as_one_of_single_labels() -> None:
    check = Check("onnxruntime", "1.20", "float32", False, 20, 500, (1, 7), 1.0, 2e-7, 1e-8, 0.9, 0.87, 0.92, 0.9, 1e-4)
    facts = {
        **manifest().facts,
        "int8": Int8("openvino", 300, 500, 0.8, 0.76, 0.83, 0.804, 0.004, -0.004, 0.012, 0.01).to_json(),
    }
    now = manifest(checks=(asdict(check),), facts=facts)
    plain = json.loads(now.text())
    before = {name: each for name, each in plain.items() if name != "task"} | {"format_version": 2}
    earlier = {name.replace("score", "accuracy"): value for name, value in facts["int8"].items() if name != "task"}
    before["facts"] = {**plain["facts"], "int8": earlier}
    before["checks"] = [
        {name.replace("score", "accuracy"): value for name, value in each.items() if name != "task"}
        for each in plain["checks"]
    ]
    assert "run_accuracy" in earlier
    assert read_manifest(json.dumps(before)) == read_manifest(now.text())
    assert read_manifest(now.text()).task == SINGLE_LABEL
    with pytest.raises(BundleError, match="the manifest has the unknown 'task'"):
        read_manifest(json.dumps({**plain, "format_version": 2}))


def test_views_of_unsure_predictions_need_one_class_for_each_sample() -> None:
    plain = json.loads(files_of("multi-label").manifest.text())
    with pytest.raises(BundleError) as caught:
        read_manifest(json.dumps({**plain, "tta": "unsure:shift"}))
    assert str(caught.value).startswith("bundle.json: tta is 'unsure:shift', and ")


@pytest.mark.parametrize("task", [TASKS[0], pytest.param(TASKS[1], marks=pytest.mark.slow)])
@pytest.mark.long
def test_a_view_of_every_sample_is_averaged_as_in_the_run(task: str, tmp_path: Path) -> None:
    files = BundleFiles(tiny_bundles.made(tiny_bundles.source_of(task, tta="flip"), tmp_path / task, ("onnx",)))
    plain = read_proof(files_of(task)).answers
    (check, *_) = check_bundle(files, ["onnxruntime"], batches=(7,))
    assert (check.agreement, check.max_difference < 1e-5) == (1.0, True)
    assert files.manifest.task.differences(read_proof(files).answers, plain).max() > 1e-3


def test_a_loss_is_a_number_from_0_to_1() -> None:
    with pytest.raises(UsageError) as caught:
        quantize.check_judgement(500, 1.5)
    assert str(caught.value) == "max_loss is 1.5, and a number from 0 to 1 is needed, such as 0.01."


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_bundle_is_written_with_an_int8_network_of_its_task(task: str, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    calibration = tiny_bundles.samples(MIN_SAMPLES, 5)
    source = tiny_bundles.source_of(task, calibration=calibration, max_loss=1.0)  # how much is lost depends on the processor
    manifest, _ = export.make_bundle(source, tmp_path / "made", ("onnx", "openvino"))
    found = Int8(**manifest.facts["int8"])
    assert (found.engine, found.task, found.num_calibration) == ("openvino", task, MIN_SAMPLES)
    assert {each["task"] for each in manifest.checks} == {task}
    assert BundleFiles(tmp_path / "made").manifest.text() == manifest.text()

"""Keras 3: the convolutional network of its first vision example, compiled and fitted as it is written there.

The backend is the one that Keras is set to, or what ``KERAS_BACKEND`` names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from peers.task import Arrays, Course, Task

BATCH_SIZE = 128


def train(task: Task, course: Course) -> None:
    """Fit with its own loop, which evaluates after each epoch."""
    import keras

    arrays = Arrays.read(task.arrays)
    backend = keras.backend.backend()
    course.ready(("keras", {"tensorflow": _tensorflow()}.get(backend, backend)), task.device)
    keras.utils.set_random_seed(task.seed)
    (samples, labels), (test_samples, test_labels) = (
        (_channels_last(values), keras.utils.to_categorical(names, task.num_classes))
        for values, names in ((arrays.train_samples, arrays.train_labels), (arrays.test_samples, arrays.test_labels))
    )
    network = _network(keras, samples.shape[1:], task.num_classes)
    network.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])

    class Follow(keras.callbacks.Callback):  # type: ignore[misc]
        """Tells each evaluation that ``fit`` makes."""

        def on_test_begin(self, logs: Any = None) -> None:
            self._evaluating = course.evaluation()
            self._evaluating.__enter__()

        def on_test_end(self, logs: Any = None) -> None:
            self._evaluating.__exit__(None, None, None)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if course.evaluated(epoch + 1, logs["val_accuracy"]):
                self.model.stop_training = True

    network.fit(
        samples,
        labels,
        batch_size=BATCH_SIZE,
        epochs=task.num_epochs,
        validation_data=(test_samples, test_labels),
        callbacks=[Follow()],
        verbose=0,
    )


def _network(keras: Any, input_shape: tuple[int, ...], num_classes: int) -> Any:
    """The example's network."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape=input_shape),
            layers.Conv2D(32, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(64, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(num_classes, activation="softmax"),
        ]
    )


def _channels_last(samples: Any) -> Any:
    """Samples (N, C, H, W) as float32 from 0 to 1, (N, H, W, C)."""
    return np.ascontiguousarray(samples.transpose(0, 2, 3, 1)).astype("float32") / 255


def _tensorflow() -> str:
    """The name that TensorFlow was installed under."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            version(name)
        except PackageNotFoundError:
            continue
        return name
    return "tensorflow"

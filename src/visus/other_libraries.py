"""The words of fastai, Keras, PyTorch and Ultralytics, with what they are called in visus: settings, arguments, attributes."""

from __future__ import annotations

from typing import Final

SETTINGS: Final = {
    **dict.fromkeys(("lr", "lr0", "lr_max", "base_lr"), "learning_rate"),
    **dict.fromkeys(("bs", "batch", "batchsize"), "batch_size"),
    **dict.fromkeys(("wd", "decay"), "weight_decay"),
    **dict.fromkeys(("n_epoch", "n_epochs", "num_epochs", "max_epochs"), "epochs"),
    **dict.fromkeys(("opt", "opt_func"), "optimizer"),
    **dict.fromkeys(("early_stopping", "early_stopping_patience"), "patience"),
    **dict.fromkeys(("moms", "mom"), "momentum"),
    **dict.fromkeys(("random_state", "random_seed"), "seed"),
    **dict.fromkeys(("fliplr", "flip_lr"), "flip"),
    **dict.fromkeys(("degrees", "rotation", "rotation_range", "max_rotate"), "rotate"),
    **dict.fromkeys(("flipud", "flip_ud", "flip_vert"), "vertical_flip"),
    **dict.fromkeys(("color_jitter", "max_lighting"), "color"),
    **dict.fromkeys(("auto_augment", "randaugment", "rand_augment"), "policy"),
    **dict.fromkeys(("random_resized_crop", "random_crop"), "crop"),
    **dict.fromkeys(("batch_tfms", "transforms", "tfms", "augmentations"), "transform"),
    "scale": "zoom",
    "erasing": "cutout",
    "freeze": "frozen",
    "earlystopping": "patience",
}
"""Words of other libraries for settings of the training."""
ARGUMENTS: Final = {
    **dict.fromkeys(("arch", "model", "net"), ("network",)),
    **dict.fromkeys(("imgsz", "imgs", "size", "image_size", "item_tfms", "target_size"), ("img_size",)),
    **dict.fromkeys(("object_size", "object_size_px"), ("object_px",)),
    **dict.fromkeys(("workers", "n_workers"), ("num_workers",)),
    **dict.fromkeys(("path", "folder", "dir", "directory"), ("path", "folder", "data", "files")),
    **dict.fromkeys(("project", "save_dir", "output_dir"), ("output",)),
    "source": ("files",),
    **dict.fromkeys(("valid_pct", "validation_split", "val_size", "val_pct"), ("val",)),
    "test_size": ("test",),
    "validation_data": ("x_val",),
    **dict.fromkeys(("n_splits", "num_folds", "cv", "k_folds"), ("folds",)),
    **dict.fromkeys(("shape", "input_size"), ("input_shape",)),
    **dict.fromkeys(("callbacks", "cbs"), ("on_event",)),
    **dict.fromkeys(("fn_col", "x_col"), ("path_column",)),
    **dict.fromkeys(("label_col", "y_col"), ("label_column",)),
    "cfg": ("recipe",),
    "verbose": ("progress",),
}
"""Words of other libraries for arguments of functions and commands, each with the words that it may mean, the likeliest first."""

NO_ARGUMENTS: Final = {
    "valid_col": "a table has the split in a column named split, with train, val or test in each row.",
    "label_delim": "the classes of a cell are separated by |, ; or , and read with task='multi-label'.",
    "y_range": "regression predicts numbers of any size; they are standardized by the training set.",
}
"""Words of other libraries for arguments that no function has, with what there is instead."""


def device_of(name: object) -> object:
    """The name of a device that another library gives by its number; any other value unchanged.

    >>> device_of(0), device_of("1"), device_of("cpu")
    ('cuda:0', 'cuda:1', 'cpu')
    """
    is_number = isinstance(name, int) and not isinstance(name, bool) and name >= 0
    return f"cuda:{name}" if (is_number or (isinstance(name, str) and name.isdecimal())) else name


_ONCE = "visus.train(data, network, recipe) trains once; for other settings, train again."
_FOLDER = (
    "a run is saved in its folder already, and visus.load(folder) opens it again; visus.look(...).write(file) saves a page."
)
_LOAD = "write visus.load(folder)."
_TRAIN = 'write visus.train("photos"), with pretrained=True for ImageNet weights.'
_OPEN = 'write visus.open_data("photos").'
ATTRIBUTES: Final = {
    **dict.fromkeys(("fit", "fit_one_cycle", "train"), _ONCE),
    **dict.fromkeys(
        ("fine_tune", "finetune"),
        "visus.train(data, pretrained=True) fits the head and then fine-tunes.",
    ),
    **dict.fromkeys(
        ("lr_find", "lr_finder"),
        "the default learning rate follows from optimizer and batch size; visus.Recipe(learning_rate=...) sets it.",
    ),
    **dict.fromkeys(
        ("freeze", "unfreeze", "freeze_to"), 'write visus.Recipe(frozen="stage1, stage2.*") before the training.'
    ),
    **dict.fromkeys(("save", "save_model", "save_weights"), _FOLDER),
    "export": "a run is exported: visus.load(folder).export(path).",
    **dict.fromkeys(("validate", "val"), "write run.evaluate()."),
    **dict.fromkeys(
        ("get_preds", "predict_proba"), "write run.predict(files) for files, or run.answers() for the held-out split."
    ),
    **dict.fromkeys(
        ("show_results", "plot_top_losses", "top_losses"), "write run.mistakes(), which a notebook shows with images."
    ),
    **dict.fromkeys(
        ("plot_confusion_matrix", "confusion_matrix", "most_confused"),
        "write run.scores.confusion for the counts; run.report() draws them.",
    ),
    **dict.fromkeys(
        ("plot_losses", "plot_loss", "recorder"), 'write run.history["train_loss"]; run.report() draws the curves.'
    ),
    **dict.fromkeys(("info", "summary"), "write visus.summary(run.module, run.preprocessing.input_shape)."),
    "tune": "write visus.tune(data, network, time_limit='10m').",
    "add_callback": "give a function for events: visus.train(data, on_event=...), or loop over visus.Training.",
    "probs": "write .probabilities, in the order of .labels.",
    "history": 'write run.history["train_loss"] for a column; run.history.columns has the names.',
    "show_batch": "a notebook shows samples of data where a cell ends with it; visus.check(data) lists what is wrong with it.",
    "vocab": "write .classes.",
    **dict.fromkeys(
        ("cbs", "add_cb", "add_cbs"),
        "give on_event to visus.train, or loop over the events of visus.Training and answer them.",
    ),
    "tta": 'write visus.Recipe(tta="flip") before the training; run.predict uses it.',
}
"""Attributes of the models, learners and histories of other libraries, with what to write instead."""
NAMES: Final = {
    **dict.fromkeys(("vision_learner", "cnn_learner", "Learner", "YOLO", "fit", "fine_tune", "Trainer"), _TRAIN),
    **dict.fromkeys(("load_learner", "load_model"), _LOAD),
    **dict.fromkeys(("ImageDataLoaders", "DataBlock", "DataLoaders", "load_data"), _OPEN),
    **dict.fromkeys(
        ("Sequential", "Model"),
        'a network is a text, such as "conv(32, 3), relu, globalpool, linear(classes)", or a torch.nn.Module.',
    ),
    "MultiCategoryBlock": 'write visus.open_data(table, task="multi-label").',
    "RegressionBlock": 'write visus.open_data(table, task="regression").',
    "ClassificationInterpretation": "write run.mistakes(), run.scores.confusion or run.report().",
    **dict.fromkeys(("MixUp", "CutMix"), "write visus.Recipe(mixup=0.2) or visus.Recipe(cutmix=1.0)."),
    "SaveModelCallback": "the weights of the best epoch are always kept; visus.Recipe(select=...) names the metric.",
    "EarlyStoppingCallback": "write visus.Recipe(patience=5).",
    "aug_transforms": 'write visus.Recipe(flip="random", rotate=10, zoom=0.2, color=0.3).',
    "predict": "write visus.load(folder).predict(files).",
    "evaluate": "write visus.load(folder).evaluate().",
    "report": "write visus.load(folder).report().",
    "export": "write visus.load(folder).export(path).",
}
"""Names of the modules of other libraries, with what to write instead."""


def absent(owner: str, name: str, sentence: str) -> AttributeError:
    """The error for a name of another library.

    >>> absent("Data", "vocab", ATTRIBUTES["vocab"])
    AttributeError('Data has no vocab: write .classes. See the page Coming from fastai, Keras, Ultralytics in the documentation.')
    """
    page = "See the page Coming from fastai, Keras, Ultralytics in the documentation."
    return AttributeError(f"{owner} has no {name}: {sentence} {page}")

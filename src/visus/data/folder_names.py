"""What the name of a folder says: a split, a mere container of images, a date, a part of a set.

This file knows words.
"""

from __future__ import annotations

import re

from visus.data.source_rules import split_of

_SPLIT_WORDS = {
    "train": "train", "training": "train", "trn": "train", "trainval": "train", "entrainement": "train", "entrenamiento": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "validierung": "val", "validacion": "val",
    "test": "test", "testing": "test", "tst": "test", "prueba": "test", "pruebas": "test",
    "trainings": "train", "treino": "train", "treinamento": "train", "apprentissage": "train", "addestramento": "train",
    "validacao": "val", "validação": "val", "validación": "val", "validazione": "val", "validating": "val", "teste": "test", "testes": "test",
    "testdaten": "test", "trainingsdaten": "train", "validierungsdaten": "val",
    "训练集": "train", "训练": "train", "验证集": "val", "验证": "val", "测试集": "test", "测试": "test",
    "学習": "train", "検証": "val", "テスト": "test", "обучение": "train", "проверка": "val", "тест": "test",
}  # fmt: skip
_OPEN_WORDS = frozenset(["dev", "development", "eval", "evaluation", "holdout", "heldout"])
_CONTAINERS = frozenset(
    [
        "image",
        "images",
        "img",
        "imgs",
        "photo",
        "photos",
        "picture",
        "pictures",
        "pic",
        "pics",
        "data",
        "dataset",
        "datasets",
        "files",
        "raw",
        "original",
        "originals",
        "jpegimages",
        "pngimages",
    ]
)
_FILLERS = _CONTAINERS | frozenset(
    [
        "bilder",
        "daten",
        "sbilder",
        "sdaten",
        "jpeg",
        "jpg",
        "png",
        "set",
        "sets",
        "split",
        "splits",
        "folder",
        "folders",
        "dir",
        "samples",
        "sample",
        "class",
        "classes",
        "crops",
        "seg",
        "cls",
    ]
)
_PROJECT = frozenset(
    [
        "doc",
        "docs",
        "documentation",
        "assets",
        "figures",
        "figs",
        "screenshots",
        "src",
        "scripts",
        "notebooks",
        "examples",
        "utils",
        "tests",
        "results",
        "outputs",
        "checkpoints",
        "logs",
    ]
)
_UNLABELED = frozenset(
    [
        "pred",
        "predict",
        "prediction",
        "predictions",
        "unlabeled",
        "unlabelled",
        "unsup",
        "unsupervised",
        "inference",
        "submission",
    ]
)
_PARTS = frozenset(
    [
        "part",
        "parts",
        "fold",
        "folds",
        "batch",
        "batches",
        "chunk",
        "shard",
        "split",
        "session",
        "sessions",
        "day",
        "run",
        "take",
        "patient",
        "subject",
        "person",
        "case",
        "volume",
        "vol",
        "section",
        "sequence",
        "seq",
        "scene",
        "video",
        "clip",
        "slide",
        "camera",
        "cam",
        "site",
        "center",
        "centre",
    ]
)
_FOLDS = frozenset(["part", "parts", "fold", "folds", "batch", "batches", "chunk", "shard", "split"])
_UNSURE_CLASSES = re.compile(
    r"not[ _-]?sure|un(sure|known|certain|clear|labell?ed|classified|defined|sorted|identified|tagged)|others?|misc(ellaneous)?|skip(ped)?|"
    r"trash|junk|discard(ed)?|deleted?|reject(s|ed)?|ignored?|todo|to[ _-]do|tbd|\?+|(can'?t|cannot)[ _-]?(tell|say)|no[ _-](idea|label|class)|"
    r"various|ambiguous|te?mp|new folder( \(\d+\))?",
    re.IGNORECASE,
)
_PLACEHOLDERS = re.compile(
    r"((image|img|photo|picture|pic|file|page)[ _-]?)?not[ _-]?(found|available)|(image|img|photo|picture|pic)[ _-]?(unavailable|missing|removed|deleted)|"
    r"(no|missing|default|dummy|placeholder|blank|empty)[ _-]?(image|img|photo|picture|pic|thumbnail|preview|avatar)([ _-]?(available|found))?|"
    r"(image|photo|picture)?[ _-]?placeholder|coming[ _-]?soon|spacer|404",
    re.IGNORECASE,
)
_EMPTY_CELLS = frozenset(["nan", "null", "none", "n/a", "#n/a", "<na>", "undefined", "nat"])
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words_of(name: str) -> list[str]:
    """The words and numbers of a name, in small letters.

    >>> words_of("seg_train"), words_of("TestSet2"), words_of("images_part_1")
    (['seg', 'train'], ['test', 'set', '2'], ['images', 'part', '1'])
    """
    return re.findall(r"[^\W\d_]+|\d+", _CAMEL.sub(" ", name).lower())


def split_meant(name: str) -> str | None:
    """The split that a name means with other words around it, or None: ``Training``, ``seg_test``, ``val2017``, ``train_images``.

    >>> split_meant("Training"), split_meant("seg_test"), split_meant("trainset"), split_meant("test_tubes"), split_meant("dev")
    ('train', 'test', 'train', None, None)
    """
    exact = split_of(name)
    if exact:
        return exact
    meant = set()
    for word in words_of(name):
        whole, rest = word, ""
        for split_word in sorted(_SPLIT_WORDS, key=len, reverse=True):
            if word.startswith(split_word):
                whole, rest = split_word, word[len(split_word) :]
                break
        if whole in _SPLIT_WORDS and (not rest or rest in _FILLERS):
            meant.add(_SPLIT_WORDS[whole])
        elif not (word in _FILLERS or word.isdecimal()):
            return None
    return meant.pop() if len(meant) == 1 else None


def rest_of(name: str) -> tuple[str, ...]:
    """The words of a name that say no split.

    >>> rest_of("flowers_train"), rest_of("flowers-test")
    (('flowers',), ('flowers',))
    """
    return tuple(word for word in words_of(name) if word not in _SPLIT_WORDS)


def splits_meant(names: list[str]) -> dict[str, str]:
    """Folders side by side that mean splits: by their words alone, or because they differ in a word for a split only.

    >>> splits_meant(["flowers_train", "flowers_test", "cats"])
    {'flowers_train': 'train', 'flowers_test': 'test'}
    """
    found = {name: split for name in names if (split := split_meant(name))}
    named = {name: [_SPLIT_WORDS[word] for word in words_of(name) if word in _SPLIT_WORDS] for name in names}
    for name, splits in named.items():
        others = [other for other in names if other != name and rest_of(other) == rest_of(name) and named[other]]
        if len(splits) == 1 and any(named[other] != splits for other in others):
            found.setdefault(name, splits[0])
    return {name: found[name] for name in names if name in found}


def split_hint(name: str) -> str:
    """What to do with a folder whose name could mean one of two splits; empty where it means none."""
    if not _OPEN_WORDS & set(words_of(name)):
        return ""
    return f" If {name!r} is for validation, rename it to 'val'; if for the final test, to 'test'."


def is_container(name: str) -> bool:
    """Whether a name says only that images lie inside: ``images``, ``data``, ``raw_photos``.

    >>> is_container("images"), is_container("cell_images"), is_container("cat")
    (True, False, False)
    """
    words = words_of(name)
    return bool(words) and all(word in _FILLERS or word.isdecimal() for word in words) and bool(_CONTAINERS & set(words))


def is_project_folder(name: str) -> bool:
    """Whether a folder is one that a repository has beside its data: ``docs``, ``src``, ``figures``."""
    words = words_of(name)
    return bool(words) and all(word in _PROJECT for word in words)


def is_unlabeled(name: str) -> bool:
    """Whether a folder is named as one whose images have no labels: ``seg_pred``, ``unlabeled``."""
    return bool(_UNLABELED & set(words_of(name)))


def is_part(name: str) -> bool:
    """Whether a folder is a numbered part of a set: ``images_part_1``, ``fold3``, ``batch-02``."""
    words = words_of(name)
    return bool(_FOLDS & {re.sub(r"\d+$", "", word) for word in words}) and any(char.isdecimal() for char in name)


def says_no_class(name: str) -> bool:
    """Whether a folder below a class is ordinary order and no class of its own: a date, a numbered part, a container.

    >>> [says_no_class(name) for name in ("2023", "2023-05-01", "2023_05 holiday", "patient_07", "images", "indoor", "tabby")]
    [True, True, True, True, True, False, False]
    """
    if re.match(r"(19|20)\d\d(\D|$|\d{4}(\D|$))", name) or re.fullmatch(r"\d{4,}", name):
        return True
    words = [re.sub(r"\d+$", "", word) for word in words_of(name)]
    words = [word for word in words if word]
    if any(char.isdecimal() for char in name) and words and all(word in _PARTS | _FILLERS for word in words):
        return True
    return is_container(name)


def is_unsure(name: str) -> bool:
    """Whether a class is named like what was left over when images were sorted: ``Not sure``, ``Other``, ``Skip``.

    >>> is_unsure("Not sure"), is_unsure("misc"), is_unsure("Otter")
    (True, True, False)
    """
    return _UNSURE_CLASSES.fullmatch(name.strip().strip("_-").strip()) is not None


def is_placeholder(stem: str) -> bool:
    """Whether a file is named as those that stand for an image that is not there; a number at the end does not matter.

    >>> is_placeholder("imageNotFound"), is_placeholder("no-photo_2"), is_placeholder("notfound_owl"), is_placeholder("4041")
    (True, True, False, False)
    """
    return bool(_PLACEHOLDERS.fullmatch(re.sub(r"(?<=[^\d])[ _-]?(\d{1,3}|\(\d{1,3}\))$", "", stem)))


def is_empty_word(name: str) -> bool:
    """Whether a class is named as programs write an empty cell: ``nan``, ``None``, ``N/A``."""
    return name.strip().lower() in _EMPTY_CELLS

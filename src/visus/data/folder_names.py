"""The meaning of folder names: a split, a container of images, a date, a part of a dataset."""

from __future__ import annotations

import re

from visus.data.source_rules import parse_split

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
_AMBIGUOUS_SPLIT_WORDS = frozenset(["dev", "development", "eval", "evaluation", "holdout", "heldout"])
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
    """The words and numbers of a name, in lower case.

    >>> words_of("seg_train"), words_of("TestSet2"), words_of("images_part_1")
    (['seg', 'train'], ['test', 'set', '2'], ['images', 'part', '1'])
    """
    return re.findall(r"[^\W\d_]+|\d+", _CAMEL.sub(" ", name).lower())


def guess_split(name: str) -> str | None:
    """The split that a name stands for, possibly among filler words: ``Training``, ``seg_test``, ``val2017``; None for no split.

    >>> guess_split("Training"), guess_split("seg_test"), guess_split("trainset"), guess_split("test_tubes"), guess_split("dev")
    ('train', 'test', 'train', None, None)
    """
    exact = parse_split(name)
    if exact:
        return exact
    splits = set()
    for word in words_of(name):
        stem, ending = word, ""
        for split_word in sorted(_SPLIT_WORDS, key=len, reverse=True):
            if word.startswith(split_word):
                stem, ending = split_word, word[len(split_word) :]
                break
        if stem in _SPLIT_WORDS and (not ending or ending in _FILLERS):
            splits.add(_SPLIT_WORDS[stem])
        elif not (word in _FILLERS or word.isdecimal()):
            return None
    return splits.pop() if len(splits) == 1 else None


def words_without_split(name: str) -> tuple[str, ...]:
    """The words of a name without those that name a split.

    >>> words_without_split("flowers_train"), words_without_split("flowers-test")
    (('flowers',), ('flowers',))
    """
    return tuple(word for word in words_of(name) if word not in _SPLIT_WORDS)


def guess_splits(names: list[str]) -> dict[str, str]:
    """Sibling folder -> split: by its own name, or because it differs from a sibling only in a split word.

    >>> guess_splits(["flowers_train", "flowers_test", "cats"])
    {'flowers_train': 'train', 'flowers_test': 'test'}
    """
    found = {name: split for name in names if (split := guess_split(name))}
    splits_in = {name: [_SPLIT_WORDS[word] for word in words_of(name) if word in _SPLIT_WORDS] for name in names}
    for name, splits in splits_in.items():
        others = [
            other
            for other in names
            if other != name and words_without_split(other) == words_without_split(name) and splits_in[other]
        ]
        if len(splits) == 1 and any(splits_in[other] != splits for other in others):
            found.setdefault(name, splits[0])
    return {name: found[name] for name in names if name in found}


def split_hint(name: str) -> str:
    """Advice for a folder whose name could mean validation or test, such as ``dev``; "" for any other name."""
    if not _AMBIGUOUS_SPLIT_WORDS & set(words_of(name)):
        return ""
    return f" If {name!r} is for validation, rename it to 'val'; if for the final test, to 'test'."


def is_container(name: str) -> bool:
    """Whether a name only says that a folder holds images: ``images``, ``data``, ``raw_photos``.

    >>> is_container("images"), is_container("cell_images"), is_container("cat")
    (True, False, False)
    """
    words = words_of(name)
    return bool(words) and all(word in _FILLERS or word.isdecimal() for word in words) and bool(_CONTAINERS & set(words))


def is_project_folder(name: str) -> bool:
    """Whether a name is that of a project folder in a code repository: ``docs``, ``src``, ``figures``."""
    words = words_of(name)
    return bool(words) and all(word in _PROJECT for word in words)


def is_unlabeled(name: str) -> bool:
    """Whether a name says that images have no labels: ``seg_pred``, ``unlabeled``."""
    return bool(_UNLABELED & set(words_of(name)))


def is_numbered_part(name: str) -> bool:
    """Whether a name is that of a numbered part of a dataset: ``images_part_1``, ``fold3``, ``batch-02``."""
    words = words_of(name)
    return bool(_FOLDS & {re.sub(r"\d+$", "", word) for word in words}) and any(char.isdecimal() for char in name)


def is_grouping_folder(name: str) -> bool:
    """Whether a folder below a class only groups its images and is not a class itself: a date, a numbered part, a container.

    >>> [is_grouping_folder(name) for name in ("2023", "2023-05-01", "2023_05 holiday", "patient_07", "images", "indoor", "tabby")]
    [True, True, True, True, True, False, False]
    """
    if re.match(r"(19|20)\d\d(\D|$|\d{4}(\D|$))", name) or re.fullmatch(r"\d{4,}", name):
        return True
    words = [re.sub(r"\d+$", "", word) for word in words_of(name)]
    words = [word for word in words if word]
    if any(char.isdecimal() for char in name) and words and all(word in _PARTS | _FILLERS for word in words):
        return True
    return is_container(name)


def is_leftover_class(name: str) -> bool:
    """Whether a class name may stand for unsorted images: ``Not sure``, ``Other``, ``Skip``.

    >>> is_leftover_class("Not sure"), is_leftover_class("misc"), is_leftover_class("Otter")
    (True, True, False)
    """
    return _UNSURE_CLASSES.fullmatch(name.strip().strip("_-").strip()) is not None


def is_placeholder(stem: str) -> bool:
    """Whether a file name is that of a placeholder for a missing image. A number at the end is ignored.

    >>> is_placeholder("imageNotFound"), is_placeholder("no-photo_2"), is_placeholder("notfound_owl"), is_placeholder("4041")
    (True, True, False, False)
    """
    return bool(_PLACEHOLDERS.fullmatch(re.sub(r"(?<=[^\d])[ _-]?(\d{1,3}|\(\d{1,3}\))$", "", stem)))


def is_empty_value(name: str) -> bool:
    """Whether a class name is a word that programs write for an empty cell: ``nan``, ``None``, ``N/A``."""
    return name.strip().lower() in _EMPTY_CELLS

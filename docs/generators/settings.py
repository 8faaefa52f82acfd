"""``reference/settings.md``: the settings of a training, from the fields of ``Recipe``."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

from visus.cli.settings import option_of
from visus.training.recipe import FIELDS, Recipe

from .markdown import escape, sentence

_TYPES = get_type_hints(Recipe)
_WORDS = {int: "whole number", float: "number", str: "word or text", bool: "true or false"}


def pages() -> dict[str, str]:
    """The page of settings."""
    groups: dict[str, list[str]] = {}
    for name, field in FIELDS.items():
        groups.setdefault(field.metadata["group"], []).append(name)
    sections = "\n\n".join(
        f"## {group}\n\n" + "\n\n".join(_setting(name) for name in names) for group, names in groups.items()
    )
    text = f"""# Settings

Each setting of a training has a name, and each is set in four ways:

- by its option: `visus train photos --weight-decay 0.01`;
- by its name with `--set`: `visus train photos --set weight_decay=0.01`;
- by a file of settings: `visus train photos --recipe recipe.yaml`, such as the `recipe.yaml` of an earlier run;
- in Python: `visus.train("photos", recipe=visus.Recipe(weight_decay=0.01))`.

A setting without a value is decided when the training starts: from the data, the network and the starting weights. The `recipe.yaml` of the run
holds every decision with its reason. visus uses a setting or refuses it, and never ignores it.

{sections}
"""
    return {"reference/settings.md": text}


def _setting(name: str) -> str:
    """The section of one setting."""
    facts = FIELDS[name].metadata
    meaning, default = meaning_and_default(facts["describe"])
    words = f"{meaning}." if meaning.split()[0] in facts["known"] else sentence(meaning)
    value = FIELDS[name].default
    option = option_of(name)
    lines = [
        ("option", ", ".join(f"`{each}`" for each in (option, facts["short"]) if each)),
        ("type", _type(name)),
        ("default", escape(default) if value is None else f"`{value}`"),
    ]
    listed = "\n".join(f"- **{label}**: {text}" for label, text in lines if text)
    return f"### {name} {{ #{name} }}\n\n{escape(words)}\n\n{listed}"


def meaning_and_default(describe: str) -> tuple[str, str]:
    """The meaning of a setting, and what decides its default.

    >>> meaning_and_default("samples per step; default: from the number of samples")
    ('samples per step', 'from the number of samples')
    >>> meaning_and_default("side of the box; default for few samples: 0.4; else 0")
    ('side of the box', 'for few samples: 0.4; else 0')
    """
    meaning, mark, default = describe.partition("; default")
    return meaning, default.removeprefix(":").strip() if mark else ""


def _type(name: str) -> str:
    """Type and range of a setting, in words."""
    facts: Any = FIELDS[name].metadata
    if facts["known"]:
        return "one of " + ", ".join(f"`{word}`" for word in facts["known"])
    kind = next(each for each in get_args(_TYPES[name]) or (_TYPES[name],) if each is not type(None))
    low, high = facts["low"], facts["high"]
    if low is not None and high is not None:
        return f"{_WORDS[kind]} from {low:g} to {high:g}" if high < 1e6 else f"{_WORDS[kind]} from {low:g} to {high}"
    return f"{_WORDS[kind]}, at least {low:g}" if low is not None else _WORDS[kind]

"""YAML text, of recipes and of spaces that are searched."""

from __future__ import annotations

from typing import Any

import yaml


def read_yaml(text: str) -> Any:
    """What YAML text says, as plain values: by libyaml where PyYAML has it, which is faster.

    Raises:
        ValueError: this is not YAML. The message says why, in the words of PyYAML itself.

    >>> read_yaml("epochs: 3")
    {'epochs': 3}
    """
    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(" ".join(str(error).split())) from error

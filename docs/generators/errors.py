"""``reference/errors.md``: the error classes, from ``visus.errors``."""

from __future__ import annotations

import inspect

import visus.errors
from visus.errors import VisusError

from .markdown import summary_of

REMEDIES = {
    "VisusError": "Catch it to catch every error of visus.",
    "UsageError": "Correct the option, name or value that the message names. The message lists the known names, and the closest one.",
    "GeometryError": "Change kernel, padding or stride. The message contains the sum, and by how many pixels the window is too large.",
    "DesignError": "Correct the design where the message points. `visus summary` prints the layers up to the one that fails.",
    "RecipeError": "Correct the setting. The message names its range or its known words; several mistakes are reported together.",
    "DataError": "Run `visus check` on the data. The message names the files or columns, and often the option that helps.",
    "ImageError": "Replace or remove the file. In a training, unreadable files are skipped and counted, up to `--max-unreadable`.",
    "RunError": "Check the path. The message names the newest runs near it.",
    "WeightsError": "Use the weights with the network that they belong to. The message names the tensors that differ.",
    "BundleError": "Copy the bundle again, or export the run again. The message names the file that was added, removed or changed.",
    "ParityError": "Do not use the bundle on this machine. The message names the file, the layer or the step where the difference begins.",
    "TrainingError": "Follow the message, for example with a lower `--lr`. Then continue from the last checkpoint with `--resume`.",
    "ProcessLostError": "Start the training with `torchrun --max-restarts`, or continue it with `visus train --resume`.",
    "StorageError": "Make room (`visus cache --empty`), or name another folder with `--output` or `--cache-dir`.",
    "CanceledError": "Nothing to correct: the work was canceled. What was finished is kept.",
    "MissingExtraError": "Install the extra with the command in the message.",
}
"""What a person does after each error."""


def error_classes() -> dict[str, type[VisusError]]:
    """The classes of the family by name, each below its parent."""
    kinds = [kind for _, kind in inspect.getmembers(visus.errors, inspect.isclass) if issubclass(kind, VisusError)]
    order = list(vars(visus.errors))
    return {kind.__name__: kind for kind in sorted(kinds, key=lambda kind: order.index(kind.__name__))}


def exit_codes() -> dict[int, list[str]]:
    """The names of the error classes by exit code."""
    found: dict[int, list[str]] = {}
    for name, kind in error_classes().items():
        if kind is not VisusError:
            found.setdefault(kind.exit_code, []).append(name)
    return found


def pages() -> dict[str, str]:
    """The page of errors.

    Raises:
        ValueError: a class has no remedy here.
    """
    classes = error_classes()
    if missing := [name for name in classes if name not in REMEDIES]:
        raise ValueError(
            f"{missing[0]} has no line in REMEDIES of docs/generators/errors.py. Add what a person does after it."
        )
    tree = "\n".join(_tree_lines(VisusError, "", ""))
    sections = "\n\n".join(
        f"[](){{ #{kind.__module__}.{name} }}\n\n### {name}\n\n{summary_of(inspect.getdoc(kind) or '')} Exit code {kind.exit_code}.\n\n{REMEDIES[name]}"
        for name, kind in classes.items()
    )
    text = f"""# Errors

Every error that a person can cause is a `VisusError`. Its message names the place, what was found, what is needed and what to do.
The command line prints the message in one line on stderr, and ends with the exit code of the class. Python raises the class itself:

```python
import visus

try:
    data = visus.open_data("no-such-folder")
except visus.VisusError as error:
    print(error)
```

`error.message` is the text without the place, and `error.where` is the place, such as a file or the path of a layer. The other classes
are imported from `visus.errors`.

## The tree

```text
{tree}
```

## Each class

{sections}
"""
    return {"reference/errors.md": text}


def _tree_lines(kind: type[VisusError], lead: str, below: str) -> list[str]:
    """The class and those below it, drawn as a tree."""
    children = [each for each in error_classes().values() if each.__base__ is kind]
    lines = [f"{lead}{kind.__name__}"]
    for number, child in enumerate(children):
        is_last = number == len(children) - 1
        lines += _tree_lines(child, below + ("`-- " if is_last else "|-- "), below + ("    " if is_last else "|   "))
    return lines

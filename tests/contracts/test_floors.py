"""The floors: imports go down only, and ARCHITECTURE.md says what the code does."""

from __future__ import annotations

import ast
import re
import sys
from typing import Any

Tree = Any  # the fixture of conftest.py

# The floor table. ARCHITECTURE.md draws the same one, and a test compares the two.
GROUND = (
    "errors",
    "caller",
    "units",
    "files",
    "limits",
    "timing",
    "progress",
    "other_libraries",
    "tables",
    "own_callables",
)  # each may import those before it
FLOORS = (
    set(GROUND),
    {"geometry"},
    {"design"},
    {"networks", "data"},
    {"evaluation"},
    {"training", "examine", "ship"},
    {"pages"},
    {"workbench"},
    {"server", "cli"},
)
DOORS = ("server", "cli")  # as on the ground: the second may import the first
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
TOP = len(FLOORS)
ABOVE = {
    "visus",
    "__main__",
    "events",
    "experiment",
}  # `visus`, `python -m visus`, `visus.events`, ...: no room may open them


def room_of(module: str) -> str:
    """The room that a module lies in: ``visus.data.store`` lies in ``data``, ``visus`` in itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] not in ABOVE else "visus"


def imports_of(module: str, tree: Tree) -> list[tuple[int, str]]:
    """(line, module) of everything that ``module`` imports: inside functions and under TYPE_CHECKING too."""
    found: list[tuple[int, str]] = []
    is_package = tree.sources[module].name == "__init__.py"
    for node in ast.walk(tree.parsed[module]):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = module.split(".")
            start = start[: len(start) - node.level + is_package] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            # The version is a plain fact that the top states before anything else: any room may read it.
            for alias in node.names:
                if (source, alias.name) == ("visus", "__version__"):
                    continue
                inner = f"{source}.{alias.name}"
                found.append((node.lineno, inner if inner in tree.sources else source))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "import_module",
            "importlib.import_module",
            "__import__",
        }:
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.append((node.lineno, first.value))
    return found


def test_imports_go_down_only(tree: Tree) -> None:
    wrong = []
    for module, path in tree.sources.items():
        here = room_of(module)
        for line, target in imports_of(module, tree):
            there = room_of(target)
            if not target.startswith("visus.") and target != "visus":
                continue
            if here == there or FLOOR_OF.get(there, TOP) < FLOOR_OF.get(here, TOP):
                continue
            if any(here in rooms and there in rooms[: rooms.index(here)] for rooms in (GROUND, DOORS)):
                continue
            wrong.append(f"{path.relative_to(tree.root)}:{line}: {here} imports {there}, which is not on a floor below it")
    assert not wrong, "\n".join(wrong)


def test_no_import_cycle(tree: Tree) -> None:
    below = {module: {target for _, target in imports_of(module, tree)} & set(tree.sources) for module in tree.sources}
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"import cycle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for target in sorted(below[module]):
                walk(target, (*path, module))
            done.add(module)

    for module in below:
        walk(module, ())


def test_every_room_has_its_floor(tree: Tree) -> None:
    rooms = {room_of(module) for module in tree.sources} - {"visus"}
    assert rooms == set(FLOOR_OF)


def test_architecture_draws_these_floors(tree: Tree) -> None:
    drawn = {int(row[0]): set(re.findall(r"`(\w+)`", row[1])) for row in tree.table("ARCHITECTURE.md", "Floors")}
    assert drawn == dict(enumerate(FLOORS))


def test_architecture_describes_every_room(tree: Tree) -> None:
    described = [re.findall(r"`(\w+)`", row[0]) for row in tree.table("ARCHITECTURE.md", "Rooms")]
    assert [len(names) for names in described] == [1] * len(described), "the Rooms table names one room in each row"
    assert sorted(name for names in described for name in names) == sorted(FLOOR_OF)


def test_architecture_names_only_modules_that_exist(tree: Tree) -> None:
    rooms = "|".join(FLOOR_OF)
    named = re.findall(rf"`(?:visus\.)?((?:{rooms})(?:\.[a-z_]+)+)`", tree.document("ARCHITECTURE.md"))
    missing = sorted({name for name in named if not exists(f"visus.{name}", tree)})
    assert not missing, f"ARCHITECTURE.md names what does not exist: {', '.join(missing)}"


def exists(name: str, tree: Tree) -> bool:
    """Whether a dotted name is a module, or a name that its module defines or imports."""
    if name in tree.sources:
        return True
    module, _, last = name.rpartition(".")
    if module not in tree.sources:
        return False
    defined = re.compile(rf"^\s*(?:def|class) {last}\b|^{last}\b\s*[:=]|^from .* import .*\b{last}\b", re.M)
    return bool(defined.search(tree.sources[module].read_text("utf-8")))


def outside_packages(module: str, tree: Tree) -> set[str]:
    """The packages that a module imports and that are neither visus nor the standard library."""
    names = {target.split(".")[0] for _, target in imports_of(module, tree)}
    return names - set(sys.stdlib_module_names) - {"visus"}


def test_rooms_use_the_outside_packages_that_architecture_names(tree: Tree) -> None:
    allowed = {
        re.findall(r"`(\w+)`", row[0])[0]: set(re.findall(r"`(\w+)`", row[3]))
        for row in tree.table("ARCHITECTURE.md", "Rooms")
    }
    used: dict[str, set[str]] = {room: set() for room in FLOOR_OF}
    for module in tree.sources:
        used.setdefault(room_of(module), set()).update(outside_packages(module, tree))
    assert not used.pop("visus", set()), "visus itself imports an outside package"
    assert used == allowed


def test_the_ground_floors_need_the_standard_library_only(tree: Tree) -> None:
    heavy = {}
    for module in tree.sources:
        if FLOOR_OF.get(room_of(module), TOP) <= FLOOR_OF["design"] and (names := outside_packages(module, tree)):
            heavy[module] = names
    assert heavy == {}

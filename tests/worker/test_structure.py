"""The direction of the imports in `worker/`: downwards between rooms, and never in a circle."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: From the top down. A room imports from lower floors and from itself only.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"supervisor"},
    {"http", "doctor"},
    {"webhooks"},
    {"generation", "sizing"},
    {"clients"},
    {"settings"},
    {"health", "memory", "metrics", "photos"},
    {"errors", "image_models", "logs", "prompts"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "worker").rglob("*.py")
}


@cache
def imports(module: str) -> frozenset[str]:
    return frozenset(_imports(module))


def _imports(module: str) -> Iterator[str]:
    """Modules of the worker that this one imports anywhere: at the top, in a function, for types only."""
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name in FILES)
        elif isinstance(node, ast.ImportFrom) and node.module in FILES:
            inner = [f"{node.module}.{name.name}" for name in node.names]
            yield from (name if name in FILES else node.module for name in inner)


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({module: imports(module) for module in FILES}).prepare()


def test_no_rooms_import_each_other_in_a_circle() -> None:
    """Rooms of `worker/` and those inside of `generation`; a module beside rooms is one of its own."""
    rooms = {module: ".".join(module.split(".")[:3]) for module in FILES if module.count(".") > 1}
    arrows: dict[str, set[str]] = {}
    for module, room in rooms.items():
        arrows.setdefault(room, set()).update({rooms[other] for other in imports(module) if other in rooms} - {room})
    TopologicalSorter(arrows).prepare()


def test_no_room_imports_from_a_floor_above() -> None:
    assert {module.split(".")[1] for module in FILES.keys() - {"worker"}} == FLOOR.keys(), "a room has no floor"
    wrong = []
    for module in FILES.keys() - {"worker"}:
        room = module.split(".")[1]
        for imported in imports(module) - {"worker"}:
            other = imported.split(".")[1]
            if other != room and FLOOR[other] <= FLOOR[room]:
                wrong.append(f"{module} imports {imported}")
    assert wrong == []

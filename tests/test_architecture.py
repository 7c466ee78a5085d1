"""Rooms are stages, and imports go one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pneumo_keras

PACKAGE = Path(pneumo_keras.__file__).parent
# What each room may import, beside itself.
FOUNDATION = {
    *("archives", "arrays", "backend", "chunked", "company", "documents", "doors", "errors", "files"),
    *(
        "code_fingerprint",
        "hold",
        "kept",
        "links",
        "invocation",
        "meeting",
        "notes",
        "npy",
        "ordinary_files",
        "place",
        "prefetch",
        "printable",
        "progress",
        "seeds",
        "stopping",
        "supervision",
        "turns",
    ),
}
STAGES = ["data", "model", "engines", "features", "training"]
ALLOWED = {
    **{room: FOUNDATION for room in FOUNDATION},
    **{room: FOUNDATION | set(STAGES[:place]) for place, room in enumerate(STAGES)},
    "evaluation": FOUNDATION,
    "cluster": FOUNDATION,
}
CONFIG = FOUNDATION | {*STAGES, "evaluation"}
ALLOWED |= {
    "config": CONFIG,
    "grid": {*CONFIG, "config"},
    "audit": {*FOUNDATION, "data", "evaluation"},
    "bench": FOUNDATION | {"data", "model", "engines", "features"},
    "exports": FOUNDATION | {"data", "model", "engines", "evaluation"},
    "runs": {*FOUNDATION, "data", "evaluation", "config"},
    "reporting": {*FOUNDATION, "data", "evaluation", "audit", "bench", "runs"},
}
ALLOWED["recipes"] = {*CONFIG, *ALLOWED}
ALLOWED["app"] = {*ALLOWED}
ALLOWED["cli"] = {*ALLOWED}
ALLOWED["__main__"] = {"cli", "invocation", "stopping", "supervision"}


def list_rooms():
    return sorted({path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")})


def list_imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "pneumo_keras" and len(parts) > 1 and parts[1] in list_rooms():
                yield parts[1]


def test_every_room_has_its_place():
    assert set(list_rooms()) == {*ALLOWED, "__init__"}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_go_one_way(room):
    paths = [*(PACKAGE / room).rglob("*.py"), *PACKAGE.glob(f"{room}.py")]
    imported = {(path.name, other) for path in paths for other in list_imported_rooms(path) if other != room}
    assert sorted(pair for pair in imported if pair[1] not in ALLOWED[room]) == []


def test_evaluation_never_imports_training_or_keras():
    code = (
        "import sys, pkgutil, importlib, pneumo_keras.evaluation as e\n"
        "for m in pkgutil.walk_packages(e.__path__, e.__name__ + '.'): importlib.import_module(m.name)\n"
        "print(sorted({'keras', 'jax', 'pneumo_keras.training', 'pneumo_keras.model'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_settings_objects_stay_above_recipes():
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "config" in set(list_imported_rooms(path))
    }
    below = {user for user in users if not user.startswith(("recipes/", "cli/", "config/"))}
    assert below <= {"grid.py", "runs/folder.py", "runs/finished.py", "runs/unfinished.py"}

"""Packages are stages, and imports go one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pneumo_keras

PACKAGE = Path(pneumo_keras.__file__).parent
# What each package may import, beside itself.
FOUNDATION = {"arrays", "errors", "runtime", "storage", "distributed"}
STAGES = ["data", "model", "engines", "features", "training"]
ALLOWED = {
    **{package: FOUNDATION for package in FOUNDATION},
    **{package: FOUNDATION | set(STAGES[:place]) for place, package in enumerate(STAGES)},
    "evaluation": FOUNDATION,
    "cluster": FOUNDATION,
}
CONFIG = FOUNDATION | {*STAGES, "evaluation"}
ALLOWED |= {
    "config": CONFIG,
    "audit": {*FOUNDATION, "data", "evaluation"},
    "bench": FOUNDATION | {"data", "model", "engines", "features"},
    "exports": FOUNDATION | {"data", "model", "engines", "evaluation"},
    "runs": {*FOUNDATION, "data", "model", "features", "evaluation", "config"},
    "reporting": {*FOUNDATION, "data", "evaluation", "audit", "bench", "runs"},
}
ALLOWED["recipes"] = {*CONFIG, *ALLOWED}
ALLOWED["app"] = {*ALLOWED}
ALLOWED["cli"] = {*ALLOWED}
ALLOWED["__main__"] = {"cli", "runtime", "distributed"}


def list_packages():
    return sorted({path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")})


def list_imported_packages(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "pneumo_keras" and len(parts) > 1 and parts[1] in list_packages():
                yield parts[1]


def test_every_package_is_listed():
    assert set(list_packages()) == {*ALLOWED, "__init__"}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_go_one_way(package):
    paths = [*(PACKAGE / package).rglob("*.py"), *PACKAGE.glob(f"{package}.py")]
    imported = {
        (path.name, other) for path in paths for other in list_imported_packages(path) if other != package
    }
    assert sorted(pair for pair in imported if pair[1] not in ALLOWED[package]) == []


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
        if "config" in set(list_imported_packages(path))
    }
    below = {user for user in users if not user.startswith(("recipes/", "cli/", "config/"))}
    assert below <= {"runs/folder.py", "runs/run.py", "runs/unfinished.py"}

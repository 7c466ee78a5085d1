"""Packages are stages, and imports go one way."""

import ast
import graphlib
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
    **{package: FOUNDATION | set(STAGES[:number]) for number, package in enumerate(STAGES)},
    "evaluation": FOUNDATION,
    "cluster": FOUNDATION,
}
CONFIG = FOUNDATION | {*STAGES, "evaluation"}
ALLOWED |= {
    "config": CONFIG,
    "audit": {*FOUNDATION, "data", "evaluation"},
    "bench": FOUNDATION | {"data", "model", "engines", "features"},
    "exports": FOUNDATION | {"data", "model", "engines", "evaluation", "runs"},
    "runs": {*FOUNDATION, "data", "model", "features", "evaluation", "config"},
    "reporting": {*FOUNDATION, "data", "evaluation", "audit", "bench", "runs"},
}
ALLOWED["recipes"] = {*CONFIG, *ALLOWED}
ALLOWED["app"] = {*ALLOWED}
ALLOWED["cli"] = {*ALLOWED}
ALLOWED["__main__"] = {"cli", "runtime", "distributed"}
ALLOWED["api"] = {*ALLOWED} - {"__main__"}
ROOT = {"__init__", "__main__", "api", "arrays", "errors"}


def name_module(path):
    parts = ("pneumo_keras", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_module(path): path for path in PACKAGE.rglob("*.py")}


def list_imports(module):
    """Modules of the package that a module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name for name in names if name in MODULES)


IMPORTS = {module: {*list_imports(module)} - {module} for module in MODULES}
# The package offers the names of its Python interface, and imports them when they are first used.
IMPORTS["pneumo_keras"] -= {"pneumo_keras.api"}


def to_package(module):
    return module.split(".")[1] if "." in module else "__init__"


def test_every_package_is_listed_and_the_root_holds_few_modules():
    assert {to_package(module) for module in MODULES} == {*ALLOWED, "__init__"}
    assert {path.stem for path in PACKAGE.glob("*.py")} == ROOT


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_go_one_way(package):
    imported = {
        (module, to_package(other))
        for module, others in IMPORTS.items()
        if to_package(module) == package
        for other in others
    }
    allowed = {package, "__init__", *ALLOWED[package]}
    assert sorted(pair for pair in imported if pair[1] not in allowed) == []


def test_no_module_imports_itself_by_way_of_others():
    graphlib.TopologicalSorter(IMPORTS).prepare()


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
        module for module, others in IMPORTS.items() if any(to_package(one) == "config" for one in others)
    }
    below = {user for user in users if to_package(user) not in ("recipes", "cli", "config", "runs", "api")}
    assert below == set()

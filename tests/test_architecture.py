import ast
import subprocess
import sys
from pathlib import Path

import pneumo_keras

PACKAGE = Path(pneumo_keras.__file__).parent
ORDER = [
    {"errors", "arrays", "progress", "files", "seeds", "config", "grid", "backend"},
    {"data"},
    {"model"},
    {"training"},
    {"evaluation"},
    {"reporting"},
    {"recipes"},
    {"cli", "__main__"},
]


def find_rank(part):
    return next(rank for rank, parts in enumerate(ORDER) if part in parts)


def list_imported_parts(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if (
                parts[0] == "pneumo_keras"
                and len(parts) > 1
                and (PACKAGE / parts[1]).with_suffix("").exists()
            ) or (parts[0] == "pneumo_keras" and len(parts) > 1 and (PACKAGE / f"{parts[1]}.py").exists()):
                yield parts[1]


def test_imports_go_one_way():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for imported in list_imported_parts(path):
            if find_rank(imported) > find_rank(part):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {imported}")
    assert wrong == []


def test_evaluation_never_imports_training_or_keras():
    code = (
        "import sys, pkgutil, importlib, pneumo_keras.evaluation as e\n"
        "for m in pkgutil.walk_packages(e.__path__, e.__name__ + '.'): importlib.import_module(m.name)\n"
        "print(sorted({'keras', 'jax', 'pneumo_keras.training', 'pneumo_keras.model'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_settings_objects_stay_above_recipes():
    allowed = {"config.py", "grid.py", "cli.py", "reporting/run_folder.py"}
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "config" in set(list_imported_parts(path))
    }
    assert {user for user in users if not user.startswith("recipes/")} <= allowed

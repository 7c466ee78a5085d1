"""What the modules of the package import of each other."""

import ast

from pneumo_keras.runtime.code_fingerprint import PACKAGE


def find(name):
    """The file of a module, named below the package."""
    return PACKAGE / f"{name.replace('.', '/')}.py"


def list_imports(name):
    """Modules of the package that one of them imports, anywhere in it."""
    for node in ast.walk(ast.parse(find(name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pneumo_keras":
            base = node.module.removeprefix("pneumo_keras").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix(".")
                yield inner if find(inner).is_file() else base


def find_used(names, others):
    """Modules, and all that they use but through others."""
    used, left = set(), list(names)
    while left:
        name = left.pop()
        if find(name).is_file() and name not in used | others:
            used.add(name)
            left += list_imports(name)
    return used

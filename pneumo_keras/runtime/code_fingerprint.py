"""A fingerprint of code, for the addresses of what it computes: other code has other results."""

import functools
import hashlib
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# Python's parser would take 20 times as long; a test compares the results.
DOCSTRING = re.compile(r'^[ \t]*r?""".*?"""[ \t]*$', re.MULTILINE | re.DOTALL)


@functools.cache
def fingerprint_code(modules: tuple[str, ...]) -> str:
    """SHA-256 of what modules of this package do, as 16 hexadecimal digits.

    The same on every machine and version of Python. Docstrings, lines of comments and line ends do not
    count: what was computed stays valid when they change.

    Args:
        modules: Dotted names below the package.
    """
    digest = hashlib.sha256()
    for name in modules:
        source = (PACKAGE / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
        digest.update(f"{name}\n{remove_words(source)}\n".encode())
    return digest.hexdigest()[:16]


def remove_words(source: str) -> str:
    """The source of a module without docstrings, lines of comments and empty lines."""
    lines = DOCSTRING.sub("", source).splitlines()
    return "\n".join(line.rstrip() for line in lines if line.strip() and not line.lstrip().startswith("#"))

"""The pages of the Python interface, built by the command that docs/python.md names."""

import html
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pneumo_keras

ROOT = Path(__file__).parents[2]


def read_page(path):
    """The text of a page of HTML, without marks of code."""
    text = html.unescape(re.sub(r"<(style|script).*?</\1>|<[^>]*>", "", path.read_text(), flags=re.DOTALL))
    return " ".join(text.split())


def list_public(value):
    """A class or function, and what users take from a class."""
    yield value
    for name, member in vars(value).items() if inspect.isclass(value) else ():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            yield member


def test_the_pages_have_every_public_name_and_no_part_fails(tmp_path):
    line = re.search(r"^uv run --group dev pdoc (.*)$", (ROOT / "docs/python.md").read_text(), re.MULTILINE)
    arguments = [str(tmp_path) if word == "reference" else word for word in line[1].split()]
    command = [sys.executable, "-W", "error", "-m", "pdoc", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pages = " ".join(read_page(path) for path in (tmp_path / "pneumo_keras").glob("*.html"))
    for name in set(pneumo_keras.__all__) - {"__version__"}:
        assert name in pages
        for value in list_public(getattr(pneumo_keras, name)):
            first = inspect.getdoc(value).partition("\n")[0].replace("`", "")
            assert first in pages, (name, value)

import ast
import shutil

import pytest

from pneumo_keras.features.extract import COMPUTING
from pneumo_keras.runtime import code_fingerprint
from pneumo_keras.runtime.code_fingerprint import fingerprint_code, remove_words

SOURCE = '''"""What it is for."""

FACTOR = 2
"""Of everything."""


class Scale:
    """Words.

    More of them.
    """

    # A reason.
    def run(self, value):
        """Words."""
        return FACTOR * value, "# text"
'''
PLAIN = 'FACTOR = 2\nclass Scale:\n    def run(self, value):\n        return FACTOR * value, "# text"'


def remove_words_by_grammar(source):
    lines = dict(enumerate(source.splitlines(), start=1))
    tree = ast.parse(source)
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr)]
    words = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and node.value in texts]
    inside = {line for text in texts for line in range(text.lineno, text.end_lineno + 1)}
    for line in lines:
        if line not in inside and (not lines[line].strip() or lines[line].lstrip().startswith("#")):
            words.append(ast.Constant("", lineno=line, end_lineno=line))
    for text in words:
        for line in range(text.lineno, text.end_lineno + 1):
            lines.pop(line, None)
    return "\n".join(line.rstrip() for line in lines.values())


@pytest.mark.parametrize("module", COMPUTING)
def test_words_of_a_module_are_those_of_pythons_grammar(module):
    source = (code_fingerprint.PACKAGE / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert remove_words(source) == remove_words_by_grammar(source)


def test_words_are_no_part_of_the_code():
    assert remove_words(SOURCE) == remove_words_by_grammar(SOURCE) == PLAIN
    assert remove_words(SOURCE.replace("Words", "Other words").replace("reason", "cause")) == PLAIN


@pytest.fixture
def package(tmp_path, monkeypatch):
    shutil.copytree(code_fingerprint.PACKAGE / "features", tmp_path / "features")
    monkeypatch.setattr(code_fingerprint, "PACKAGE", tmp_path)
    return tmp_path / "features"


def fingerprint():
    fingerprint_code.cache_clear()
    return fingerprint_code(("features.augmentation", "features.views"))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda text: text.replace("** 0.5", "** 0.25"), False),
        (lambda text: f"{text}FACTOR = 2\n", False),
        (lambda text: text.replace("Draws what", "Says what"), True),
        (lambda text: text.replace("# Pillow maps", "# It maps"), True),
        (lambda text: text.replace("\n", "\r\n"), True),
        (lambda text: text.replace("\n\n", "\n\n\n"), True),
    ],
    ids=["factor", "line", "docstring", "comment", "line ends", "empty lines"],
)
def test_another_code_has_another_fingerprint(package, change, same):
    before, text = fingerprint(), (package / "augmentation.py").read_text(encoding="utf-8")
    assert change(text) != text
    (package / "augmentation.py").write_bytes(change(text).encode())
    assert (fingerprint() == before) is same


def test_the_name_of_a_module_counts(package):
    before = fingerprint()
    one, other = package / "augmentation.py", package / "views.py"
    texts = one.read_bytes(), other.read_bytes()
    one.write_bytes(texts[1])
    other.write_bytes(texts[0])
    assert fingerprint() != before

from pathlib import Path

from tests.scale.plan import list_head, list_rows

DOCS = Path(__file__).parents[2] / "docs"


def test_the_plan_in_the_docs_is_the_one_that_is_calculated():
    text = (DOCS / "scale.md").read_text(encoding="utf-8")
    for lines in (list_rows(), list_head()):
        assert "\n".join(lines) in text

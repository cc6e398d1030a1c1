"""The wording rules of docs/style.md that a machine can check, where operators and developers read."""

import re

import pytest

from tests.documents.test_links import DOCUMENTS
from tests.programs import ROOT

READ = [
    *sorted(path for path in ROOT.glob("roles/**/*") if path.suffix in {".yml", ".py", ".j2", ".md"}),
    *sorted(ROOT.glob("playbooks/**/*.yml")),
    *(ROOT / name for name in ("Makefile", "README.md", "docs/deploy.md", "docs/runbook.md")),
]

CODE = [path for folder in ("worker", "bridge", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("word", ["nobody", "somebody", "whoever"])
def test_roles_and_things_are_named(word: str) -> None:
    assert [str(path) for path in READ if re.search(rf"\b{word}\b", path.read_text(), re.I)] == []


@pytest.mark.parametrize("start", ["What", "Whether", "Who", "Whoever", "How"])
def test_no_docstring_or_description_starts_with_a_question_word(start: str) -> None:
    opening = re.compile(rf'("""|^\s*# |description: |short_description: ){start}\b', re.M)
    wrong = [str(path) for path in READ + CODE if path.suffix != ".md" and opening.search(path.read_text())]
    assert wrong + [str(path) for path in TESTS if f'"""{start} ' in path.read_text()] == []


def test_style_page_is_part_of_the_documents() -> None:
    assert "docs/style.md" in DOCUMENTS

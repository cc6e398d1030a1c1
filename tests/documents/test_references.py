"""References in documents, comments and docstrings lead to files, headings, `make` targets and settings that exist."""

import re
import subprocess
from functools import cache
from pathlib import Path

from tests.documents.test_links import anchors
from tests.programs import ROOT
from worker.settings import Settings

FILES = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
PLACES = {*FILES, *(str(parent) for file in FILES for parent in Path(file).parents)}
#: Pictures, data and generated files name nothing.
TEXTS = [
    file
    for file in FILES
    if (ROOT / file).is_file() and re.search(r"(\.(py|md|ya?ml|sh|sql|j2|toml|mk)|Makefile|Dockerfile)$", file)
]
MAKE = "".join((ROOT / file).read_text() for file in FILES if file == "Makefile" or file.endswith(".mk"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKE, re.M))
FOLDERS = "docs|inventory|make|playbooks|requirements|roles|scripts|tests|worker"
PATH = re.compile(rf"(?<![\w./{{}}~\"'-])((?:{FOLDERS})/[\w./-]+\.(?:py|md|ya?ml|sh|sql|j2|toml|json|mk))\b")


@cache
def prose() -> dict[str, str]:
    """The documents; the comments and docstrings of everything else."""
    found = {}
    for file in TEXTS:
        text = (ROOT / file).read_text()
        said = [text] if file.endswith(".md") else re.findall(r"(?:^|\s)(?:#|--|//):? (.*)$", text, re.M)
        found[file] = "\n".join([*said, *(re.findall(r'"""(.*?)"""', text, re.S) if file.endswith(".py") else [])])
    return found


def test_named_files_exist() -> None:
    """A role's own files may be named without the role."""
    for file, text in prose().items():
        role = re.match(r"roles/\w+/", file)
        for path in PATH.findall(text):
            assert {path, f"{role[0]}{path}" if role else path} & PLACES, f"{file} names {path}"


def test_named_decisions_exist_and_have_numbers_of_their_own() -> None:
    pages = [Path(page).name[:4] for page in FILES if page.startswith("docs/decisions/")]
    assert len(pages) == len(set(pages))
    for file, text in prose().items():
        for number in re.findall(r"(?:decisions?/|[Dd]ecision (?:page )?)(\d{4})", text):
            assert number in pages, f"{file} names decision {number}"


def test_named_headings_exist() -> None:
    """`contracts.md, OpenAI` names a heading; documents have no numbered sections."""
    for file, text in prose().items():
        assert not re.search(r"\.md section \d|contracts section \d|\b[Pp]romise \d", text), file
        for document, heading in re.findall(r"`?\b(?:docs/)?([a-z-]+\.md)`?, ([A-Z]\w+)", text):
            if f"docs/{document}" in FILES:
                found = anchors((ROOT / "docs" / document).read_text())
                assert any(one.startswith(heading.lower()) for one in found), f"{file} names {heading} of {document}"


def test_named_make_targets_exist() -> None:
    for file, text in prose().items():
        named = re.findall(
            r"`make ([a-z][a-z-]+)|^make ([a-z][a-z-]+)" if file.endswith(".md") else r"`make ([a-z-]+)()", text, re.M
        )
        assert not {one or other for one, other in named} - TARGETS, file


def test_settings_of_the_readme_exist() -> None:
    rows = re.findall(r"^\| (`[A-Z_`, ]+`) \|", (ROOT / "README.md").read_text(), re.M)
    named = {name.lower() for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}
    assert len(named) > 10
    assert named <= set(Settings.model_fields)

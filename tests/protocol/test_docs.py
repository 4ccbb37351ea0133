"""What the documents point at is there: tests, files, requirements."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.protocol.spec import requirements, text_of

ROOT = Path(__file__).parents[2]
DOCS = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("schemas/*.md"), ROOT / "SECURITY.md"])
SECURITY = (ROOT / "SECURITY.md").read_text("utf-8")
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text("utf-8")


def test_every_guarantee_names_a_test() -> None:
    chapters = re.split(r"^## (?=G\d)", GUARANTEES.split("## When something fails")[0], flags=re.MULTILINE)[1:]
    assert [chapter[:2] for chapter in chapters] == [f"G{n}" for n in range(1, 9)]
    assert [chapter[:2] for chapter in chapters if "::test_" not in chapter] == []


def test_every_row_of_the_failure_table_names_a_test() -> None:
    table = GUARANTEES.split("## When something fails")[1].split("## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    assert [row for row in rows if "::test_" not in row.rsplit("|", 2)[1]] == []


def test_every_defence_names_a_test() -> None:
    table = SECURITY.split("## What is defended")[1].split("## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    assert [row for row in rows if "::test_" not in row.rsplit("|", 2)[1]] == []


def test_every_test_that_a_document_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", GUARANTEES + SECURITY)
    assert len(named) > 20
    missing = [
        f"{path}::{test}"
        for path, test in named
        if not re.search(rf"^ *(async )?def {test}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)
    ]
    assert missing == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    text = path.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_requirement_that_is_named_exists(path: Path) -> None:
    tags = {*requirements(text_of("protocol.md")), *requirements(text_of("links.md"))}
    assert set(re.findall(r"\[([A-Z]{1,2}\d+)\]", path.read_text("utf-8"))) <= tags


def test_every_decision_is_listed_and_has_its_four_parts() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = set(re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text("utf-8")))
    assert listed == {path.name for path in folder.glob("0*.md")}
    for name in listed:
        text = (folder / name).read_text("utf-8")
        for part in ("Context", "Choice", "Measured", "What would change it"):
            assert f"**{part}.**" in text, f"{name} lacks {part!r}"

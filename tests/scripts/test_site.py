"""The site of the documents: all of the contract and the client is on it, and every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cir import public
from scripts.generate_openapi import comments
from scripts.site import build
from scripts.site.contract import PAGES, contract_pages
from scripts.site.python_client import docstring, python_page


@pytest.fixture(scope="module")
def contract() -> dict[str, str]:
    return contract_pages(comments())


def test_every_call_message_field_and_value_is_described(contract: dict[str, str]) -> None:
    for name, (_, files) in PAGES.items():
        page = contract[f"contract-{name}.md"]
        for file in files:
            for service in file.services_by_name.values():
                for method in service.methods:
                    assert f"{{#{service.name}.{method.name}}}" in page
            for message in file.message_types_by_name.values():
                assert f"{{#{message.name}}}" in page
                for field in message.fields:
                    assert f"| `{field.name}` |" in page
            for enum in file.enum_types_by_name.values():
                for value in enum.values:
                    assert f"| `{value.name}` |" in page
    assert {
        f"cir/{path.relative_to(build.ROOT / 'protos' / 'cir')}"
        for path in build.ROOT.glob("protos/**/*.proto")
    } == {file.name for _, files in PAGES.values() for file in files}


def test_words_in_angle_brackets_are_no_tags(contract: dict[str, str]) -> None:
    text = re.sub(r"`[^`]*`", "", "".join(contract.values()))
    assert "combiner/&lt;checkpoint&gt;" in text
    assert "<" not in text


def test_every_public_name_of_the_client_is_described() -> None:
    page = python_page()
    for name in public.__all__:
        assert f"## {name} {{#{name}}}" in page
    assert "### Client.search {#Client.search}" in page
    assert "combiner: str = ''," in page
    assert "- `NotFound`: " in page


def test_blocks_of_docstrings_are_lists() -> None:
    def example() -> None:
        """Do it.

        Raises:
            ValueError: it cannot
                be done.
            OSError: it is late.
        """

    lines = docstring(example).splitlines()
    assert lines == [
        "Do it.",
        "",
        "**Raises**",
        "",
        "- `ValueError`: it cannot",
        "  be done.",
        "- `OSError`: it is late.",
    ]


def test_a_page_that_is_in_no_part_makes_the_last_one() -> None:
    named = {page for files in build._NAVIGATION.values() for page in files}
    assert build.navigation({*named, "new.md"})[-1] == {"More": ["new.md"]}
    assert build.navigation(named)[-1].keys() == {"Project"}


MKDOCS = 'mkdocs is absent: pip install -e ".[docs]"'


@pytest.mark.slow
def test_the_site_is_whole_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason=MKDOCS)
    (tmp_path / "pages").mkdir()
    build.build(tmp_path / "pages", tmp_path / "site")
    pages = sorted((tmp_path / "site").glob("*.html"))
    assert {"index.html", "tutorial.html", "contract-search.html", "python.html"} <= {
        page.name for page in pages
    }
    for page in pages:
        loaded = re.findall(r'<(?:script|link|img)\b[^>]*\b(?:src|href)="(https?:)?//', page.read_text())
        assert loaded == [], page.name


@pytest.mark.slow
@pytest.mark.parametrize("link", ["[x](nowhere.md)", "[x](catalogs.md#nowhere)", "![x](images/none.webp)"])
def test_a_link_that_leads_nowhere_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str) -> None:
    pytest.importorskip("mkdocs", reason=MKDOCS)

    def gather(pages: Path) -> None:
        names = [name for part in build._NAVIGATION.values() for name in part]
        for name in names:
            (pages / name).write_text(f"# {name}\n")
        (pages / "index.md").write_text(f"# Index\n\n{link}\n")

    monkeypatch.setattr(build, "gather", gather)
    (tmp_path / "pages").mkdir()
    with pytest.raises(SystemExit, match="not built"):
        build.build(tmp_path / "pages", tmp_path / "site")

"""Gather the pages, make every link lead to a page of the site, and have mkdocs build it."""

from __future__ import annotations

import posixpath
import re
import shutil
from collections.abc import Mapping, Set
from pathlib import Path

from scripts.generate_openapi import comments
from scripts.site.contract import PAGES, contract_pages
from scripts.site.python_client import python_page

ROOT = Path(__file__).resolve().parents[2]
_ELSEWHERE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "cir/README.md": "cir.md",
    "clients/python/langchain/README.md": "client-langchain.md",
    "clients/python/mcp/README.md": "client-mcp.md",
    "clients/go/README.md": "client-go.md",
    "clients/typescript/README.md": "client-typescript.md",
    "clients/java/README.md": "client-java.md",
}
# A folder is shown by its page.
_FOLDERS = {"protos": "contract-search.md"} | {
    path.removesuffix("/README.md"): page for path, page in _ELSEWHERE.items() if "/" in path
}
_NAVIGATION: Mapping[str, tuple[str, ...]] = {
    "Begin": ("index.md", "tutorial.md", "demo.md", "command-line.md", "models.md"),
    "Use": ("catalogs.md", "combiners.md", "composers.md", "explanations.md", "adapt.md"),
    "Clients": (
        *("clients.md", "cir.md", "client-langchain.md", "client-mcp.md"),
        *("client-go.md", "client-typescript.md", "client-java.md", "http.md"),
    ),
    "Reference": (*(f"contract-{name}.md" for name in PAGES), "python.md", "settings.md"),
    "Run": ("operations.md", "kubernetes.md", "security.md", "scaling.md", "embedder.md", "policy.md"),
    "Research": ("datasets.md", "training.md", "evaluation.md", "benchmarks.md"),
    "Project": ("architecture.md", "contributing.md", "changelog.md"),
}
_STYLE = "site.css"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)")


def build(pages: Path, target: Path) -> None:
    """Gather the pages in a folder and build the site into another.

    Raises:
        SystemExit: a link leads nowhere.
    """
    gather(pages)
    from mkdocs.commands.build import build as build_site
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.exceptions import Abort

    checks = dict.fromkeys(("not_found", "absolute_links", "unrecognized_links", "anchors"), "warn")
    config = MkDocsConfig()
    config.load_dict(
        {
            "site_name": "Composed image retrieval",
            "docs_dir": str(pages),
            "site_dir": str(target),
            "use_directory_urls": False,
            "strict": True,
            # Nothing is loaded from elsewhere.
            "theme": {"name": "readthedocs", "highlightjs": False},
            "plugins": ["search"],
            "markdown_extensions": ["attr_list", "sane_lists", {"toc": {"permalink": True}}],
            "extra_css": [_STYLE],
            "nav": navigation({page.name for page in pages.glob("*.md")}),
            "validation": {"nav": dict.fromkeys(("omitted_files", "not_found"), "warn"), "links": checks},
        }
    )
    failed, warned = config.validate()
    if failed or warned:
        raise SystemExit(f"the site was not built: {failed} {warned}")
    config.plugins.on_startup(command="build", dirty=False)
    try:
        build_site(config)
    except Abort as error:
        raise SystemExit(f"the site was not built: {error}") from error


def navigation(pages: Set[str]) -> list[dict[str, list[str]]]:
    """Return the parts of the site; pages that are in none make the last one."""
    named = {page for files in _NAVIGATION.values() for page in files}
    more = {"More": sorted(pages - named)} if pages - named else {}
    return [{part: list(files)} for part, files in {**_NAVIGATION, **more}.items()]


def gather(pages: Path) -> None:
    """Write every page of the site into a folder, with links among themselves."""
    shutil.copytree(ROOT / "docs" / "images", pages / "images")
    # Cells of tables may be broken into lines, and the page may be as wide as they need.
    (pages / _STYLE).write_text(
        ".wy-table-responsive table td, .wy-table-responsive table th { white-space: normal; }\n"
        ".wy-nav-content { max-width: 70rem; }\n"
    )
    places = {f"docs/{path.name}": path.name for path in (ROOT / "docs").glob("*.md")} | _ELSEWHERE
    for source, page in places.items():
        (pages / page).write_text(_relinked((ROOT / source).read_text(), source, places))
    for page, text in {**contract_pages(comments()), "python.md": python_page()}.items():
        (pages / page).write_text(text)


def _relinked(text: str, source: str, places: Mapping[str, str]) -> str:
    """Return a page whose links lead to pages; those to files that are no page are words alone."""

    def relink(match: re.Match[str]) -> str:
        image, words, path, anchor = match[1], match[2], match[3], match[4] or ""
        if not path:
            return match[0]
        named = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if named.startswith("docs/images/"):
            return f"{image}[{words}]({named.removeprefix('docs/')})"
        page = places.get(named) or _FOLDERS.get(named)
        if page is None and (ROOT / named).exists():
            return f"`{words}`" if "`" not in words else words
        return f"{image}[{words}]({page or path}{anchor})"

    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else _LINK.sub(relink, part) for part in parts)

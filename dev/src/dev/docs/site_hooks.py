"""Hooks of the documentation site: pages and links outside `docs/`.

Documents link to each other and to the code by relative paths, so that the links work on GitHub, too.
The site has only `docs/`. Therefore four documents of the root become pages of the site, and a link to
any other file of the repository becomes a link to `repo_url`, or text if that is not set.
"""

import logging
import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[4]
PAGES = {
    "ARCHITECTURE.md": "design/overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "vulnerabilities.md",
    "CHANGELOG.md": "changelog.md",
}
"""The page of the site that a document of the root becomes."""

_SOURCES = {page: source for source, page in PAGES.items()}
_LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s:#]+)(?P<anchor>#[^()\s]*)?\)")
_FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
_log = logging.getLogger("mkdocs.hooks.phjob")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents of the root."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page, except in blocks of code."""

    def rewrite(link: re.Match[str]) -> str:
        return _rewritten(link, page.file.src_uri, config, files)

    parts = _FENCE.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(rewrite, part) for part in parts)


def _rewritten(link: re.Match[str], page: str, config: MkDocsConfig, files: Files) -> str:
    source = _SOURCES.get(page, f"docs/{page}")
    target = normpath(join(dirname(source), link["target"]))
    anchor = link["anchor"] or ""
    found = PAGES.get(target) or _page_of(target, files)
    if found:
        return f"[{link['text']}]({relpath(found, dirname(page) or '.')}{anchor})"
    if target.startswith("../"):  # Of GitHub itself, not of the repository.
        return link["text"]
    if not (ROOT / target).exists():
        _log.warning("%s has a link to %s, which does not exist", source, target)
    return (
        f"[{link['text']}]({config.repo_url}/blob/main/{target}{anchor})" if config.repo_url else link["text"]
    )


def _page_of(target: str, files: Files) -> str:
    """Return the site's page or picture of this file, or the index of this folder."""
    inside = target.removeprefix("docs/")
    names = (inside, f"{inside}/README.md", f"{inside}/index.md") if inside != target else ()
    return next((name for name in names if files.get_file_from_path(name)), "")

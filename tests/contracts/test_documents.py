"""The documents: generated pages are current, links are not broken, and every name exists."""

import re
from pathlib import Path

import pytest
from tests.model.admission_rules import Rule as AdmissionRule
from tests.model.fence import Rule as FenceRule

from dev import docs
from phjob_core.gpus import DEFAULT_PATTERNS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OPERATOR_PAGES = [ROOT / "docs" / "operate.md", *sorted((ROOT / "docs" / "runbooks").glob("*.md"))]
PAGES_WITH_OLD_NAMES = {"CHANGELOG.md", "spec.md"}
"""Pages that also contain names from before a rename, and prefixes of names."""
PACKAGES = [path for folder in ("shared", "services", "cli") for path in (ROOT / folder).rglob("src/phjob_*")]
SOURCES = [path for folder in ("shared", "services") for path in (ROOT / folder).rglob("*.py")]


def names(pages: list[Path]) -> list[str]:
    """Return the ids of parametrized tests: the paths of the pages."""
    return [str(page.relative_to(ROOT)) for page in pages]


def without_code(page: Path) -> str:
    """Return the text of a page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page: explicit ones, and those that GitHub and the site make of headings."""
    text = without_code(page)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("page", docs.files(), ids=lambda page: page.name)
def test_a_generated_page_is_current(page: Path) -> None:
    """`make docs` writes it again."""
    assert page.read_text() == docs.files()[page], f"{page.name} is out of date: run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_each_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    """This is for GitHub. `mkdocs build --strict` checks the same for the site."""
    broken = []
    for target, anchor in re.findall(r"\]\(([^()\s#]*)(?:#([^()\s]+))?\)", without_code(page)):
        if ":" in target or target.startswith(
            "../../security"
        ):  # Links to other sites, and to a page of GitHub's.
            continue
        file = (page.parent / target) if target else page
        if not file.exists():
            broken.append(target)
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            broken.append(f"{target}#{anchor}")
    assert not broken, f"{page.name} has broken links: {broken}"


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_each_path_that_a_page_names_exists(page: Path) -> None:
    """A path may begin with a package's name in place of its folder, as in `phjob_core/...`."""
    folders = {path.name: path for path in PACKAGES} | {folder.name: folder for folder in ROOT.iterdir()}
    paths = re.findall(r"`([a-z_]\w*)/([\w./-]+)`", page.read_text())
    named = [(folders[top] / rest) for top, rest in paths if top in folders and "..." not in rest]
    missing = [str(path) for path in named if not path.exists()]
    assert not missing, f"{page.name} names files that do not exist: {missing}"


def test_each_metric_that_a_page_names_exists() -> None:
    """Otherwise an operator would write a query that never returns anything."""
    listed = set(re.findall(r"`(phjob_\w+)`", (docs.FOLDER / "metrics.md").read_text()))
    wrong = {
        f"{page.name}: {name}"
        for page in PAGES
        if page.name not in PAGES_WITH_OLD_NAMES
        for name in re.findall(r"\b(phjob_[a-z_]+\w)(?![/*\w]|_\*)", page.read_text())
        if name not in listed | {path.name for path in PACKAGES}
    }
    assert not wrong, f"docs/reference/metrics.md does not have {wrong}"


@pytest.mark.parametrize("page", OPERATOR_PAGES, ids=names(OPERATOR_PAGES))
def test_each_log_event_that_a_page_names_exists(page: Path) -> None:
    """Otherwise an operator would search the logs for it in vain."""
    source = "".join(path.read_text() for path in SOURCES)
    events = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", page.read_text()))
    unknown = {event for event in events if not event.startswith("phjob_") and f'"{event}"' not in source}
    assert not unknown, f"{page.name} names events that no service logs: {unknown}"


def test_each_planted_bug_that_the_table_of_hazards_names_exists() -> None:
    """The same holds for each rule of the models."""
    page = (ROOT / "docs" / "design" / "consistency.md").read_text()
    rows = [row for row in page.partition("\n## Hazards\n")[2].splitlines() if row.startswith("| [H")]
    bugs = {row.strip("|").split("|")[-1].strip() for row in rows} - {""}
    planted = (ROOT / "tests" / "simulation" / "bugs.py").read_text()
    rules = {f"the model's rule `{rule.name}`" for rule in (*FenceRule, *AdmissionRule)}
    unknown = {bug for bug in bugs - rules if f'"{bug}"' not in planted}
    assert not unknown, f"tests/simulation has no such bugs: {unknown}"


def test_each_decision_record_has_the_number_of_its_file_and_is_listed() -> None:
    """Code and pages refer to a record by its number."""
    folder = ROOT / "docs" / "adr"
    records = sorted(folder.glob("0*.md"))
    index = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\)", (folder / "README.md").read_text(), re.MULTILINE)
    assert index == [(record.name[:4], record.name) for record in records]
    headings = [record.read_text().partition("\n")[0] for record in records]
    numbers = [f"# {number}. " for number in range(1, len(records) + 1)]
    assert [heading[: len(number)] for heading, number in zip(headings, numbers, strict=True)] == numbers


def test_the_specification_lists_every_pattern_of_gpus() -> None:
    """An operator has to know what counts before adding a pattern (spec.md, S3)."""
    rule = (ROOT / "docs" / "spec.md").read_text().partition('<a id="s3">')[2].partition('<a id="s4">')[0]
    documented = set(re.findall(r"`(!?[^`/]*/[^`]*)`", rule))
    assert set(DEFAULT_PATTERNS) <= documented, set(DEFAULT_PATTERNS) - documented

"""The documentation site: built without a warning, and opened in a browser that has no network."""

from __future__ import annotations

import importlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT

pytestmark = pytest.mark.check

DOCUMENTS = sorted(CHECKOUT.glob("docs/**/*.md"))
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
HEADING = re.compile(r"^ +heading: (.+)$", re.MULTILINE)


def build(folder: pathlib.Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr


@pytest.fixture(scope="module")
def site(made_once) -> pathlib.Path:
    for name in ("material", "mkdocstrings_handlers"):
        pytest.importorskip(name, reason="needs the extra `site`: make site installs it")
    return made_once("site", build)


@pytest.fixture(scope="module")
def context(site):
    """A browser without network that keeps what its pages ask for, and what goes wrong."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `site`")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}: make browser installs the first")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser.new_context(offline=True)
        browser.close()


@pytest.fixture
def faults(context, site):
    """What pages of a test ask for beyond the site, requests that fail, and errors of scripts."""
    found: list[str] = []

    def asked(request):
        if not request.url.startswith((site.as_uri(), "data:", "blob:")):
            found.append(f"asks for {request.url}")

    def watch(page):
        page.on("pageerror", lambda error: found.append(f"{page.url}: {error}"))

    def failed(request):
        found.append(f"{request.frame.page.url}: {request.url}: {request.failure}")

    handlers = {"request": asked, "requestfailed": failed, "page": watch}
    for event, handler in handlers.items():
        context.on(event, handler)
    yield found
    for event, handler in handlers.items():
        context.remove_listener(event, handler)


def test_pages_need_no_network(site, context, faults):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(DOCUMENTS)  # and 404.html
    page = context.new_page()
    for path in pages:
        if path.name == "404.html":  # for servers; its links start at the root
            continue
        page.goto(path.as_uri(), wait_until="load")
        assert page.locator("article h1").count() == 1, path
        broken = page.locator("img").evaluate_all("all => all.filter(i => !i.naturalWidth).length")
        assert broken == 0, f"{path}: pictures that do not load"
    assert not faults, "\n".join(faults)


def test_search_works_from_the_disk(site, context, faults):
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    page.locator("input.md-search__input").press_sequentially("embed_audio")
    first = page.locator("a.md-search-result__link").first
    first.wait_for()
    first.click()
    page.wait_for_url("**/api/*.html*")
    assert not faults, "\n".join(faults)


def test_docstrings_leave_no_marks_of_another_language(site):
    for path in site.glob("api/*.html"):
        assert not re.search(r":\w+:<code>|::</p>", path.read_text()), path


@pytest.mark.parametrize("name", [n for p in DOCUMENTS for n in HEADING.findall(p.read_text())])
def test_documented_name_can_be_imported(name):
    module, _, attribute = name.rpartition(".")
    assert hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_list_items_go_on_after_four_spaces(path):
    """Code hosts take three as well; Python-Markdown ends the list there."""
    fences = re.findall(r"^( +)```", path.read_text(), flags=re.MULTILINE)
    assert all(len(indent) % 4 == 0 for indent in fences)

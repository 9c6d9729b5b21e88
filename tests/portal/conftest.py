"""The portal in a real Chromium, on the embedded server of the end-to-end tests."""

import shutil
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from tests.running import RunningServer

PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


# Not for the whole session: while Playwright's event loop runs, no asynchronous test of another file can.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; without one the tests fail and say what to install."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, "The portal's tests need Chromium: run deploy/install-test-services.sh, or `apt-get install chromium`."
    with sync_playwright() as playwright:
        # Containers have no user namespaces for its sandbox; nothing but our own pages is opened.
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


def until_drawn(image: Locator) -> None:
    """Returns when the picture is there. Playwright's own waiting for a function polls by `eval`, which the portal's pages forbid."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not image.evaluate("image => image.naturalWidth > 0"):
        assert time.monotonic() < deadline, "The picture never came."
        image.page.wait_for_timeout(50)


class Visit:
    """A page of the portal that remembers what it asked for and what went wrong in it."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url.rstrip("/")
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        # A refusal that a test provokes is logged by the browser too.
        self.page.on(
            "console", lambda said: self.faults.append(said.text) if said.type == "error" and "status of" not in said.text else None
        )

    def go(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def search(self, query: str) -> Page:
        """Goes to the hits of a query."""
        self.go(f"/?{query}")
        self.page.locator(".card h3").first.wait_for()
        return self.page


@pytest.fixture
def visit(browser: Browser, server: RunningServer) -> Iterator[Visit]:
    """A desktop's window."""
    yield from _visits(browser, server, width=1280, height=900)


@pytest.fixture
def phone(browser: Browser, server: RunningServer) -> Iterator[Visit]:
    """A small phone's."""
    yield from _visits(browser, server, width=360, height=740, mobile=True)


def _visits(browser: Browser, server: RunningServer, width: int, height: int, mobile: bool = False) -> Iterator[Visit]:
    context = browser.new_context(
        viewport={"width": width, "height": height}, is_mobile=mobile, has_touch=mobile, color_scheme="light", locale="en-GB"
    )
    visit = Visit(context, server.url)
    yield visit
    context.close()
    assert visit.faults == []
    foreign = [url for url in visit.requests if not url.startswith((visit.url, "data:", "blob:"))]
    assert foreign == [], "The portal asks nobody but its own server."

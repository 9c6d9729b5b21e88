"""From Enter to the first cards in a real Chromium, on a warm embedded server with the sample of ChEBI.

python -m benchmarks.portal [--compounds 3000] [--queries 60]
"""

import argparse
import os
import pathlib
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright

from atomas import Client
from benchmarks.library import queries, shipped_library

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIMIT_MS = 300.0
_READING_MS = 300
# Whether every drawing in sight, or near enough to be fetched, is there.
_DRAWN = """
() => [...document.querySelectorAll(".card img")].filter(each => each.getBoundingClientRect().top < innerHeight).every(each => each.complete)
"""
# Types a question, submits the form, and waits until a card of the answer stands on the page; milliseconds.
_ASK = """
text => new Promise(resolve => {
  const box = document.getElementById("query");
  const old = document.querySelector(".card");
  box.value = text;
  const started = performance.now();
  const seen = () => {
    const card = document.querySelector("#results .cards:not(.waiting) .card");
    if (!card || card === old) return false;
    // The frame in which it is painted.
    requestAnimationFrame(() => resolve(performance.now() - started));
    return true;
  };
  const observer = new MutationObserver(() => { if (seen()) observer.disconnect(); });
  observer.observe(document.body, {childList: true, subtree: true});
  box.form.requestSubmit();
})
"""


def main() -> None:
    """Prints the median and the 95th percentile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compounds", type=int, default=3_000)
    parser.add_argument("--queries", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served(folder) as (address, url), shipped_library(options.compounds) as library:
        with Client(address) as client:
            client.import_compounds(library, library="chebi")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"{url}?q=water")
            page.locator(".card").first.wait_for()
            milliseconds = sorted(first_cards(page, text) for text in queries(options.queries))
            browser.close()
    middle, late = statistics.median(milliseconds), milliseconds[len(milliseconds) * 95 // 100]
    print(
        f"{options.queries} text queries over {options.compounds} compounds, 24 cards, one visitor, load average {os.getloadavg()[0]:.1f}"
    )
    print(f"Enter to first cards: median {middle:.0f} ms (limit {LIMIT_MS:.0f} ms), 95 % {late:.0f} ms")


def first_cards(page: Page, text: str) -> float:
    """Milliseconds; drawings of a former answer are waited for first, as a person would read it."""
    page.wait_for_function(_DRAWN)
    page.wait_for_timeout(_READING_MS)
    return float(page.evaluate(_ASK, text[:300]))


@contextmanager
def served(folder: str) -> Iterator[tuple[str, str]]:
    """A server of its own; its gRPC address and its URL."""
    environment = {**os.environ, "ATOMAS_DATA_DIR": folder, "ATOMAS_LISTEN": "127.0.0.1:0", "ATOMAS_HTTP_LISTEN": "127.0.0.1:0"}
    environment["ATOMAS_LOG_LEVEL"] = "error"
    process = subprocess.Popen([sys.executable, "-m", "server"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        select.select([process.stdout], [], [], 300)
        found = re.search(r"serves on (\S+) and on (\S+/),", process.stdout.readline())
        assert found, "The server did not start; its complaint is above."
        yield found[1], found[2]
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    main()

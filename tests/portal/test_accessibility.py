"""The portal without a mouse, and with a screen reader: axe-core's rules, and the way of the focus."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.portal.conftest import Visit

AXE = Path(__file__).with_name("axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def violations(page: Page) -> list[str]:
    """What axe-core finds, outside the structure editor, which is not ours."""
    # The page's own policy forbids foreign scripts, so it is evaluated from outside.
    page.evaluate(AXE)
    # Fading colours are not the ones people read.
    page.evaluate("Promise.all(document.getAnimations().map(each => each.finished.catch(() => 0)))")
    found = page.evaluate("rules => axe.run({exclude: ['iframe']}, {runOnly: rules})", RULES)
    return [f"{each['id']}: {node['target']} {node['failureSummary']}" for each in found["violations"] for node in each["nodes"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?q=caffeine&library=chebi&molecular_weight.max=400",
        "/?compound=libraries/chebi/compounds/RYYVLZVUVIJVGH-UHFFFAOYSA-N",
        "/?page=import",
        "/?page=generate&rings.max=2",
    ],
)
def test_every_page_keeps_the_rules_in_both_themes(visit: Visit, path: str, theme: str) -> None:
    visit.page.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    page = visit.go(path)
    page.wait_for_load_state("networkidle")
    assert violations(page) == []


def test_the_why_view_keeps_the_rules(visit: Visit) -> None:
    visit.page.emulate_media(reduced_motion="reduce")
    page = visit.search("q=purine+alkaloid")
    page.get_by_role("button", name="Why").first.click()
    expect(page.locator("dialog .explanation:not([aria-busy])")).to_be_visible()
    assert violations(page) == []


def test_a_search_needs_no_mouse(visit: Visit) -> None:
    page = visit.go("/?page=import")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    visit.search("q=caffeine")
    page.locator("body").click(position={"x": 2, "y": 300})
    page.keyboard.press("/")
    box = page.get_by_label("What to look for")
    expect(box).to_be_focused()
    page.keyboard.type("theobromine")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("theobromine"))
    expect(page.locator("#status")).to_contain_text("hits")
    expect(page.locator("main")).to_be_focused()


def test_more_hits_move_the_focus_to_the_first_of_them(visit: Visit) -> None:
    page = visit.search("q=acid")
    page.get_by_role("button", name="More hits").press("Enter")
    expect(page.locator(".card h3 a").nth(24)).to_be_focused()

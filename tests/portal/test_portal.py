"""What people do in the portal."""

import re
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import FilePayload, Route, expect

from atomas import Client
from tests.portal.conftest import Visit, until_drawn


def test_a_question_in_words_gives_cards_with_drawings_and_the_score_of_each_leg(visit: Visit) -> None:
    page = visit.go("/")
    page.get_by_label("What to look for").fill("flavonoid glycoside found in plants")
    page.keyboard.press("Enter")
    cards = page.locator(".card")
    expect(cards).to_have_count(24)
    expect(page.locator(".understood")).to_contain_text("free text")
    first = cards.first
    expect(first.locator(".leg")).to_contain_text([re.compile("Molecule.*#"), re.compile("Text.*#"), "Words"])
    until_drawn(page.locator(".card img").first)
    assert (first.locator("img").get_attribute("alt") or "").startswith("Structure of ")
    page.get_by_role("button", name="More hits").click()
    expect(cards).to_have_count(48)
    assert "q=flavonoid" in page.url


def test_a_name_finds_its_compound_and_the_reply_says_that_it_was_understood_as_one(visit: Visit) -> None:
    page = visit.search("q=caffeine&library=chebi")
    expect(page.locator(".card h3").first).to_have_text("caffeine")
    expect(page.locator(".understood")).to_contain_text("name of a compound")


def test_conditions_narrow_the_hits_and_stay_in_the_address(visit: Visit) -> None:
    page = visit.search("q=acid&library=chebi")
    page.get_by_text("Conditions", exact=True).click()
    page.get_by_label("Molecular weight, at most").fill("120")
    page.keyboard.press("Enter")
    expect(page.locator(".count")).to_have_text("1")
    expect(page).to_have_url(re.compile(r"molecular_weight\.max=120"))
    page.locator(".card h3").first.wait_for()
    weights = [float(re.findall(r"([\d.]+) g/mol", text)[0]) for text in page.locator(".card .facts").all_inner_texts()]
    assert weights
    assert max(weights) <= 120
    expect(page.get_by_label("Molecular weight, at most")).to_have_value("120")
    expect(page.get_by_role("link", name="SDF")).to_have_attribute("href", re.compile("compounds:export.*sdf"))


def test_a_condition_that_makes_no_sense_is_answered_by_a_sentence_and_a_reason(visit: Visit) -> None:
    page = visit.go(f"/?q=acid&expression={quote('mass <')}")
    expect(page.get_by_role("alert")).to_contain_text("INVALID_FILTER")


def test_no_compound_meets_contradictory_conditions_and_they_can_be_left_out(visit: Visit) -> None:
    page = visit.go("/?q=acid&molecular_weight.min=200&molecular_weight.max=100")
    page.get_by_role("button", name="Leave the conditions out").click()
    page.locator(".card h3").first.wait_for()
    assert "molecular_weight" not in page.url


def test_why_a_hit_opens_over_the_page_and_gives_the_focus_back(visit: Visit) -> None:
    page = visit.search("q=purine+alkaloid&library=chebi")
    why = page.get_by_role("button", name=re.compile("^Why ")).first
    why.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", level=2)).to_have_text(re.compile(r"^Why .+\?$"))
    expect(dialog.locator(".explanation:not([aria-busy])")).to_be_visible()
    expect(dialog.locator(".leg")).not_to_have_count(0)
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(why).to_be_focused()


def test_a_drawn_structure_is_searched_for(visit: Visit) -> None:
    page = visit.go("/")
    page.get_by_role("button", name="Draw").first.click()
    editor = page.frame_locator("dialog iframe").locator("#editor svg").first
    editor.wait_for()
    use = page.get_by_role("button", name="Use this structure")
    expect(use).to_be_disabled()
    frame = page.locator("dialog iframe").bounding_box()
    assert frame is not None
    # The benzene ring stands ninth in the second row of tools of 1.3 times 24 pixels.
    page.wait_for_timeout(500)
    page.mouse.click(frame["x"] + 274, frame["y"] + 47)
    page.mouse.click(frame["x"] + 450, frame["y"] + 280)
    expect(page.get_by_label("SMILES of the drawing")).to_have_text("C1=CC=CC=C1")
    use.click()
    page.locator(".card h3").first.wait_for()
    expect(page.locator(".understood")).to_contain_text("a structure")
    assert "structure=C1" in page.url


def test_a_molecules_page_tells_its_names_texts_properties_and_what_is_similar(visit: Visit) -> None:
    page = visit.search("q=caffeine&library=chebi")
    page.locator(".card h3 a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("caffeine")
    expect(page).to_have_title("caffeine, Atomas")
    expect(page.locator(".names").first).to_contain_text("guaranine")
    expect(page.locator(".identity")).to_contain_text("RYYVLZVUVIJVGH-UHFFFAOYSA-N")
    expect(page.get_by_role("row", name=re.compile("Heavy atoms"))).to_contain_text("14")
    expect(page.get_by_role("row", name=re.compile("^Charge"))).to_contain_text("0")
    expect(page.locator(".similar .card")).to_have_count(8)
    page.go_back()
    expect(page.locator(".card h3").first).to_have_text("caffeine")


def test_a_molecule_that_is_described_can_be_asked_for_new_ones_like_it(visit: Visit, client: Client) -> None:
    described = next(compound for compound in client.compounds("chebi") if compound.descriptions)
    page = visit.go(f"/?{urlencode({'compound': described.resource_name})}")
    expect(page.locator(".description").first).to_have_text(described.descriptions[0])
    expect(page.get_by_role("button", name="Propose new molecules for its description")).to_be_enabled()
    expect(page.get_by_role("button", name="Describe it in the model's words")).to_be_enabled()


def test_a_compound_that_is_not_there_is_said_not_to_be(visit: Visit) -> None:
    page = visit.go("/?compound=libraries/chebi/compounds/AAAAAAAAAAAAAA-AAAAAAAAAA-N")
    expect(page.get_by_role("alert")).to_contain_text("COMPOUND_NOT_FOUND")


def test_a_file_is_imported_with_its_progress_and_every_rejected_row_has_its_reason(visit: Visit) -> None:
    page = visit.go("/?page=import")
    rows = b"CCO ethanol\nC1CC broken\n" + b"".join(b"C" * n + b"N amine%d\n" % n for n in range(1, 40))
    page.set_input_files("#file", files=FilePayload(name="From Portal.smi", mimeType="text/plain", buffer=rows))
    expect(page.get_by_label("Library, made when it is missing")).to_have_value("from-portal")
    page.get_by_role("button", name="Import", exact=True).click()
    rejected = page.get_by_role("region", name="Rejected rows")
    expect(rejected).to_contain_text("INVALID_SMILES")
    expect(rejected.get_by_role("row")).to_have_count(2)
    assert page.locator(".figures dd").all_inner_texts() == ["41", "40", "0", "0", "1", "40"]
    # Its address shows the same import again.
    page.reload()
    expect(page.get_by_role("region", name="Rejected rows")).to_contain_text("C1CC")
    expect(page.get_by_role("region", name="Imports so far")).to_contain_text("From Portal.smi")


def test_a_file_that_cannot_be_read_is_refused_in_a_sentence(visit: Visit) -> None:
    page = visit.go("/?page=import")
    page.set_input_files("#file", files=FilePayload(name="x.csv", mimeType="text/csv", buffer=b"colour,size\nred,5\n"))
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("no column of structures")


def test_text_of_strangers_stays_text(visit: Visit) -> None:
    page = visit.go("/?page=import")
    row = b'{"smiles": "CCCCCl", "name": "<img src=x onerror=document.title=1>", "descriptions": ["<script>document.title = 2</script>"]}\n'
    page.set_input_files("#file", files=FilePayload(name="strange.jsonl", mimeType="text/plain", buffer=row))
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator(".hint")).to_have_text("done: 1 of 1 rows")
    visit.search("q=CCCCCl&library=strange")
    expect(page.locator(".card h3").first).to_have_text("<img src=x onerror=document.title=1>")
    expect(page).to_have_title("CCCCCl, Atomas")


def test_the_colours_follow_the_system_until_somebody_chooses(visit: Visit) -> None:
    page = visit.search("q=caffeine")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert light != dark
    page.get_by_role("button", name="Switch between light and dark").click()
    assert page.evaluate(ground) == light
    assert "dark" not in (page.locator(".card img").first.get_attribute("src") or "")
    page.reload()
    assert page.evaluate(ground) == light


@pytest.mark.parametrize("path", ["/", "/?q=steroid+ester", "/?page=import"])
def test_nothing_sticks_out_on_a_phone(phone: Visit, path: str) -> None:
    page = phone.go(path)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_phone_searches_and_opens_a_molecule(phone: Visit) -> None:
    page = phone.search("q=caffeine&library=chebi")
    page.locator(".card h3 a").first.tap()
    expect(page.get_by_role("heading", level=1)).to_have_text("caffeine")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_server_that_asks_for_a_key_gets_it_with_every_call(visit: Visit) -> None:
    """The gate is played by the browser's network layer: it lets pass what carries the key."""
    unlocked: list[str] = []

    def gate(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer atk_secret":
            unlocked.append(route.request.url)
            route.continue_()
        else:
            route.fulfill(
                status=401, json={"code": 16, "message": "This service asks for a key.", "details": [{"reason": "UNAUTHENTICATED"}]}
            )

    visit.page.route("**/v1/**", gate)
    page = visit.go("/?q=caffeine&library=chebi")
    page.get_by_label("API key").fill("atk_secret")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".card h3").first).to_have_text("caffeine")
    until_drawn(page.locator(".card img").first)
    assert any("structures:draw" in url for url in unlocked)
    with page.expect_download() as download:
        page.goto(f"{visit.url}/?q=caffeine&library=chebi&heavy_atoms.max=14")
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "chebi.csv"
    page.goto(f"{visit.url}/?page=import")
    page.set_input_files("#file", files=FilePayload(name="keyed.smi", mimeType="text/plain", buffer=b"CCO\nCCN\n"))
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator(".progress .hint")).to_have_text("done: 2 of 2 rows")


def test_without_a_key_the_refusal_is_shown(visit: Visit) -> None:
    refusal = {"code": 16, "message": "This service asks for a key.", "details": [{"reason": "UNAUTHENTICATED"}]}
    visit.page.route("**/v1/**", lambda route: route.fulfill(status=401, json=refusal))
    page = visit.go("/?q=caffeine")
    page.get_by_role("button", name="Not now").click()
    expect(page.get_by_role("alert")).to_contain_text("UNAUTHENTICATED")


def test_conditions_alone_list_what_meets_them(visit: Visit) -> None:
    page = visit.search("library=chebi&heavy_atoms.max=14&expression=" + quote('id = "CHEBI:27732"'))
    expect(page.locator(".card h3")).to_have_text(["caffeine"])


def test_molecules_are_proposed_for_words_drawn_and_the_same_seed_gives_the_same(visit: Visit) -> None:
    page = visit.go("/?page=generate&library=chebi&count=3&seed=5")
    page.get_by_label("What the molecules shall be, in words").fill("a phenol with a methoxy group")
    page.get_by_text("Conditions", exact=True).click()
    page.get_by_label("Rings, at most").fill("2")
    page.get_by_role("button", name="Propose molecules").click()
    said = page.locator("#results [role=status]")
    expect(said).to_contain_text("3 proposals of")
    expect(said).to_contain_text("Seed 5.")
    cards = page.locator("#results .card")
    expect(cards).to_have_count(3)
    until_drawn(page.locator("#results .card img").first)
    expect(cards.first).to_contain_text(re.compile(r"alignment -?\d\.\d\d"))
    expect(page).to_have_url(re.compile(r"text=a\+phenol.*rings\.max=2"))
    found = cards.locator("code").all_inner_texts()
    page.get_by_role("button", name="Propose molecules").click()
    expect(said).to_contain_text("Seed 5.")
    assert cards.locator("code").all_inner_texts() == found


def test_candidates_are_shown_as_they_are_found_and_stopping_keeps_them(visit: Visit) -> None:
    page = visit.go("/?page=generate&library=chebi&count=100&molecular_weight.max=125")
    page.get_by_label("What the molecules shall be, in words").fill("a phenol with a methoxy group")
    page.get_by_role("button", name="Propose molecules").click()
    page.locator("#results .card").first.wait_for()
    said = page.locator("#results [role=status]")
    expect(said).to_contain_text("The model is at work")
    page.get_by_role("button", name="Stop").click()
    expect(said).to_contain_text("Stopped.")
    expect(page.locator("#results .card")).not_to_have_count(0)
    expect(page.get_by_role("button", name="Propose molecules")).to_be_enabled()


def test_a_generation_that_is_refused_says_why(visit: Visit) -> None:
    page = visit.go(f"/?page=generate&text=phenol&expression={quote('mass <')}")
    page.get_by_role("button", name="Propose molecules").click()
    expect(page.get_by_role("alert")).to_contain_text("INVALID_FILTER")


def test_a_molecule_is_described_in_words_with_the_compounds_that_were_read(visit: Visit) -> None:
    page = visit.search("q=caffeine&library=chebi")
    page.locator(".card h3 a").first.click()
    page.get_by_role("button", name="Describe it in the model's words").click()
    described = page.get_by_role("region", name="The model's description")
    expect(described.locator("blockquote").first).not_to_be_empty()
    expect(described).to_contain_text("It was shown the descriptions of")
    expect(described.get_by_role("link").first).to_have_attribute("href", re.compile("compound="))

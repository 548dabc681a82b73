"""The web demo in a real browser, over the real services with the shipped models."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from tests.web_demo.browsing import CHROMIUM, HOSTILE, Demo, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "clothing" / "images"
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed"),
    pytest.mark.service,
    pytest.mark.browser,
]


def order(page: Page) -> list[str]:
    """Return the URLs of the images shown, in order."""
    return [str(image.get_attribute("src")) for image in page.locator(".grid .card img").all()]


def test_three_turns_end_at_a_known_target(page: Page, demo: Demo) -> None:
    rows = [json.loads(line) for line in (demo.folder / "dialogues.jsonl").read_text().splitlines()]
    dialogue = next(row for row in rows if row["split"] == "test" and len(row["turns"]) == 3)
    reference = Path(dialogue["reference"]).stem
    page.goto(f"/?c=garments&i0={reference}")
    for number, turn in enumerate(dialogue["turns"]):
        page.get_by_role("textbox", name="What should be different?").fill(turn["text"])
        page.locator(".box").get_by_role("button", name="Find", exact=True).click()
        page.wait_for_url(re.compile(f"x{number}="))
    targets = {f"picture?c=garments&i={Path(name).stem}" for name in dialogue["turns"][-1]["targets"]}
    assert page.locator(".step").count() == 3
    assert targets & set(order(page)[:10])


def test_a_known_text_is_suggested_and_its_target_marked(page: Page, demo: Demo) -> None:
    rows = [json.loads(line) for line in (demo.folder / "triplets.jsonl").read_text().splitlines()]
    asked = next(row for row in rows if "reference" in row and row["split"] == "test")
    page.goto(f"/?c=garments&i0={Path(asked['reference']).stem}")
    page.get_by_role("group", name="Try").get_by_role("button", name=asked["text"], exact=True).click()
    page.wait_for_url(re.compile("x0="))
    page.locator(".known.hit").wait_for()
    assert page.locator(".card.target").count() >= 1


def test_likes_and_dislikes_change_the_ranking_and_are_taken_back(page: Page) -> None:
    page.goto("/?c=garments&x0=a+red+dress")
    before = order(page)
    loads: list[str] = []
    page.on("load", lambda loaded: loads.append(loaded.url))
    page.evaluate("scrollTo(0, 300)")
    like = page.locator(".card").nth(9).get_by_role("button", name=re.compile("^Like"))
    like.click()
    page.wait_for_url(re.compile("l0="))
    page.locator(".tray .judged").wait_for()
    liked = order(page)
    assert liked != before
    # The focus is on the same item's button, the place on the page is where it was.
    until(page, "document.activeElement.name === 'like'")
    assert page.evaluate("scrollY") == 300
    page.get_by_role("button", name=re.compile("^Take back")).click()
    until(page, "!location.search.includes('l0=')")
    until(page, "!document.querySelector('.tray .judged')")
    assert order(page) == before
    page.locator(".card").nth(0).get_by_role("button", name=re.compile("^Not this")).click()
    page.wait_for_url(re.compile("d0="))
    page.locator(".tray .judged").wait_for()
    assert before[0] not in order(page)
    page.locator(".card").nth(0).get_by_role("button", name=re.compile("^Hide")).click()
    page.get_by_role("button", name=re.compile("^Show again")).click()
    until(page, "!location.search.includes('e=')")
    assert loads == []


def test_judging_far_down_keeps_what_was_loaded(page: Page) -> None:
    page.goto("/?c=garments&x0=a+red+dress")
    page.locator(".card").last.scroll_into_view_if_needed()
    page.locator("#r48").wait_for()
    page.locator("#r40").get_by_role("button", name=re.compile("^Like")).click()
    page.locator(".tray .judged").wait_for()
    assert page.locator("#r40.liked").count() == 1
    page.locator("#r40").get_by_role("button", name=re.compile("^Hide")).click()
    page.wait_for_url(re.compile("e="))
    assert page.locator("#r40").count() == 0
    assert page.locator("#r47").count() == 1


def test_the_ends_of_the_slider_are_picture_alone_and_words_alone(page: Page) -> None:
    item = "/?c=garments&i0=" + quote(first_item(page))
    for method, weight, alone in (("sum", "0", "image"), ("combiner/garments", "100", "text")):
        page.goto(f"{item}&x0=in+red&m={method}")
        page.get_by_text("Now: the method decides").wait_for(state="attached")
        slider = page.locator("input[type=range]")
        slider.fill(weight)
        page.locator("button[name=weigh][value=set]").click()
        page.wait_for_url(re.compile(f"w0={weight}(&|$)"))
        by_slider = order(page)
        page.goto(f"{item}&x0=in+red&m={alone}")
        assert by_slider[:12] == order(page)[:12]


def test_the_bar_and_the_chips_say_what_the_words_changed(page: Page) -> None:
    item = first_item(page)
    page.goto(f"/?c=garments&i0={item}&x0=a+red+striped+dress")
    named = int(page.locator(".gave meter").get_attribute("value") or "")
    changed = page.locator(".card .diff .changed").all_text_contents()
    assert any(text.endswith(("→ red", "→ striped", "→ dress")) for text in changed)
    page.goto(f"/?c=garments&i0={item}&x0=the+same")
    assert int(page.locator(".gave meter").get_attribute("value") or "") < 10 < named
    page.get_by_text("These words changed little").wait_for()
    # The picture as it is stays: what the catalog says of the first results is kept.
    assert page.locator(".card").first.locator(".diff li:not(.changed)").count() >= 1
    page.goto(f"/?c=garments&i0={item}&x0=in+red&m=image")
    assert page.locator("input[type=range]").count() == 0
    assert int(page.locator(".gave meter").get_attribute("value") or "") == 0
    page.goto("/?c=garments&x0=a+red+dress")
    assert page.locator(".gave").count() == 0


def first_item(page: Page) -> str:
    page.goto("/?c=garments")
    source = page.locator(".card img").first.get_attribute("src")
    return str(source).rpartition("i=")[2]


def test_steps_are_returned_to_edited_and_replayed(page: Page) -> None:
    page.goto("/?c=garments&x0=a+red+dress&x1=with+stripes&x2=shorter")
    three = order(page)
    page.locator(".step a").first.click()
    until(page, "!location.search.includes('x1=')")
    assert page.locator(".step").count() == 1
    page.go_back()
    until(page, "location.search.includes('x2=')")
    assert order(page) == three
    page.get_by_label("Change this text: 1").click()
    field = page.locator("#edit1")
    field.fill("a blue dress")
    field.press("Enter")
    page.wait_for_url(re.compile("x0=a\\+blue\\+dress"))
    assert page.locator(".step").count() == 3
    edited = order(page)
    page.goto("/?c=garments&x0=a+blue+dress&x1=with+stripes&x2=shorter")
    assert order(page) == edited != three


def test_a_link_shows_the_same_to_somebody_else(page: Page, browser: Browser, demo: Demo) -> None:
    page.goto("/?c=garments&x0=a+red+dress&f=pattern%3Astriped&x1=longer")
    context = browser.new_context(base_url=demo.url, locale="en-GB")
    other = context.new_page()
    other.goto(page.url)
    assert order(other) == order(page)
    context.close()


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the clothing photos are not here")
def test_a_real_photo_begins_a_search(page: Page) -> None:
    page.goto("/?c=garments")
    page.locator("input[type=file]").set_input_files(str(sorted(PHOTOS.glob("*.jpg"))[0]))
    page.locator(".chosen img").wait_for()
    page.locator("#x").fill("in red")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("u0=[0-9a-f]{32}&x0=in\\+red"))
    assert page.locator(".card").count() == 24
    image = page.locator(".step img").first
    assert image.evaluate("image => image.naturalWidth") > 100


def test_more_results_come_on_scrolling(page: Page) -> None:
    page.goto("/?c=garments&x0=a+red+dress")
    assert page.locator(".card").count() == 24
    page.locator(".card").last.scroll_into_view_if_needed()
    page.locator("#r48").wait_for()
    shown = order(page)
    assert len(set(shown)) == len(shown) >= 48


def test_a_page_of_results_that_fails_can_be_asked_for_again(page: Page) -> None:
    page.goto("/?c=garments&x0=a+red+dress")
    failing = True
    page.route("**/more?*", lambda route: route.fulfill(status=503) if failing else route.continue_())
    page.locator(".card").last.scroll_into_view_if_needed()
    more = page.get_by_role("button", name="More results")
    more.wait_for()
    failing = False
    more.click()
    page.locator("#r48").wait_for()
    counted = "document.querySelectorAll('.card').length"
    until(page, f"document.querySelector('[data-shown]').textContent.startsWith(`${{{counted}}} `)")


def test_back_leads_to_the_place_and_to_all_that_was_loaded(page: Page) -> None:
    page.goto("/?c=garments&x0=a+red+dress")
    page.locator(".card").last.scroll_into_view_if_needed()
    page.locator("#r48").wait_for()
    page.evaluate("scrollTo(0, 1200)")
    page.evaluate("document.querySelector('.foot a').click()")
    page.wait_for_url(re.compile("/about"))
    page.go_back()
    page.locator("#r48").wait_for()
    until(page, "scrollY === 1200")


def test_details_open_over_the_results(page: Page) -> None:
    page.goto("/?c=garments&x0=a+red+dress&x1=with+stripes")
    address = page.url
    link = page.locator(".card").nth(2).get_by_role("link", name=re.compile("Details"))
    link.click()
    page.locator("dialog[open] dl").wait_for()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.url == address
    assert link.evaluate("link => link === document.activeElement")
    link.click()
    page.locator("dialog[open]").get_by_role("button", name=re.compile("^More like this")).click()
    page.wait_for_url(re.compile("x1=with\\+stripes&i2="))


def test_a_step_left_in_a_new_tab_stays_as_it_was(page: Page) -> None:
    page.goto("/?c=garments&x0=a+red+dress&x1=with+stripes")
    page.get_by_label("Change this text: 1").click()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Branch off").click()
    opened.value.wait_for_load_state()
    assert "x1=" not in opened.value.url
    assert page.evaluate("document.body.className") == ""
    page.keyboard.press("Escape")
    assert page.locator("details.edit[open]").count() == 0


def test_the_link_is_copied_where_there_is_no_clipboard(page: Page) -> None:
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.goto("/?c=garments&x0=a+red+dress")
    page.get_by_role("button", name="Copy link").click()
    page.get_by_role("button", name="Copied").wait_for()


def test_an_image_is_made_small_before_it_is_sent(page: Page, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    pixels = np.random.default_rng(1).integers(0, 255, (1800, 2400, 3), np.uint8)
    Image.fromarray(pixels).save(large)
    assert large.stat().st_size > 10_000_000
    page.goto("/?c=garments")
    page.locator("input[type=file]").set_input_files(large)
    page.locator(".chosen img").wait_for()
    assert 10_000 < page.evaluate("document.querySelector('[name=picture]').files[0].size") < 1_500_000
    page.get_by_role("button", name="Search").click()
    page.wait_for_url(re.compile("u0="))
    page.goto("/?c=garments")
    text = tmp_path / "notes.txt"
    text.write_text("no picture")
    page.locator("input[type=file]").set_input_files(text)
    page.get_by_role("alert").get_by_text("not a picture").wait_for()
    assert page.locator(".chosen").is_hidden()


def test_a_part_of_an_image_is_cut_out(page: Page, tmp_path: Path) -> None:
    pixels = np.zeros((400, 400, 3), np.uint8)
    pixels[:200, :200] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "quarter.png")
    page.goto("/?c=garments")
    page.locator("input[type=file]").set_input_files(tmp_path / "quarter.png")
    page.get_by_role("button", name="Cut out a part").click()
    box = page.locator("canvas").bounding_box()
    assert box
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.48, box["y"] + box["height"] * 0.48)
    page.mouse.up()
    page.locator("dialog[open]").get_by_role("button", name="Cut out a part").click()
    until(page, "document.querySelector('[name=picture]').files[0]?.name === 'picture.jpg'")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url(re.compile("u0="))
    name = page.url.rpartition("u0=")[2]
    answer = page.request.get(f"/uploaded?n={name}")
    with Image.open(io.BytesIO(answer.body())) as cut:
        assert max(cut.size) < 200
        red, green, _ = np.asarray(cut.convert("RGB")).reshape(-1, 3).mean(axis=0)
    assert red > 240
    assert green < 15


def test_text_may_be_dropped_into_the_box(page: Page) -> None:
    page.goto("/?c=garments")
    prevented = page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.setData("text/plain", "a red dress");
            const drop = new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
            document.querySelector("#x").dispatchEvent(drop);
            return drop.defaultPrevented;
        }"""
    )
    assert prevented is False


def test_a_menu_is_not_left_by_an_arrow_key(page: Page) -> None:
    page.goto("/?c=garments&x0=hat")
    address = page.url
    menu = page.get_by_label("Catalog")
    menu.focus()
    page.keyboard.press("ArrowDown")
    apply = page.locator("form.switch").first.get_by_role("button")
    apply.wait_for()
    assert page.url == address
    apply.click()
    page.wait_for_url(re.compile("c=hostile&x0=hat"))


@pytest.mark.parametrize("locale", ["zh-CN", "zh-TW"])
def test_the_language_is_switched(browser: Browser, demo: Demo, locale: str) -> None:
    context = browser.new_context(base_url=demo.url, locale=locale)
    page = context.new_page()
    page.goto("/?c=garments&x0=hat")
    titles = {"zh-CN": "像这件", "zh-TW": "像這件"}
    assert titles[locale] in page.locator(".brand").inner_text()
    page.locator("select[name=language]").select_option("en")
    page.locator("form.switch:has(select[name=language]) button").click()
    page.wait_for_url(re.compile("h=en"))
    assert "Like this" in page.locator(".brand").inner_text()
    context.close()


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    page.goto("/?c=garments")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "x":
            break
    page.keyboard.type("a green hat")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("x0=a\\+green\\+hat"))
    page.locator("#x").focus()
    page.keyboard.type("with stripes")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("x1=with\\+stripes"))
    page.locator(".card .picture").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("i2="))
    assert page.locator(".step").count() == 3


@pytest.mark.parametrize("path", ["/?c=hostile", "/?c=hostile&x0=" + quote(HOSTILE)])
def test_what_means_harm_is_shown_and_does_nothing(page: Page, path: str) -> None:
    page.goto(path)
    assert page.locator(".card").count() == 3
    page.locator(".card").first.get_by_role("link", name=re.compile("Details")).click()
    page.locator("dialog dl").wait_for()
    assert page.evaluate("window.hit") is None
    assert page.locator("dd script, dd img, dd i").count() == 0
    until(page, "document.querySelector('.item img').naturalWidth > 50")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# What makes the page wider than its window, if anything does.
TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
    [...document.querySelectorAll("*")]
        .filter((element) => element.getBoundingClientRect().right > innerWidth)
        .map((element) => `${element.tagName} ${element.className}`)"""


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/?c=garments&x0=a+red+dress",
        "/?c=garments&x0=a+red+dress&f=colour%3Ared&x1=with+stripes&v=sum",
        "/?c=garments&x0=a+red+dress&f=colour%3A" + "none" * 80,
        "/about?c=garments",
        "/?c=nothing",
        "/item?c=hostile&i=" + quote("x0'\"<b>/../0"),
    ],
)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_is_accessible(
    browser: Browser, demo: Demo, path: str, scheme: Literal["light", "dark"], width: int
) -> None:
    context = browser.new_context(
        base_url=demo.url,
        viewport={"width": width, "height": 844},
        color_scheme=scheme,
        locale="en-GB",
        bypass_csp=True,
    )
    page = context.new_page()
    page.goto(path)
    assert page.evaluate(TOO_WIDE) == []
    found = axe.Axe().run(page).response["violations"]
    context.close()
    assert not [(one["id"], [node["html"][:120] for node in one["nodes"][:2]]) for one in found]


GAP = """chip => {
  const words = document.createRange();
  words.selectNodeContents(chip.firstChild);
  return chip.querySelector("small").getBoundingClientRect().left - words.getBoundingClientRect().right;
}"""


def test_words_are_at_hand_after_many_turns_and_paper_has_results_alone(page: Page) -> None:
    page.goto("/?c=garments&" + "&".join(f"x{turn}=a+red+dress" for turn in range(12)))
    box = page.locator("#x").bounding_box()
    assert box
    assert box["y"] + box["height"] < 900
    page.emulate_media(media="print")
    assert page.locator("#r1 img").is_visible()
    assert not page.locator("#r1 .acts").is_visible()
    assert not page.locator("#x").is_visible()
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate("scrollTo(0, 3000)")
    page.get_by_role("link", name="What should be different?").click()
    until(page, "document.querySelector('#x').getBoundingClientRect().top > 0")
    until(page, "document.querySelector('#x').getBoundingClientRect().bottom < innerHeight")
    # A value and its number stand apart there, too.
    page.locator("details.facets summary").click()
    assert page.locator(".facet .chip").first.evaluate(GAP) > 2


def test_queries_are_gone_through_and_recall_of_the_session_is_counted(page: Page) -> None:
    page.goto("/?c=garments")
    page.locator(".note a").click()
    page.locator(".session tbody tr").wait_for()
    assert page.locator(".session thead th").all_inner_texts()[2:] == ["R@1", "R@5", "R@10", "R@50"]
    first = page.url
    page.get_by_role("link", name="Next query").click()
    until(page, "document.querySelector('.session tbody td')?.textContent === '2'")
    assert not axe.Axe().run(page).response["violations"]
    page.get_by_role("link", name="Previous query").click()
    page.wait_for_url(first)
    until(page, "document.querySelector('.session tbody td')?.textContent === '2'")
    page.get_by_role("button", name="Begin anew").click()
    assert page.locator(".session").is_hidden()

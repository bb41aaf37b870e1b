"""The page in a real browser, over a real service: what people see, type and press."""

import csv
import io
import json
import re
import shutil

import pytest

from raydistill.serve import tokens
from raydistill.web.review import Asked, Queue
from tests.hosted import hosted

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(BROWSER is None, reason="there is no chromium on this machine"),
]
ATTACK = "<script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\">"


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def some(tiny):
    """Sentences of the test split with events, and how the cascade decides them."""
    rows = tiny.dataset.table("test")
    return rows.filter(rows["keep"]).to_pylist()[:60]


@pytest.fixture(scope="module")
def service(tiny):
    with hosted(tiny.release.folder) as url:
        yield url


@pytest.fixture
def page(chromium, service):
    """An open page of 1280 pixels; the test fails on any error in it or call outside."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    made = context.new_page()
    problems: list[str] = []
    made.on("pageerror", lambda problem: problems.append(str(problem)))
    made.on("request", lambda one: one.url.startswith(("http://127.0.0.1:", "blob:"))
            or problems.append(f"asks for {one.url}"))  # fmt: skip
    made.goto(service)
    yield made
    context.close()
    assert problems == []


def extract(page, *texts):
    page.fill("#text", "\n".join(texts))
    page.press("#text", "Control+Enter")
    page.wait_for_selector("#answer:not([hidden])")


def overflows(page):
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_sentences_come_back_with_marks_a_table_and_each_decision(page, some):
    texts = [row["text"] for row in some[:20]]
    extract(page, "Washington, D.C. 20549", *texts)
    assert page.locator("#sentences li").count() == 21
    assert "no keyword" in page.locator("#sentences li").first.inner_text()
    assert page.locator("#events tbody tr").count() > 0
    assert "ms in the service" in page.inner_text(".served")
    held = page.evaluate("""[...document.querySelectorAll("#sentences li")].map(li => {
        const words = li.querySelector(".words").cloneNode(true);
        words.querySelectorAll(".role").forEach(one => one.remove());
        return words.textContent})""")
    assert held == ["Washington, D.C. 20549", *texts]
    page.locator("#events tbody button").first.click()
    assert page.locator("mark.on").count() > 0
    page.locator("#filter label", has_text="Dropped").click()
    assert page.locator("#sentences li").count() < 21


def test_markup_in_a_sentence_is_text(page, some):
    extract(page, f"{ATTACK} {some[0]['text']}", f"😀 {some[1]['text']} 𝒳")
    first = page.locator("#sentences .words").first
    assert ATTACK in re.sub(r"(subject|object)", "", first.inner_text())
    assert page.locator("#sentences img, #sentences script").count() == 0
    assert page.title() == "raydistill"
    with pytest.raises(playwright.Error, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")


def test_a_mark_after_characters_outside_the_first_plane_is_where_it_should_be(page, service, some):
    from raydistill.client import Client

    texts = [f"😀😀 {row['text']}" for row in some[:30]]
    with Client(service) as client:
        answer = client.extract(texts)
    expected: list[str] = []
    for text, row in zip(texts, answer.results, strict=True):
        places = [place for one in row.spans for place in one.values()]
        covered = {at for start, end in places for at in range(start, end)}
        expected.append("".join(text[at] for at in sorted(covered)))
    assert any(expected)
    extract(page, *texts)
    marks = page.evaluate("""[...document.querySelectorAll("#sentences li")].map(li =>
        [...li.querySelectorAll("mark")].map(mark => mark.firstChild.textContent).join(""))""")
    assert marks == expected


def test_what_was_found_can_be_saved(page, some):
    extract(page, *[row["text"] for row in some[:20]], '=cmd()|"x", amended')
    with page.expect_download() as wanted:
        page.click("#save-json")
    made = json.loads(wanted.value.path().read_text())
    assert len(made["results"]) == 21
    found = sum(len(one["records"]) for one in made["results"])
    with page.expect_download() as wanted:
        page.click("#save-csv")
    lines = list(csv.DictReader(io.StringIO(wanted.value.path().read_text())))
    assert sum(line["ordinal"] != "" for line in lines) == found > 0
    assert lines[-1]["text"] == '\'=cmd()|"x", amended'


def test_a_filing_is_read_as_it_comes(page, some, tmp_path):
    file = tmp_path / "filing.htm"
    file.write_text("<html>" + "".join(f"<p>{row['text']}</p>" for row in some))
    page.set_input_files("#file", file)
    page.wait_for_selector(".filing")
    assert "filing.htm" in page.inner_text(".filing")
    assert int(page.inner_text(".funnel li:first-child b")) >= 50
    assert page.locator("#filter input:checked").get_attribute("value") == "records"
    page.evaluate("""async ([name, text]) => {
        const data = new DataTransfer();
        data.items.add(new File([text], name));
        dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true}))}""",
        ["dropped.txt", "\n\n".join(row["text"] for row in some[:5])])  # fmt: skip
    page.locator(".filing", has_text="dropped.txt").wait_for()
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"%PDF-1.4 \0\1\2")
    page.set_input_files("#file", broken)
    page.wait_for_selector("#problem:not([hidden])")


def test_tabs_and_colours_by_keyboard(page):
    page.focus("#tab-extract")
    page.keyboard.press("ArrowRight")
    page.locator("#review-empty", has_text="Review is off").wait_for()
    page.keyboard.press("ArrowRight")
    page.locator("#quality-empty", has_text="Nothing is measured").wait_for()
    assert page.locator("#review").is_hidden()
    page.keyboard.press("ArrowRight")
    assert page.locator("#tab-extract").get_attribute("aria-selected") == "true"
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light != dark
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_everything_has_a_name_and_nothing_is_wider_than_a_phone(page, some):
    page.set_viewport_size({"width": 390, "height": 844})
    extract(page, *[row["text"] for row in some[:12]], "x" * 300)
    assert not overflows(page)
    nameless = page.evaluate("""[...document.querySelectorAll("button, input, select, textarea")]
        .filter(one => one.checkVisibility() && !one.innerText?.trim()
            && !one.labels?.length && !one.getAttribute("aria-label"))
        .map(one => one.outerHTML)""")
    assert nameless == []


def test_a_wrong_token_is_asked_for_again_and_a_right_one_is_kept(chromium, tiny, some, tmp_path):
    secret = tokens.create(tmp_path / "tokens", "ann")
    with hosted(tiny.release.folder, tokens=str(tmp_path / "tokens")) as url:
        page = chromium.new_page()
        page.goto(url)
        page.fill("#text", some[0]["text"])
        page.click("#go")
        page.fill("#token", "rd_ann_wrong" + 20 * "x")
        page.keyboard.press("Enter")
        page.wait_for_selector("#problem:not([hidden])")
        page.click("#go")
        page.fill("#token", secret)
        page.keyboard.press("Enter")
        page.wait_for_selector("#answer:not([hidden])")
        page.reload()
        extract(page, some[1]["text"])
        assert page.evaluate("localStorage.length") == 0
        page.close()


@pytest.fixture
def reviewing(chromium, tiny, database, some):
    """A page at the review tab, and the queue behind it: five rows, the last without teacher."""
    queue = Queue(database, tiny.release.task)
    queue.prepare()
    asked = [
        Asked(
            sentence_id=row["id"], filing_id=row["group"], text=row["text"] + ATTACK,
            reason="disagreement" if at < 4 else "abstained", confidence=0.31, skip_score=0.8,
            teacher=row["answer"] if at < 4 else None, student='{"skip":true}',
        )
        for at, row in enumerate(some[:5])
    ]  # fmt: skip
    queue.add(asked, release=tiny.release.name)
    with hosted(tiny.release.folder, database=database) as url:
        context = chromium.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.goto(f"{url}#review")
        page.wait_for_selector("#row table")
        yield page, queue
        context.close()


def test_a_queue_is_reviewed_by_keyboard_alone(reviewing):
    page, queue = reviewing
    assert page.inner_text("#review-count") == "5"
    page.keyboard.press("a")
    assert "Your name" in page.inner_text(".complaint")
    page.keyboard.type("ann")
    page.keyboard.press("Tab")
    ids = [row["id"] for row in queue.listed()]

    def decided(key):
        with page.expect_response(lambda one: one.request.method == "POST"):
            page.keyboard.press(key)
        page.wait_for_selector(".toast")

    page.locator("#review-title").click()
    decided("a")
    page.keyboard.press("2")
    assert page.locator(".side.student").get_attribute("aria-pressed") == "true"
    decided("a")
    page.keyboard.press("e")
    page.select_option("#edit-0-timing", "anticipated")
    page.fill("#edit-0-event_date", "not a date")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".complaint")
    assert "event_date" in page.inner_text(".complaint")
    page.fill("#edit-0-event_date", "2021-05-03")
    page.locator("#row .words").click()
    decided("s")
    page.keyboard.press("j")
    assert "abstained" in page.inner_text("#row .about")
    page.keyboard.press("k")
    decided("n")
    decided("d")
    page.wait_for_selector(".done")
    decided_by = {row: queue.listed(state=row) for row in ("teacher", "student", "corrected")}
    assert [row["id"] for row in decided_by["teacher"]] == ids[:1]
    assert [row["id"] for row in decided_by["student"]] == ids[1:2]
    edited, none = decided_by["corrected"]
    assert edited["answer"]["events"][0]["timing"] == "anticipated"
    assert edited["answer"]["events"][0]["event_date"] == "2021-05-03"
    assert none["answer"] == {"skip": True}
    assert queue.counts()["dismissed"] == 1
    page.keyboard.press("u")
    page.wait_for_selector("#row table")
    assert queue.counts()["open"] == 1
    with page.expect_download() as wanted:
        page.click("#labels")
    assert wanted.value.path().read_text().count("ann") == 4
    assert page.title() == "raydistill"
    assert page.locator("#row img, #row script").count() == 0


def test_someone_elses_decision_is_not_overwritten_and_a_phone_shows_it_all(reviewing):
    page, queue = reviewing
    first = queue.next()
    queue.decide(first["id"], "student", reviewer="bob")
    page.fill("#reviewer", "ann")
    page.locator(".actions .primary").click()
    page.wait_for_selector(".complaint")
    assert "bob" in page.inner_text(".complaint")
    assert queue.listed(state="student")[0]["reviewer"] == "bob"
    page.set_viewport_size({"width": 390, "height": 844})
    assert not overflows(page)
    page.locator(".actions button", has_text="Edit").click()
    assert not overflows(page)
    page.click("#tab-quality")
    page.wait_for_selector("#figures .figure")
    assert not overflows(page)

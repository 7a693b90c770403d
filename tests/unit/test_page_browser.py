"""The page in a real browser, where there is one: no accessibility fault, no request, nothing too wide."""

import shutil

import pytest

from tests.unit.test_page import results, written  # noqa: F401

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser here: {', '.join(BROWSERS)}")


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as player:
        started = player.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_at_a_desk_and_on_a_telephone(results, browser, width):  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    written(results)
    page, asked = browser.new_page(viewport={"width": width, "height": 900}), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((results / "index.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert [url for url in asked if not url.startswith("data:")] == [(results / "index.html").as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    faults = [f"{fault['id']}: {fault['nodes'][0]['html']}" for fault in axe.Axe().run(page).response["violations"]]
    assert faults == []

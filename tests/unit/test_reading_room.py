"""The page's content, and the page itself in a headless Chromium, read with the keys that a person would use."""

import base64
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scangan.data.store import ImageSet
from scangan.errors import DataError
from scangan.facts import Facts
from scangan.metrics.reading import ANSWER_COLUMNS, read_reading, score_readers, simulate_reader
from scangan.report.reading_room import draw_cases, readers_table, write_reading_room
from scangan.report.tables import to_markdown

CLASSES = ("tumour", "non-tumour")


def image_set(kind, count=4, channels=1):
    """`count` images a class, each of one grey of its own, brighter at the right."""
    labels = np.repeat(CLASSES, count)
    base = np.linspace(0.2, 0.6, len(labels))[:, None, None, None] + (0.05 if kind == "synthetic" else 0)
    images = (base + np.linspace(0, 0.2, 16)).repeat(16, axis=2).repeat(channels, axis=1).astype(np.float32)
    names = [f"{kind}-secret-{number}" for number in range(len(labels))]
    manifest = pd.DataFrame(
        {"image_id": names, "patient_id": names, "label": labels, "source": kind, "data": "phantom"}
    )
    return ImageSet(images, manifest)


def write_room(folder, each=1, seed=0, channels=1):
    """A page of 4 x `each` images, and its answers."""
    real, synthetic = (image_set(kind, channels=channels) for kind in ("real", "synthetic"))
    cases = draw_cases(real, synthetic, each, CLASSES, seed)
    page = folder / "reading_room.html"
    return page, write_reading_room(page, cases, Facts("brain_mr", "phantom", "demo"), seed, CLASSES)


def content(page):
    """What the page knows."""
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="room">(.*?)</script>', text, re.DOTALL)[1])


def pixels(uri):
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_cases_are_balanced_and_drawn_once():
    cases = draw_cases(image_set("real"), image_set("synthetic"), 3, CLASSES, seed=5)
    counts = cases.manifest.groupby(["origin", "label"]).size()
    assert counts.to_dict() == {(origin, label): 3 for origin in ("real", "synthetic") for label in CLASSES}
    assert (cases.manifest["source"] == cases.manifest["origin"]).all()
    assert cases.manifest["image_id"].is_unique
    with pytest.raises(DataError, match="synthetic images of tumour: found 2, allowed: at least 3"):
        draw_cases(image_set("real"), image_set("synthetic", 2), 3, CLASSES, seed=5)


@pytest.mark.parametrize("channels", [1, 3])
def test_answers_name_the_image_that_the_page_shows(tmp_path, channels):
    page, path = write_room(tmp_path, each=2, channels=channels)
    answers = pd.read_csv(path)
    assert list(answers.columns) == ANSWER_COLUMNS
    assert list(answers["case"]) == list(range(1, 9))
    originals = ImageSet.concatenate([image_set(kind, channels=channels) for kind in ("real", "synthetic")])
    by_id = dict(zip(originals.manifest["image_id"], originals.images, strict=True))
    room = content(page)
    assert set(answers["set"]) == {room["set"]}
    for uri, row in zip(room["images"], answers.itertuples(), strict=True):
        assert row.image_id.startswith(row.origin)
        expected = np.rint(by_id[row.image_id] * 255).astype(np.uint8)
        shown = pixels(uri)
        np.testing.assert_array_equal(shown if channels == 3 else shown[..., None], np.moveaxis(expected, 0, -1))


def test_the_page_does_not_hold_the_truth(tmp_path):
    page, _ = write_room(tmp_path, each=4)
    room = content(page)
    assert set(room) == {"study", "data", "scale", "set", "classes", "images"}
    text = page.read_text(encoding="utf-8")
    assert "secret" not in text
    assert "{{" not in text
    for uri in room["images"]:
        raw, kinds, place = base64.b64decode(uri.split(",")[1]), set(), 8
        while place < len(raw):
            kinds.add(raw[place + 4 : place + 8])
            place += 12 + int.from_bytes(raw[place : place + 4], "big")
        assert kinds == {b"IHDR", b"IDAT", b"IEND"}  # no text, no time
    assert "http:" not in text
    assert "https:" not in text


def test_the_order_is_random_by_the_seed(tmp_path):
    orders = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _, answers = write_room(tmp_path / name, each=4, seed=seed)
        orders.append(pd.read_csv(answers))
    pd.testing.assert_frame_equal(orders[0], orders[1])
    assert orders[0].loc[0, "set"] != orders[2].loc[0, "set"]
    for order in orders:
        changes = (order[["origin", "label"]] != order[["origin", "label"]].shift()).any(axis=1).sum()
        assert changes > 6  # sorted, there would be four


@pytest.mark.parametrize(
    ("study", "classes", "message"),
    [
        ("a,b", CLASSES, "study: found 'a,b', allowed: letters"),
        ("brain", ("tumour", '"none"'), "class: found '\"none\"', allowed: letters"),
        ("brain", ("tumour", "healthy"), "label: found non-tumour, allowed: up to nine, here tumour, healthy"),
        ("brain", tuple("abcdefghij"), "label: found 10 classes, allowed: up to nine"),
    ],
)
def test_names_that_would_break_the_csv(tmp_path, study, classes, message):
    cases = draw_cases(image_set("real"), image_set("synthetic"), 1, CLASSES, seed=0)
    with pytest.raises(DataError, match=message):
        write_reading_room(tmp_path / "page.html", cases, Facts(study, "phantom", "demo"), 0, classes)
    assert not list(tmp_path.iterdir())


def test_the_table_for_people(tmp_path):
    _, answers = write_room(tmp_path, each=4)
    for number in (1, 2):
        simulate_reader(answers, tmp_path / f"{number}.csv", skill=1 / number, seed=0, number=number)
    table = readers_table(score_readers([tmp_path / "1.csv", tmp_path / "2.csv"], answers))
    first = table.iloc[0]
    assert first["accuracy"] == "100.0% [80.6%, 100.0%]"
    assert first["answers"] == "real 8 of 8 (non-tumour 4, tumour 4); synthetic 0 of 8 (non-tumour 0, tumour 0)"
    assert len(table) == 3 * 2 * 2
    assert table["reader"].str.contains("simulated").all()
    assert table.groupby("reader")["agreement"].sum().str.count("Cohen's kappa").to_dict() == {
        "all simulated": 2,
        "simulated": 0,
        "simulated 2": 0,
    }
    markdown = to_markdown(table, index=None)
    assert markdown.startswith("**brain_mr; phantom data, demo scale**")
    rows = [line for line in markdown.splitlines() if line.startswith("|")][2:]
    assert all("simulated" in row for row in rows)


# In a browser.

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"))
    ),
    None,
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found: install one, or name it in CHROMIUM")
FLAGS = [
    # The page is our own: the sandbox, which root and containers lack, protects from nothing here.
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-quic"),
]
KEY_CODES = {"Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}
KEY_CODES |= {"+": 187, ",": 188, "-": 189, ".": 190}
SHIFT = 8


class Browser:
    """A headless Chromium, driven by the DevTools protocol over a pair of pipes, which needs no library."""

    def __init__(self, folder):
        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        command, self._out = os.pipe()
        self._in, answer = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4, which may be in use here: copies above them.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (command, answer)]

        def connect():
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        flags = [*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self._process = subprocess.Popen(
            [CHROMIUM, *flags], preexec_fn=connect, close_fds=False, stderr=subprocess.DEVNULL
        )
        for end in (command, answer, *high):
            os.close(end)
        self._buffer, self._number, self._session = b"", 0, None
        self.requests = []
        (target,) = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        self.call("Page.enable")
        self.call("Network.enable")
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        self.size(1200, 900)

    def call(self, method, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                chunk = os.read(self._in, 2**16)
                assert chunk, "the browser has ended"
                self._buffer += chunk
            raw, _, self._buffer = self._buffer.partition(b"\0")
            found = json.loads(raw)
            if found.get("method") == "Network.requestWillBeSent":
                self.requests.append(found["params"]["request"]["url"])
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]

    def open(self, page):
        self.call("Page.navigate", url=page.as_uri())
        self.wait("document.readyState === 'complete' && document.title.startsWith('Reading room')")

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression, seconds=10):
        until = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < until, f"never true: {expression}"
            time.sleep(0.02)

    def press(self, *keys, modifiers=0):
        for key in keys:
            code = KEY_CODES.get(key) or ord(key.upper())
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            shared = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
            self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **shared)
            self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def size(self, width, height, mobile=False):
        facts = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.call("Emulation.setDeviceMetricsOverride", **facts)

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def text(self, element):
        return self.value(f"document.getElementById('{element}').textContent")

    def is_visible(self, element):
        return self.value(f"document.getElementById('{element}').checkVisibility()")

    def chosen(self):
        return self.value("[...document.querySelectorAll('[aria-pressed=true]')].map((b) => b.dataset.option)")

    def grey(self, x=0.5, y=0.5):
        """The value shown at a place of the canvas, in shares of its edge."""
        return self.value(
            "(() => { const c = document.getElementById('image');"
            f"return c.getContext('2d').getImageData(c.width * {x}, c.height * {y}, 1, 1).data[0]; }})()"
        )

    def close(self):
        self.call("Browser.close")
        self._process.wait(20)
        os.close(self._out)
        os.close(self._in)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


def start(browser, page, reader):
    browser.open(page)
    browser.value("document.getElementById('name').value = ''")
    browser.press(*reader, "Enter")
    browser.wait("document.getElementById('image').dataset.shown")


def shown(browser, case):
    """Wait until the case's image is drawn."""
    browser.wait(f"document.getElementById('image').dataset.shown === '{case}'")
    assert browser.text("place").startswith(f"Image {case} of ")


def exported(browser, name):
    path = browser.downloads / name
    until = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < until, f"no download: {list(browser.downloads.iterdir())}"
        time.sleep(0.02)
    return path


@needs_browser
def test_a_reading_from_the_name_to_the_table(browser, tmp_path):
    page, path = write_room(tmp_path)
    answers = pd.read_csv(path, dtype=str)
    browser.requests.clear()
    start(browser, page, "Ada B.")
    label_key = {label: str(number) for number, label in enumerate(CLASSES, start=1)}
    for row in answers.itertuples():
        shown(browser, row.case)
        assert browser.chosen() == []
        browser.press("e")  # not yet: nothing may be saved
        said = "rs"[(row.origin == "synthetic") ^ (row.case == "1")]  # wrong in the first case
        browser.press(said, label_key[row.label])
        assert browser.chosen() == [{"r": "real", "s": "synthetic"}[said], row.label]
        assert browser.text("answered") == f"{row.case} answered"
        browser.press("Enter")
    assert not list(browser.downloads.iterdir())
    browser.press("e")
    reading_path = exported(browser, "reading_brain_mr_Ada-B.csv")

    reading = read_reading(reading_path, answers)  # the page's signature is that of `sign`
    assert set(reading["reader"]) == {"Ada B."}
    assert reading["seconds"].between(0, 60).all()
    scores = score_readers([reading_path], path).set_index(["question", "metric", "group"])
    assert scores.loc[("origin", "accuracy", "all"), "count"] == 3
    assert scores.loc[("label", "accuracy", "all"), "value"] == 1
    # Nothing was asked of any network.
    assert all(url.startswith(("file:", "data:", "blob:")) for url in browser.requests)


@needs_browser
def test_progress_outlives_the_page(browser, tmp_path):
    page, _ = write_room(tmp_path, each=2)
    start(browser, page, "Ben")
    browser.press("r", "2", "ArrowRight", "s")
    shown(browser, 2)
    browser.press("p")
    assert browser.is_visible("paused")
    assert not browser.is_visible("image")
    browser.press("r")  # no answer is taken while paused
    browser.press("p")
    assert browser.chosen() == ["synthetic"]

    browser.open(page)  # as if closed, and opened another day: the name is still there
    assert browser.value("document.getElementById('name').value") == "Ben"
    browser.press("Enter")
    shown(browser, 2)
    assert browser.chosen() == ["synthetic"]
    assert browser.text("answered") == "1 answered"
    browser.press("ArrowLeft")
    shown(browser, 1)
    assert browser.chosen() == ["real", "non-tumour"]
    browser.press("1")  # an answer may be changed
    assert browser.chosen() == ["real", "tumour"]
    browser.press("Enter")  # the next without an answer
    shown(browser, 2)

    start(browser, page, "Cleo")  # another reader in the same browser begins at the beginning
    shown(browser, 1)
    assert browser.chosen() == []
    other, _ = write_room(tmp_path / "other", each=2, seed=9)
    start(browser, other, "Ben")  # and so does the same one with other images
    assert browser.text("answered") == "0 answered"


@needs_browser
def test_time_counts_only_while_the_image_is_seen(browser, tmp_path):
    page, _ = write_room(tmp_path)
    start(browser, page, "Eve")
    times = "JSON.parse(Object.entries(localStorage).find(([key]) => key.endsWith('/Eve'))[1]).answers[0].milliseconds"
    browser.press("p")
    before = browser.value(times)
    time.sleep(0.3)
    browser.press("p")
    assert browser.value(times) == before
    time.sleep(0.3)
    browser.press("r")
    assert browser.value(times) >= before + 300


@needs_browser
def test_names_that_the_page_does_not_take(browser, tmp_path):
    page, _ = write_room(tmp_path)
    browser.open(page)
    for name, message in (("=1", "Letters, digits"), ("Simulated 2", "kept for simulated readers"), ("", "Letters")):
        browser.value("document.getElementById('name').value = ''")
        browser.press(*name, "Enter")
        assert message in browser.text("name-error")
        assert not browser.is_visible("reading")


@needs_browser
def test_zoom_and_window_by_keys(browser, tmp_path):
    page, _ = write_room(tmp_path)
    start(browser, page, "Dan")
    image = pixels(content(page)["images"][0]).astype(float)
    middle = image[8, 7:9].mean()
    assert browser.grey() == pytest.approx(middle, abs=2)
    browser.press("ArrowUp", "ArrowUp")  # brighter by twice 8
    assert browser.grey() == pytest.approx(middle + 16, abs=2)
    browser.press("0", ".", ".")  # 0.81 of the width about the centre
    assert browser.grey() == pytest.approx((middle - 127.5) / 0.81 + 127.5, abs=2)
    browser.press("0", ",", "ArrowDown")
    assert browser.grey() == pytest.approx((middle - 119.5 - 16) * 0.9 + 127.5, abs=2)
    browser.press("0")
    right = browser.grey(0.9)
    browser.press(*["+"] * 4)  # 2.44 times: what was 0.4 from the middle is out of sight
    assert browser.grey(0.9) == pytest.approx(image[8, round(16 * (0.5 + 0.4 / 1.25**4) - 0.5)], abs=3)
    browser.press(*["ArrowRight"] * 40, modifiers=SHIFT)  # to the right edge, and no further
    assert browser.grey(0.995) == pytest.approx(image[8, 15], abs=2)
    assert browser.text("place") == "Image 1 of 4"  # with Shift, arrows do not turn the page
    browser.press(*["-"] * 9)
    assert browser.grey(0.9) == right
    assert browser.chosen() == []


@needs_browser
def test_zoom_and_window_by_mouse(browser, tmp_path):
    page, _ = write_room(tmp_path)
    start(browser, page, "Fay")
    box = browser.value("document.getElementById('image').getBoundingClientRect().toJSON()")
    x, y = box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2
    before = browser.grey(0.9)
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-400)
    browser.wait("!document.getElementById('view').textContent.startsWith('zoom 1.0')")
    assert browser.grey(0.9) == pytest.approx(before, abs=3)  # the point under the wheel stays
    browser.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
    browser.mouse("mouseMoved", x, y - box["height"] * 0.1, button="left", buttons=1)
    browser.mouse("mouseReleased", x, y - box["height"] * 0.1, button="left", buttons=0, clickCount=1)
    assert browser.grey(0.9) == pytest.approx(before + 25.5, abs=3)  # up: brighter

    # A mouse click on an answer leaves the Enter key to the reading.
    place = browser.value("document.querySelector('[data-option=real]').getBoundingClientRect().toJSON()")
    for kind in ("mousePressed", "mouseReleased"):
        browser.mouse(kind, place["x"] + 9, place["y"] + 9, button="left", clickCount=1)
    assert browser.chosen() == ["real"]
    browser.press("1", "Enter")
    shown(browser, 2)


@needs_browser
def test_two_fingers_zoom(browser, tmp_path):
    page, _ = write_room(tmp_path)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    start(browser, page, "Ina")
    box = browser.value("document.getElementById('image').getBoundingClientRect().toJSON()")

    def touch(kind, *shares):
        points = [{"x": box["x"] + share * box["width"], "y": box["y"] + box["height"] / 2} for share in shares]
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    touch("touchStart", 0.4, 0.6)
    touch("touchMove", 0.3, 0.7)
    touch("touchEnd")
    browser.wait("document.getElementById('view').textContent.startsWith('zoom 2.0, window 255, centre 128')")
    browser.call("Emulation.setTouchEmulationEnabled", enabled=False)


@needs_browser
def test_a_browser_that_keeps_nothing_is_named(browser, tmp_path):
    page, _ = write_room(tmp_path)
    broken = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }"
    script = browser.call("Page.addScriptToEvaluateOnNewDocument", source=broken)
    start(browser, page, "Jo")
    browser.press("r")
    assert browser.is_visible("storage-note")
    assert browser.chosen() == ["real"]
    browser.value("storageWorks = true")  # else the page asks before it is left
    browser.call("Page.removeScriptToEvaluateOnNewDocument", **script)


@needs_browser
def test_keyboard_alone_reaches_the_buttons(browser, tmp_path):
    page, _ = write_room(tmp_path)
    start(browser, page, "Gil")
    browser.press("Tab")
    assert browser.value("document.activeElement.dataset.option") == "real"
    browser.press("Enter")  # of the button that has the focus
    assert browser.chosen() == ["real"]
    shown(browser, 1)


@needs_browser
@pytest.mark.parametrize(("width", "height"), [(360, 740), (740, 360), (1200, 900)])
def test_it_fits_the_screen(browser, tmp_path, width, height):
    page, _ = write_room(tmp_path)
    browser.size(width, height, mobile=width < 1000)
    start(browser, page, "Hal")
    assert browser.value("document.documentElement.scrollWidth") <= width
    box = browser.value("document.getElementById('image').getBoundingClientRect().toJSON()")
    assert box["width"] == pytest.approx(box["height"])
    assert box["width"] > 0.4 * min(width, height)
    assert box["bottom"] <= height
    browser.size(1200, 900)


@needs_browser
def test_sha256_of_long_and_foreign_names(browser, tmp_path):
    page, _ = write_room(tmp_path)
    browser.open(page)
    for text in ("", "abc", "Jürgen Ødegård 李", "x" * 55, "x" * 56, "x" * 64, "y" * 100_000):
        assert browser.value(f"sha256({json.dumps(text)})") == hashlib.sha256(text.encode()).hexdigest()

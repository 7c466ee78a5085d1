import re
import shutil

import numpy as np
import pytest
from PIL import Image

from pneumo_keras.data.phantom import PhantomImages

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium on this machine"),
]
ADDRESS = re.compile(r"data:image/png;base64,.{500,}")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["wide", "narrow"])
def page(browser, address, request):
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    page.faults, page.asked = [], []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("console", lambda said: page.faults.append(said.text) if said.type == "error" else None)
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.goto(address)
    yield page
    page.close()


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "an image <b>.png"
    Image.fromarray(PhantomImages(2, 300, 5).read(slice(0, 1))[0]).save(path)
    return path


def wait_for_answer(page):
    page.wait_for_selector("#answer:not([hidden])", timeout=20_000)


def test_an_image_gets_its_score_prediction_and_map(page, image):
    page.set_input_files("#file", image)
    wait_for_answer(page)
    assert page.text_content("#name") == "an image <b>.png"
    probability, threshold = (float(page.text_content(f"#{name}")) for name in ("probability", "threshold"))
    assert page.text_content("#prediction") == ("pneumonia" if probability > threshold else "normal")
    for picture in ("image", "map"):
        assert ADDRESS.match(page.get_attribute(f"#{picture}", "src"))
        assert page.evaluate(f"document.getElementById('{picture}').naturalWidth") > 100
    assert "not where the disease is" in page.text_content("#caveat")
    assert page.faults == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_nothing_is_fetched_from_elsewhere(page, image, address):
    page.set_input_files("#file", image)
    wait_for_answer(page)
    assert all(url.startswith((address, "data:", "blob:")) for url in page.asked)


def test_an_example_gets_its_answer(page):
    page.click("[data-example='1']")
    wait_for_answer(page)
    assert page.text_content("#name") == "Example 2"


def test_a_broken_file_gets_its_reason_and_the_page_goes_on(page, image, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(image.read_bytes()[:500])
    page.set_input_files("#file", broken)
    page.wait_for_selector("#status.failed")
    assert page.text_content("#status").startswith("broken.png: it cannot be decoded")
    assert page.is_hidden("#answer")
    page.set_input_files("#file", image)
    wait_for_answer(page)
    assert page.text_content("#status") == ""


def test_a_picture_that_is_no_image_is_not_to_be_believed(page, tmp_path):
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)).save(path)
    page.set_input_files("#file", path)
    wait_for_answer(page)
    assert "outside the range of the training images (" in page.text_content("#warning")


def test_what_is_too_large_is_refused(page, tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(bytes(2 * 2**20))
    page.set_input_files("#file", path)
    page.wait_for_selector("#status.failed")
    assert page.text_content("#status") == "large.png: the file has more than 1 MB"

"""The notebooks in a real JupyterLab in a real Chromium, which can reach no other machine."""

import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

from llmlab import LabError
from tests.tools import browser
from tests.tools.notebooks import execute

pytestmark = pytest.mark.browser

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
# A proxy that nobody answers at: what a kernel asks of the outside fails at once.
CUT = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
CUT |= {"NO_PROXY": "127.0.0.1,localhost"}

# What `views.live` draws: its controls, and below them what the function returned.
PANEL = f"{browser.SCROLLER} .jp-OutputArea-output > .widget-vbox"

# The smallest contrast of any text in an element with what lies behind it, as WCAG defines it.
CONTRAST = """element => {
    const parse = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = rgb => rgb.slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = node => {
        for (; node; node = node.parentElement) {
            const colour = parse(getComputedStyle(node).backgroundColor);
            if (colour.length < 4 || colour[3] > 0.99) return colour;
        }
        return [255, 255, 255];
    };
    const words = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    let least = Infinity;
    while (words.nextNode()) {
        const node = words.currentNode.parentElement;
        if (!words.currentNode.data.trim() || !node.offsetParent) continue;
        const pair = [light(parse(getComputedStyle(node).color)), light(behind(node))];
        least = Math.min(least, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05));
    }
    return least;
}"""


@pytest.fixture(scope="module", autouse=True)
def chromium():
    """Without a browser one plain sentence instead of a page of traceback."""
    missing = ""
    try:
        browser.chromium()
    except LabError as error:
        missing = str(error)
    if missing:
        pytest.fail(missing, pytrace=False)


def drawn(element):
    """Whether more than one plain colour is to be seen in an element."""
    pixels = np.asarray(Image.open(io.BytesIO(element.screenshot())).convert("L"), dtype=float)
    return pixels.std() > 4


def outputs(page):
    """What the code cells show, in order."""
    return page.page.locator(f"{browser.SCROLLER} .jp-OutputArea-output")


def test_the_course_has_its_first_rooms():
    names = [path.stem for path in NOTEBOOKS]
    assert names[:3] == ["00_welcome", "01_tokenization", "02_forward_pass"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, tmp_path):
    copy = tmp_path / path.name  # autosave must not write into the repository
    copy.write_bytes(path.read_bytes())
    with browser.notebook(str(copy), tmp_path / "state", environment=CUT) as page:
        # As it opens: a picture or a model's output stands whole on the first screen.
        visible = page.page.evaluate(
            """scroller => {
                const bottom = document.querySelector(scroller).getBoundingClientRect().bottom;
                const margin = 8;  // below an output stands an empty strip of this height
                return [...document.querySelectorAll(scroller + ' .jp-OutputArea-output')]
                    .filter(output => output.getBoundingClientRect().bottom <= bottom + margin)
                    .filter(output => output.clientHeight > 0).length;
            }""",
            browser.SCROLLER,
        )
        assert visible >= 2, "beside what the set-up cell prints, an output on the first screen"

        page.run_all()
        assert page.failed() == []
        assert page.errors() == 0
        for theme in browser.THEMES:
            page.theme(theme)
            for output in outputs(page).all():
                if output.is_visible() and (box := output.bounding_box()) and box["height"] > 0:
                    assert output.evaluate(CONTRAST) >= 4.5, (theme, output.inner_text()[:80])
            pictures = page.page.locator(f"{browser.SCROLLER} .jp-OutputArea-output img")
            # (where a script draws, as in the explorer, its picture for those without is hidden)
            assert all(drawn(picture) for picture in pictures.all() if picture.is_visible())
        source = "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code")
        # A panel with buttons (a chat, a stop) waits for a person: test_browser_sampler has it.
        panels = page.page.locator(PANEL).filter(has_not=page.page.locator("button"))
        assert panels.count() == len(re.findall(r"views\.live\(", source))
        for panel in panels.all():
            assert moves(page, panel)
        assert page.errors() == 0
        assert page.problems == []
        assert page.outside == []


def moves(page, panel):
    """Use a panel's first control; whether what it shows changes."""
    panel.scroll_into_view_if_needed()
    shown = panel.locator(".widget-html-content").last
    before = shown.inner_html()
    control = panel.locator("input[type=text], textarea, .noUi-handle, select, input").first
    control.focus()
    kind = control.evaluate("node => node.tagName + ' ' + (node.type || '')").lower()
    if "text" in kind:
        control.press("End")
        control.press_sequentially(" Zebras?")
        control.press("Enter")
    elif "select" in kind:
        control.select_option(index=1)
    else:
        control.press("ArrowRight")
    for _ in range(100):
        page.page.wait_for_timeout(200)
        if shown.inner_html() != before:
            return True
    return False


def write(path, cells):
    """A notebook of these code cells."""
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernel}
    )
    nbformat.write(notebook, path)
    return str(path)


def test_views_react_and_read_in_both_themes(tmp_path):
    """The tokens view and live panels, in a notebook of their own: each control does something."""
    cells = [
        "import llmlab\nllmlab.setup()",
        "llmlab.views.tokens(['Hello', ',', ' lab'], [0.1, 0.5, 0.9], ids=[15496, 11, 2248])",
        "def shout(text): return text.upper()\nllmlab.views.live(shout, text='quiet')",
        "def square(number): return number**2\nllmlab.views.live(square, number=(0, 100))",
        "def pick(word): return word[::-1]\nllmlab.views.live(pick, word=['stressed', 'drawer'])",
        "llmlab.plots.bars(['Paris', 'Rome'], [0.8, 0.2], alt='Paris 0.8, Rome 0.2')",
    ]
    path = write(tmp_path / "views.ipynb", cells)
    with browser.notebook(path, tmp_path / "state", environment=CUT) as page:
        page.run_all()
        assert page.failed() == []
        # A panel with buttons (a chat, a stop) waits for a person: test_browser_sampler has it.
        panels = page.page.locator(PANEL).filter(has_not=page.page.locator("button"))
        assert panels.count() == 3
        assert all(moves(page, panel) for panel in panels.all())
        assert "QUIET ZEBRAS?" in panels.nth(0).inner_text()
        assert "2601" in panels.nth(1).inner_text()  # from 50² to 51²
        assert "reward" in panels.nth(2).inner_text()
        assert page.page.locator('[title*="15496"]').count() == 1  # the id, on hover
        for theme in browser.THEMES:
            page.theme(theme)
            shown = [o for o in outputs(page).all() if o.is_visible()]
            assert len(shown) >= 6
            assert all(drawn(output) for output in shown)
            assert min(output.evaluate(CONTRAST) for output in shown) >= 4.5
        assert (page.errors(), page.problems, page.outside) == (0, [], [])


def test_a_stored_answer_is_folded_until_the_guess_cell_runs(tmp_path):
    cells = ["guess = None  # your number\nprint('the answer is', 41 + 1)", "print('no secret')"]
    path = write(tmp_path / "guess.ipynb", cells)
    execute(Path(path))
    with browser.notebook(path, tmp_path / "state") as page:
        answer = outputs(page).filter(has_text="the answer is 42")
        assert outputs(page).filter(has_text="no secret").is_visible()
        assert answer.count() == 0 or not answer.is_visible()
        page.run_all()
        assert answer.is_visible()


def test_a_javascript_error_and_an_outside_address_are_seen(tmp_path):
    """The tests above could fail: the page's faults do show up."""
    cells = [
        "from IPython.display import HTML, Javascript\nJavascript('throw new Error(7)')",
        "HTML('<img src=\"https://llmlab.invalid/picture.png\">')",
        "HTML('<p style=\"color:#ccc;background:#fff\">pale</p>')",
        "1 / 0",
    ]
    path = write(tmp_path / "faults.ipynb", cells)
    with browser.notebook(path, tmp_path / "state") as page:
        page.run_all()
        assert page.errors() == 1
        assert page.failed() == ["ZeroDivisionError: division by zero"]
        assert set(page.outside) == {"https://llmlab.invalid/picture.png"}
        assert outputs(page).filter(has_text="pale").evaluate(CONTRAST) < 2

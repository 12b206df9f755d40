"""The attention explorer and bertviz in a real JupyterLab and on a plain page, without network."""

import io
import json
import os
from pathlib import Path

import nbformat
import numpy
import pytest
from PIL import Image

from llmlab import LabError
from llmlab.views import attention, bertviz
from tests.tools import browser

pytestmark = pytest.mark.browser

CUT = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")}
CUT |= {"NO_PROXY": "127.0.0.1,localhost"}
WORDS = "['The', ' animal', ' was', ' tired', ' and', ' it', ' sat', ' down']"

# A small model's weights, with its queries and keys, made in the notebook itself.
MADE = f"""
import numpy, llmlab
llmlab.setup()
tokens = {WORDS}
draw = numpy.random.default_rng(0)
query, key = draw.normal(size=(2, 4, 6, 8, 16)) * 2
scores = query @ key.swapaxes(-1, -2) / 4
scores[..., numpy.triu(numpy.ones((8, 8), bool), 1)] = -numpy.inf
weights = numpy.exp(scores - scores.max(-1, keepdims=True))
weights /= weights.sum(-1, keepdims=True)
"""
EXPLORER = "llmlab.views.attention(weights, tokens, query=query, key=key, layer=1, head=2)"

# How far a page is, in milliseconds after it began to load, when its view is drawn.
WATCH = """() => new Promise((yes) => {
    const look = () => document.querySelector('[data-live=drawn]')
        ? requestAnimationFrame(() => yes(performance.now())) : setTimeout(look, 2);
    look();
})"""


@pytest.fixture(scope="module", autouse=True)
def program():
    """Chromium's path; without a browser one plain sentence instead of a page of traceback."""
    missing = ""
    try:
        return browser.chromium()
    except LabError as error:
        missing = str(error)
    return pytest.fail(missing, pytrace=False)


@pytest.fixture  # closed after each test: JupyterLab's test starts a Playwright of its own
def chrome(program):
    """A browser for plain pages that can reach no other machine."""
    from playwright.sync_api import sync_playwright

    flags = ["--host-resolver-rules=MAP * ~NOTFOUND"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # containers
        flags.append("--no-sandbox")
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=program, args=flags)
        yield started
        started.close()


class Plain:
    """A page that holds one view and nothing else."""

    def __init__(self, chrome, folder, html, dark=False):
        colours = "background:#111111;color:#e0e0e0" if dark else ""
        path = Path(folder) / "page.html"
        path.write_text(
            f'<!DOCTYPE html><meta charset="utf-8"><body style="{colours}">{html}', encoding="utf-8"
        )
        self.problems, self.outside = [], []
        self.page = chrome.new_page(viewport=browser.SIZE)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda m: m.type == "error" and self.problems.append(m.text))
        self.page.on("request", self._note)
        counters = self.page.context.new_cdp_session(self.page)
        counters.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.page.goto(path.as_uri())
        waited = self.page.evaluate(WATCH)
        values = {m["name"]: m["value"] for m in counters.send("Performance.getMetrics")["metrics"]}
        # Where other programs hold the processors, what the page itself used counts.
        self.milliseconds = min(waited, 1000 * values["ProcessTime"])

    def _note(self, request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.outside.append(request.url)

    def says(self):
        return self.page.locator("[role=status]").first.inner_text()


def pixels(element):
    return numpy.asarray(Image.open(io.BytesIO(element.screenshot())).convert("RGB")).astype(int)


def part(page, name):
    return page.locator(f"[data-part={name}]").first


def model(layers, heads, length, seed=0):
    """Causal weights of a random model."""
    draw = numpy.random.default_rng(seed)
    scores = draw.normal(size=(layers, heads, length, length)).astype(numpy.float32) * 2
    scores[..., numpy.triu(numpy.ones((length, length), bool), 1)] = -numpy.inf
    shares = numpy.exp(scores - scores.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


# ---- a plain page -----------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "limit"), [(64, 500), (256, 2000)])
def test_it_draws_in_time(chrome, tmp_path, length, limit):
    view = attention(model(30, 9, length), [f" token{i}" for i in range(length)])
    best = min(Plain(chrome, tmp_path, view.html).milliseconds for _ in range(3))
    print(f"{length} tokens: {len(view.html) / 1e6:.2f} MB, drawn after {best:.0f} ms")
    assert best < limit


def test_what_it_says_are_the_weights(chrome, tmp_path):
    weights = model(3, 4, 6)
    names = ["a", "b", "c", "d", "e", "f"]
    plain = Plain(chrome, tmp_path, attention(weights, names, layer=2, head=1).html)
    part(plain.page, "detail").focus()
    for _ in range(5):
        plain.page.keyboard.press("ArrowDown")
    for _ in range(3):
        plain.page.keyboard.press("ArrowRight")
    assert plain.says().startswith("Layer 2, head 1: weight from “e” (token 4) to “c” (token 2)")
    said = float(plain.says().rstrip(".").rsplit(" ", 1)[1])
    assert abs(said - weights[2, 1, 4, 2]) <= 0.002 + 0.005
    for _ in range(3):
        plain.page.keyboard.press("ArrowRight")
    assert "“e” (token 4) to “f” (token 5) is masked" in plain.says()
    plain.page.keyboard.press("Escape")
    assert "Point at a token" in plain.says()
    assert (plain.problems, plain.outside) == ([], [])


def test_the_matrix_shows_the_weights_and_the_mask(chrome, tmp_path):
    weights = numpy.zeros((1, 1, 4, 4))
    weights[0, 0] = [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]]
    view = attention(weights, list("abcd"))
    for dark in (False, True):
        plain = Plain(chrome, tmp_path, view.html, dark)
        shot = pixels(part(plain.page, "detail")).sum(-1) / 3
        # the four rows of cells, 34 pixels each, end 8 pixels above the canvas's lower edge
        canvas = part(plain.page, "detail").bounding_box()
        x0, y0 = canvas["width"] - 12 - 4 * 34, canvas["height"] - 8 - 4 * 34
        cell = [
            [shot[int(y0 + r * 34 + 5), int(x0 + c * 34 + 5)] for c in range(4)] for r in range(4)
        ]
        full, none, masked = cell[3][2], cell[3][0], cell[0][3]
        assert (full > none + 100) if dark else (full < none - 100)
        assert abs(masked - none) > 12
        hatched = shot[int(y0) + 2 : int(y0) + 30, int(x0) + 72 : int(x0) + 132]
        assert hatched.std() > 5


def test_it_is_far_smaller_and_faster_than_bertviz(chrome, tmp_path):
    """Of the same 16 tokens, drawn in the same browser: `make bench` has the 64 of the budget."""
    weights, names = model(30, 9, 16), [f"t{i}" for i in range(16)]
    ours, theirs = attention(weights, names), bertviz("model", weights, names)
    drawn = {
        view: min(Plain(chrome, tmp_path, view.html).milliseconds for _ in range(2))
        for view in (ours, theirs)
    }
    assert drawn[theirs] > 3 * drawn[ours]  # 7 here, mostly the page itself; 77 at 64 tokens
    plain = Plain(chrome, tmp_path, theirs.html)
    nodes = "() => document.querySelectorAll('*').length"
    assert plain.page.evaluate(nodes) > 100 * Plain(chrome, tmp_path, ours.html).page.evaluate(
        nodes
    )


def test_padding_is_drawn_and_named(chrome, tmp_path):
    weights = numpy.zeros((2, 2, 5, 5))
    weights[..., :3, :3] = numpy.random.default_rng(0).dirichlet(numpy.ones(3), size=(2, 2, 3))
    weights[..., 3:, :] = 0.2  # a row of padding looks at everything: it does not count
    tokens = ["[CLS]", "it", "[SEP]", "[PAD]", "[PAD]"]
    mask = [1, 1, 1, 0, 0]
    view = attention(
        weights, tokens, attention_mask=mask, query=numpy.ones((2, 5, 4)), key=numpy.ones((2, 5, 4))
    )
    plain = Plain(chrome, tmp_path, view.html)
    detail = part(plain.page, "detail")
    shot = pixels(detail).sum(-1) / 3
    # cells of 34 pixels; the last of them ends 12 and 8 pixels before the canvas's corner
    box = detail.bounding_box()
    x0, y0 = int(box["width"]) - 12 - 5 * 34, int(box["height"]) - 8 - 5 * 34

    def stripes(q, k):  # how much the brightness changes along a line without letters
        return shot[y0 + q * 34 + 4, x0 + k * 34 + 3 : x0 + k * 34 + 31].std()

    for q, k in [(0, 3), (2, 4), (3, 0), (4, 4)]:
        assert stripes(q, k) > 3, (q, k)
    for q, k in [(0, 0), (1, 2), (2, 1)]:
        assert stripes(q, k) < 1, (q, k)
    assert "Hatched: padding, masked." in plain.page.locator(".help").last.inner_text()
    detail.focus()
    for key, said in [
        ("ArrowRight", "“[CLS]” (token 0) is looked at most by"),
        ("End", ""),
        ("ArrowRight", "“it” (token 1) is looked at most by"),
        ("ArrowRight", "“[SEP]” (token 2) is looked at most by"),
        ("ArrowRight", "“[PAD]” (token 3) is padding: masked, no token looks at it."),
        ("ArrowDown", "“[CLS]” (token 0) to “[PAD]” (token 3) is masked: padding."),
        ("Escape", "Point at a token"),
    ]:
        plain.page.keyboard.press(key)
        assert said in plain.says()
    for _ in range(4):
        plain.page.keyboard.press("ArrowDown")
    assert plain.says().endswith("“[PAD]” (token 3) is padding: masked.")
    plain.page.get_by_label("Head as").select_option("lines")
    plain.page.get_by_label("Head as").select_option("qk")
    assert plain.problems == []


# What Colab's and VS Code's documentation and sources say of their outputs, as a page.
COLAB = """<iframe sandbox="allow-scripts allow-downloads" width="1200" height="700"></iframe>
<script>document.querySelector('iframe').srcdoc = '<!DOCTYPE html><html theme="dark">'
    + '<body>' + {html};</script>"""
VS_CODE = """<div id="output"></div><script>
    document.body.classList.add('vscode-dark');
    const output = document.querySelector('#output');
    output.innerHTML = {html};
    for (const old of output.querySelectorAll('script')) {{
        const script = document.createElement('script');
        script.text = old.innerText;
        script.type = old.type;
        output.append(script);
        script.remove();
    }}</script>"""


@pytest.mark.parametrize("host", [COLAB, VS_CODE], ids=["a frame", "scripts made anew"])
@pytest.mark.parametrize("kind", ["explorer", "bertviz"])
def test_in_outputs_made_like_colabs_and_vs_codes(chrome, tmp_path, host, kind):
    weights = model(2, 3, 5)
    view = attention(weights, list("abcde"), layer=0, head=0)
    if kind == "bertviz":
        view = bertviz("head", weights, list("abcde"))
    path = tmp_path / "page.html"
    literal = json.dumps(view.html).replace("</", "<\\/")
    path.write_text('<!DOCTYPE html><meta charset="utf-8"><body>' + host.format(html=literal))
    page = chrome.new_page(viewport=browser.SIZE)
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(path.as_uri())
    inside = page.frame_locator("iframe") if host is COLAB else page
    inside.locator("[data-live=drawn]").wait_for()
    if kind == "explorer":
        inside.locator("[data-part=overview]").press("ArrowDown")
        assert inside.locator("[role=status]").inner_text().startswith("Layer 0, head 1")
        # no background says that the theme is dark: the page's own mark does
        assert inside.locator(".help").last.inner_text().count("lighter is more") == 1
    else:
        assert inside.locator("svg #attention line").count() == 3 * 5 * 5
    assert problems == []


def test_filters_and_links_of_a_sentence_pair(chrome, tmp_path):
    draw = numpy.random.default_rng(0)
    weights = draw.dirichlet(numpy.ones(6), size=(3, 4, 6))
    view = attention(weights, list("abcdef"), sentence_b_start=3, layer=0, head=0)
    plain = Plain(chrome, tmp_path, view.html)
    page = plain.page
    whole = part(page, "overview").bounding_box()["width"]
    page.get_by_label("Layers").select_option("2")
    page.get_by_label("Heads", exact=True).select_option("3")
    assert plain.says().startswith("Layer 2, head 3")
    assert part(page, "overview").bounding_box()["width"] < whole / 2
    part(page, "detail").focus()
    page.keyboard.press("ArrowDown")
    page.get_by_label("Links").select_option("AB")
    best = numpy.argsort(-weights[2, 3, 0, 3:])[0] + 3
    assert f"looks most at “{'abcdef'[best]}”" in plain.says()
    assert all(f"“{name}” 0" not in plain.says() for name in "abc")
    assert plain.problems == []


def test_cross_attention_draws_two_rows_of_tokens(chrome, tmp_path):
    weights = numpy.random.default_rng(0).dirichlet(numpy.ones(5), size=(2, 2, 3))
    view = attention(weights, ["le", "chat", "dort"], ["the", "cat", "is", "asleep", "."])
    plain = Plain(chrome, tmp_path, view.html)
    plain.page.get_by_label("Head as").select_option("lines")
    detail = part(plain.page, "detail")
    box = detail.bounding_box()
    # the last key token, which has no query token beside it
    plain.page.mouse.move(box["x"] + box["width"] - 120, box["y"] + 48 + 20 * 4.5)
    plain.page.wait_for_timeout(100)
    assert "“.” (token 4) is looked at most by" in plain.says()
    plain.page.mouse.move(box["x"] + 30, box["y"] + 48 + 20 * 1.5)
    plain.page.wait_for_timeout(100)
    assert "“chat” (token 1) looks most at" in plain.says()
    assert plain.problems == []


def test_buttons_save_png_svg_and_a_page_of_its_own(chrome, tmp_path):
    view = attention(model(2, 3, 5), ["<b>", "&", "c", "d", "e"], layer=1, head=2)
    plain = Plain(chrome, tmp_path, view.html, dark=True)
    saved = {}
    for name in ("PNG", "SVG", "HTML"):
        with plain.page.expect_download() as waiting:
            plain.page.get_by_role("button", name=name).click()
        saved[name] = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(saved[name])
    assert saved["PNG"].name == "attention-layer1-head2.png"
    image = numpy.asarray(Image.open(saved["PNG"]).convert("L"))
    assert image[2, -2] == 255  # white paper, although the theme is dark
    assert image.std() > 20
    svg = chrome.new_page()
    svg.goto(saved["SVG"].as_uri())
    assert svg.locator("text").all_text_contents().count("<b>") == 2  # as query and as key
    assert svg.locator("rect").count() > 20
    again = chrome.new_page()
    again.goto(saved["HTML"].as_uri())
    again.wait_for_selector("[data-live=drawn]")
    assert again.locator("main h1").count() == 1  # landmarks that a screen reader jumps to
    assert again.locator("main table caption").count() == 2
    part(again, "overview").focus()
    again.keyboard.press("ArrowLeft")
    assert again.locator("[role=status]").inner_text().startswith("Layer 0, head 2")
    assert "http" not in saved["HTML"].read_text().replace("http://www.w3.org/2000/svg", "")


def test_what_it_draws_are_the_weights_and_products(chrome, tmp_path):
    """Read from the SVG, which the same strokes make as the screen."""
    draw = numpy.random.default_rng(3)
    query, key = draw.normal(size=(3, 4, 6, 8)) * 2, draw.normal(size=(3, 2, 6, 8))
    shared = key.repeat(2, axis=1)  # two heads of queries read one of keys
    scores = query @ shared.swapaxes(-1, -2) / 8**0.5
    scores[..., numpy.triu(numpy.ones((6, 6), bool), 1)] = -numpy.inf
    weights = numpy.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    view = attention(weights, list("abcdef"), query=query, key=key, layer=2, head=3)
    page = Plain(chrome, tmp_path, view.html).page
    svg = chrome.new_page()

    def saved(mode):
        page.get_by_label("Head as").select_option(mode)
        with page.expect_download() as waiting:
            page.get_by_role("button", name="SVG").click()
        waiting.value.save_as(tmp_path / "saved.svg")
        svg.goto((tmp_path / "saved.svg").as_uri())
        return svg.locator("text").all_text_contents()

    one = weights[2, 3]
    words = saved("matrix")
    shown = [float(word) for word in words if word.count(".") == 1 and word[0].isdigit()]
    meant = one[numpy.tril_indices(6)]
    meant = meant[numpy.rint(meant * 253) > 1]
    assert numpy.abs(numpy.array(shown) - meant).max() <= 0.002 + 0.005

    saved("lines")
    strokes = svg.locator("line").evaluate_all(
        "lines => lines.map(line => +line.getAttribute('stroke-opacity'))"
    )
    strong = one[numpy.rint(one * 253) / 253 > 0.004]
    assert numpy.abs(numpy.array(strokes) - strong).max() <= 0.002 + 0.005

    words = saved("qk")  # of the last token
    found = [float(word) for word in words if word.lstrip("-").replace(".", "", 1).isdigit()]
    assert numpy.abs(numpy.array(found[0::2]) - scores[2, 3, 5]).max() < 0.005 + 1e-3
    assert numpy.abs(numpy.array(found[1::2]) - one[5]).max() <= 0.002 + 0.005


def test_bertviz_past_32_tokens_draws_on_a_click(chrome, tmp_path):
    view = bertviz("head", model(1, 2, 33), [f"t{i}" for i in range(33)])
    html = view.html + bertviz("head", model(1, 1, 3), list("abc")).html
    plain = Plain(chrome, tmp_path, html)
    assert plain.page.locator("svg").count() == 1
    plain.page.get_by_role("button", name="Draw it all the same").click()
    plain.page.locator("svg").nth(1).wait_for()
    # each draws into its own place
    counts = [svg.locator("#attention line").count() for svg in plain.page.locator("svg").all()]
    assert counts == [2 * 33 * 33, 9]
    assert (plain.problems, plain.outside) == ([], [])


def test_in_nbconverts_html(chrome, tmp_path):
    """A notebook exported as a page: it draws there, and asks the outside for nothing itself."""
    from nbconvert import HTMLExporter

    view = attention(model(2, 3, 5), list("abcde"), layer=0, head=0)
    path = write(tmp_path / "view.ipynb", ["", "view"], [view])
    page, _ = HTMLExporter().from_filename(path)
    plain = Plain(chrome, tmp_path, page)
    part(plain.page, "overview").press("ArrowDown")
    assert plain.says().startswith("Layer 0, head 1")
    own = {address for address in plain.outside if address.split("/")[2] not in page[:20_000]}
    assert own == set()  # what remains are nbconvert's own requests, named in its head


# ---- JupyterLab -------------------------------------------------------------------------------


def write(path, cells, outputs):
    """A notebook whose code cells have stored outputs that Jupyter does not trust."""
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    made = [nbformat.v4.new_code_cell(cell) for cell in cells]
    for cell, view in zip(made[1:], outputs, strict=True):
        data = {"text/html": view.html, "text/plain": view.text}
        cell.outputs = [nbformat.v4.new_output("execute_result", data, execution_count=1)]
        cell.execution_count = 1
    notebook = nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)
    return str(path)


CONTRAST = """host => {
    /* the least contrast of the view's own words with what lies behind them */
    const parse = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = rgb => rgb.slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    let behind = [255, 255, 255];
    for (let node = host; node; node = node.parentElement) {
        const colour = parse(getComputedStyle(node).backgroundColor);
        if (colour.length < 4 || colour[3] > 0.99) { behind = colour; break; }
    }
    const below = light(behind);
    return Math.min(...[...host.shadowRoot.querySelectorAll('div, label, button, select')]
        .filter(node => node.textContent.trim()).map(node => {
            const ink = light(parse(getComputedStyle(node).color));
            return (Math.max(ink, below) + 0.05) / (Math.min(ink, below) + 0.05);
        }));
}"""


def test_in_jupyterlab(tmp_path):
    """Untrusted it shows picture and table; run, it draws and reacts in both themes."""
    small = model(2, 2, 5)
    stored = [
        attention(small, list("abcde")),
        bertviz("head", small, list("abcde")),
        bertviz("model", small, list("abcde")),
    ]
    cells = [
        MADE,
        EXPLORER,
        "llmlab.views.bertviz('head', weights, tokens)",
        "llmlab.views.bertviz('model', weights, tokens)",
    ]
    path = write(tmp_path / "attention.ipynb", cells, stored)
    with browser.notebook(path, tmp_path / "state", environment=CUT) as lab:
        page = lab.page
        area = page.locator(f"{browser.SCROLLER} .jp-OutputArea-output")
        # Not trusted: no script has run, and the reader sees the picture and the table.
        assert page.locator("[data-live]").count() == 0
        picture = area.nth(0).locator("img")
        assert picture.is_visible()
        assert pixels(picture).std() > 20
        assert area.nth(0).get_by_role("cell").first.is_visible()

        lab.run_all()
        page.locator(".llmlab-attention[data-live=drawn]").wait_for()
        page.wait_for_function(
            "() => document.querySelectorAll('.llmlab-bertviz[data-live=drawn]').length === 2"
        )
        assert lab.failed() == []
        assert not picture.is_visible()  # the drawing is in its place

        # The overview: a click and an arrow key choose another head.
        overview, detail = part(page, "overview"), part(page, "detail")
        says = page.locator(".llmlab-attention [role=status]")
        assert says.inner_text().startswith("Layer 1, head 2.")
        assert says.get_attribute("aria-live") == "polite"
        before = pixels(detail)
        box = overview.bounding_box()
        step = (box["width"] - 34) / 4
        overview.click(position={"x": 30 + 2.5 * step, "y": 18 + 3.5 * step})
        assert says.inner_text().startswith("Layer 2, head 3.")
        assert (pixels(detail) != before).any()
        cell = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex")
        overview.press("ArrowRight")
        overview.press("ArrowUp")
        assert says.inner_text().startswith("Layer 3, head 2.")

        # The detail: the arrow keys choose tokens, a click too, hovering for a moment.
        detail.press("ArrowDown")
        detail.press("ArrowDown")
        assert "“␣animal” (token 1) looks most at" in says.inner_text()
        now = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex")
        assert now == cell  # the keys did not move through the notebook
        box = detail.bounding_box()
        corner = {"x": box["width"] - 12 - 8 * 34, "y": box["height"] - 8 - 8 * 34}
        detail.click(position={"x": corner["x"] + 17, "y": corner["y"] + 5 * 34 + 17})
        assert "from “␣it” (token 5) to “The” (token 0)" in says.inner_text()
        detail.hover(position={"x": corner["x"] + 17, "y": corner["y"] + 7 * 34 + 17})
        page.wait_for_timeout(100)
        assert "from “␣down” (token 7)" in says.inner_text()

        # By keyboard alone: menus, buttons, overview, detail.
        page.locator(".llmlab-attention select").first.focus()
        order = []
        for _ in range(7):
            page.keyboard.press("Tab")
            order.append(
                page.evaluate(
                    "() => { const n = document.activeElement.shadowRoot.activeElement;"
                    " return n.dataset.part || n.getAttribute('aria-label') || n.textContent; }"
                )
            )
        assert order == ["Heads", "Head as", "PNG", "SVG", "HTML", "overview", "detail"]

        # Queries and keys: what softmax makes of the scores are the weights.
        page.get_by_label("Head as").select_option("qk")
        assert says.inner_text().startswith("Layer 1, head 2")

        # bertviz draws and reacts to a click.
        head, whole = page.locator(".llmlab-bertviz").nth(0), page.locator(".llmlab-bertviz").nth(1)
        lines = head.locator("#attention line")
        assert lines.count() == 6 * 8 * 8
        first = "() => [...document.querySelectorAll('.llmlab-bertviz #attention line')]"
        shown = page.evaluate(first + ".map(line => line.getAttribute('stroke-opacity')).join()")
        head.locator("svg > g:last-of-type rect").first.click()
        assert shown != page.evaluate(
            first + ".map(line => line.getAttribute('stroke-opacity')).join()"
        )
        head.locator("select").select_option("3")
        assert whole.locator(".detail").count() == 0
        whole.locator("svg > g > rect:last-child").nth(2).click()
        assert whole.locator(".detail").count() > 0

        shots = Path(os.environ.get("LLMLAB_SHOTS", tmp_path))
        for theme in browser.THEMES:
            lab.theme(theme)
            page.wait_for_timeout(500)
            host = page.locator(".llmlab-attention > div").first
            assert host.evaluate(CONTRAST) >= 4.5, theme
            for mode in ("matrix", "lines", "qk"):
                page.get_by_label("Head as").select_option(mode)
                drawn = pixels(detail)
                paper = numpy.median(drawn.reshape(-1, 3), axis=0).mean()
                assert (paper < 80) if theme == "dark" else (paper > 175), (theme, mode)
                assert drawn.std() > 15, (theme, mode)
                page.locator(".llmlab-attention").screenshot(path=shots / f"{theme}-{mode}.png")
            ink = pixels(head)
            assert ink.max() - ink.min() > 200
            head.screenshot(path=shots / f"{theme}-bertviz.png")
        assert (lab.errors(), lab.problems, lab.outside) == (0, [], [])

        # Saved and opened again, trusted now: the stored output draws without a run.
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        lab.open()
        page.locator(".llmlab-attention[data-live=drawn]").wait_for()
        overview.press("ArrowLeft")
        assert says.inner_text().startswith("Layer 0, head 2")
        assert (lab.errors(), lab.problems, lab.outside) == (0, [], [])

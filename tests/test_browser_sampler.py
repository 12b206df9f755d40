"""The sampler and the chat in a real Chromium: Python's numbers, in time, in both themes."""

import itertools
import os
from pathlib import Path

import numpy
import pytest
import torch
from transformers import AutoTokenizer

import llmlab
from llmlab import generation
from llmlab.views import sampler
from tests.test_browser_attention import CONTRAST, CUT, Plain, chrome, pixels, program, write
from tests.tools import browser
from tests.tools.bench_generation import MOVE

__all__ = ["chrome", "program"]  # fixtures
pytestmark = pytest.mark.browser

SIZE = 49_152
SLIDERS = {"temperature": "temperature", "top_k": "topK", "top_p": "topP", "min_p": "minP"}


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(llmlab.models.path("smollm2-135m"))


def model_like(seed=0):
    """Logits shaped as a model's: a few stand out, many are alike."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(SIZE, generator=draw) * 2
    values[torch.randperm(SIZE, generator=draw)[:40]] += torch.linspace(13, 5, 40)
    return values


def slide(page, **values):
    """Move sliders; top_k is the place on its slider."""
    page.evaluate(
        """(values) => {
            const root = document.querySelector('.llmlab-sampler > div').shadowRoot;
            for (const [id, value] of Object.entries(values)) {
                const input = root.getElementById(id);
                input.value = value;
                input.dispatchEvent(new Event('input', { bubbles: true }));
            }
        }""",
        {SLIDERS[name]: value for name, value in values.items()},
    )


def steps(page):
    """How far to the right top-k's slider goes: there it is off."""
    return int(page.locator("#topK").get_attribute("max"))


def table(page):
    """The cells of the bars' table."""
    return page.evaluate(
        """() => [...document.querySelector('.llmlab-sampler > div').shadowRoot
            .querySelectorAll('tbody tr')].map((row) => [...row.cells].map((c) => c.textContent))"""
    )


def agrees(cells, logits, settings, order):
    """That the table shows what Python computes."""
    left = generation.filtered(logits, **settings)
    probs = left.softmax(-1)
    own = logits.softmax(-1)
    for row, i in zip(cells[:-1], order, strict=False):
        if left[i].isfinite():
            assert abs(float(row[3]) - probs[i].item()) <= 0.0005 + 2e-5, settings
        else:
            assert row[3].startswith("cut: "), settings
        assert abs(float(row[4]) - own[i].item()) <= 0.0005 + 2e-5
    rest = 1 - probs[order[: len(cells) - 1]].sum().item()
    assert abs(float(cells[-1][3]) - rest) <= 0.0005 + 1e-4
    return int(left.isfinite().sum())


def test_its_numbers_are_pythons(chrome, tmp_path, tokenizer):
    logits = model_like()
    order = logits.argsort(descending=True)
    plain = Plain(chrome, tmp_path, sampler(logits, tokenizer).html)
    page = plain.page
    assert [row[1] for row in table(page)[:3]] == [
        tokenizer.decode(i).replace(" ", "␣") for i in order[:3]
    ]
    # places on top-k's slider, and what they mean
    ks = {0: 1, 10: 30, 18: 500, steps(page): 0}
    tried = 0
    for place, temperature, p, m in itertools.product(ks, (0.05, 0.7, 3), (0, 0.95, 1), (0, 0.02)):
        slide(page, temperature=temperature, top_k=place, top_p=p, min_p=m)
        settings = {"temperature": temperature, "top_k": ks[place], "top_p": p, "min_p": m}
        kept = agrees(table(page), logits, settings, order)
        words = plain.says()
        whole = kept == SIZE
        said = SIZE if whole else int(words.split(": ")[1].split(" of ")[0].replace(",", ""))
        assert whole == ("all 49,152 tokens stay" in words)
        # exact among the tokens that have names; beyond, float16 makes neighbours equal
        assert abs(said - kept) <= (0 if kept <= 2000 else 0.01 * kept), (settings, said, kept)
        assert f"“{table(page)[0][1]}” {table(page)[0][3]}" in words
        tried += 1
    assert tried == 72
    assert (plain.problems, plain.outside) == ([], [])


def test_extreme_logits(chrome, tmp_path, tokenizer):
    one = torch.full((SIZE,), -1e4)
    one[7] = 50.0
    cut = model_like(1)
    cut[200:] = -torch.inf
    even = torch.zeros(SIZE)
    ties = torch.full((SIZE,), -5.0)
    ties[:8] = 3.0
    for logits in (one, cut, even, ties):
        order = logits.argsort(descending=True, stable=True)
        plain = Plain(chrome, tmp_path, sampler(logits, tokenizer).html)
        for temperature, place, k in [(1, steps(plain.page), 0), (3, 2, 3), (0.05, 7, 10)]:
            slide(plain.page, temperature=temperature, top_k=place)
            settings = {"temperature": temperature, "top_k": k}
            agrees(table(plain.page), logits, settings, order)
        plain.page.get_by_role("button", name="Draw 100").click()
        assert plain.problems == []


def mulberry32(seed):
    """The page's generator."""
    state = seed
    while True:
        state = (state + 0x6D2B79F5) % 2**32
        mixed = (state ^ state >> 15) * (state | 1) % 2**32
        mixed ^= (mixed + (mixed ^ mixed >> 7) * (mixed | 61)) % 2**32
        yield (mixed ^ mixed >> 14) / 2**32


def test_draws_are_pythons_too(chrome, tmp_path, tokenizer):
    logits = model_like(2)
    order = logits.argsort(descending=True)
    plain = Plain(chrome, tmp_path, sampler(logits, tokenizer, top_k=15, temperature=2.0).html)
    button = plain.page.get_by_role("button", name="Draw 100")
    for _ in range(10):
        button.click()
    probs = generation.probabilities(logits, temperature=2.0, top_k=15)[order[:15]]
    sums = probs.double().cumsum(0)
    at = torch.tensor(list(itertools.islice(mulberry32(0), 1000)), dtype=torch.float64)
    ranks = torch.searchsorted(sums, at, right=True).clamp(max=14)
    counts = ranks.bincount(minlength=15).tolist()
    shown = table(plain.page)
    assert [int(row[5].split(" ")[0]) for row in shown[:15]] == counts
    assert shown[0][5] == f"{counts[0]} ({counts[0] / 1000:.3f})"
    assert [row[5] for row in shown[15:20]] == [""] * 5  # cut: never drawn
    # and the frequencies are the probabilities, within four standard errors
    shares = torch.tensor(counts) / 1000
    assert bool(((shares - probs).abs() <= 4 * (probs * (1 - probs) / 1000).sqrt()).all())

    says = plain.page.locator("[data-part=draws]")
    assert says.inner_text().startswith("1,000 draws from seed 0, the last: ")
    last = [tokenizer.decode(order[i]).replace(" ", "␣") for i in ranks[-12:]]
    assert says.inner_text().endswith(" ".join(last))
    slide(plain.page, temperature=1)  # another distribution: the draws no longer fit
    assert says.inner_text() == "No draws yet."
    plain.page.get_by_role("button", name="Reset").click()
    plain.page.get_by_role("button", name="Draw 1", exact=True).click()
    first = tokenizer.decode(order[int(ranks[0])]).replace(" ", "␣")
    assert says.inner_text() == f"1 draw from seed 0, the last: {first}"
    assert plain.problems == []


def test_the_picture_follows_in_time(chrome, tmp_path, tokenizer):
    plain = Plain(chrome, tmp_path, sampler(model_like(), tokenizer).html)
    best = plain.page.evaluate(MOVE)
    print(f"slider to picture: {best:.0f} ms; drawn {plain.milliseconds:.0f} ms after loading")
    assert best < 50


def test_bars_and_hatching_show_what_stays_and_what_is_cut(chrome, tmp_path, tokenizer):
    view = sampler(model_like(), tokenizer, top_k=5, temperature=2.0)
    for dark in (False, True):
        plain = Plain(chrome, tmp_path, view.html, dark)
        bar = plain.page.locator("tr[data-rank='1'] .here").first.bounding_box()
        ghost = plain.page.locator("tr[data-rank='1'] .own").first.bounding_box()
        chance, own = (float(table(plain.page)[0][i]) for i in (3, 4))
        assert bar["width"] / ghost["width"] == pytest.approx(chance / own, rel=0.02)
        assert plain.page.locator(".gone").count() >= 15
        assert plain.page.locator("tr[data-rank='6'] td").nth(3).inner_text() == "cut: top-k"
        shot = pixels(plain.page.locator("[data-part=landscape]"))
        kept, cut = shot[60:130, 50:60].mean((0, 1)), shot[125:130, 300:360].mean((0, 1))
        assert numpy.abs(kept - cut).max() > 30
        assert plain.problems == []


def test_settings_at_the_start_between_the_sliders_steps(chrome, tmp_path, tokenizer):
    logits = model_like()
    settings = {"temperature": 0.123, "top_k": 37, "top_p": 0.876, "min_p": 0.0123}
    plain = Plain(chrome, tmp_path, sampler(logits, tokenizer, **settings).html)
    agrees(table(plain.page), logits, settings, logits.argsort(descending=True))
    assert "temperature=0.123, top_k=37, top_p=0.876, min_p=0.0123)" in plain.page.evaluate(
        "() => document.querySelector('.llmlab-sampler > div').shadowRoot"
        ".querySelector('code').textContent"
    )


def test_by_keyboard_and_for_screen_readers(chrome, tmp_path, tokenizer):
    plain = Plain(chrome, tmp_path, sampler(model_like(), tokenizer).html)
    page = plain.page
    order = []
    for _ in range(8):
        page.keyboard.press("Tab")
        order.append(
            page.evaluate(
                "() => { const n = document.activeElement.shadowRoot.activeElement;"
                " return n.id || n.textContent; }"
            )
        )
    assert order == [*SLIDERS.values(), "Draw 1", "Draw 100", "Clear draws", "Reset"]
    slider = page.get_by_role("slider", name="temperature")
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "temperature 1.05"
    assert plain.says().startswith("Temperature 1.05, top-k off")
    page.get_by_role("slider", name="top-k").press("Home")
    assert "top-k 1, top-p off" in plain.says()
    page.get_by_role("slider", name="top-k").press("End")
    assert "top-k off" in plain.says()
    assert plain.says() in page.get_by_role("img").first.get_attribute("aria-label")
    assert page.get_by_role("columnheader", name="probability").count() == 1


def test_in_nbconverts_html(chrome, tmp_path, tokenizer):
    """A notebook exported as a page: it draws there, and asks the outside for nothing itself."""
    from nbconvert import HTMLExporter

    path = write(tmp_path / "view.ipynb", ["", "view"], [sampler(model_like(), tokenizer)])
    page, _ = HTMLExporter().from_filename(path)
    plain = Plain(chrome, tmp_path, page)
    slide(plain.page, top_k=2)
    assert "top-k 3, top-p off, min-p off: 3 of 49,152 tokens stay" in plain.says()
    own = {address for address in plain.outside if address.split("/")[2] not in page[:20_000]}
    assert own == set()  # what remains are nbconvert's own requests, named in its head


MADE = """
import torch, llmlab
llmlab.setup()
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel
tokenizer = AutoTokenizer.from_pretrained(llmlab.models.path("smollm2-135m"))
torch.manual_seed(0)
logits = torch.randn(49152) * 2
logits[tokenizer(" Paris London Rome Berlin").input_ids] = torch.tensor([14.0, 13, 12, 11])
config = GPT2Config(n_layer=1, n_head=1, n_embd=8, n_positions=100_000, vocab_size=49152)
model = GPT2LMHeadModel(config).eval()
"""


def test_in_jupyterlab(tmp_path, tokenizer):
    """Untrusted it shows the table; run, it draws and reacts in both themes; the chat chats."""
    stored = sampler(model_like(), tokenizer)
    cells = [
        MADE,
        "llmlab.views.sampler(logits, tokenizer, top_k=50)",
        "chat = llmlab.views.chat(model, tokenizer, max_new_tokens=20_000)\nchat",
    ]
    path = write(tmp_path / "sampler.ipynb", cells, [stored, stored])
    shots = Path(os.environ.get("LLMLAB_SHOTS", tmp_path))
    with browser.notebook(path, tmp_path / "state", environment=CUT) as lab:
        page = lab.page
        area = page.locator(f"{browser.SCROLLER} .jp-OutputArea-output")
        # Not trusted: no script has run, and the reader sees the table.
        assert page.locator("[data-live]").count() == 0
        assert area.nth(0).get_by_role("cell").count() == 60
        assert area.nth(0).get_by_role("cell").first.is_visible()

        lab.run_all()
        page.locator(".llmlab-sampler[data-live=drawn]").wait_for()
        assert lab.failed() == []
        assert not page.locator("[data-still]").is_visible()
        says = page.locator(".llmlab-sampler [role=status]").first
        assert "top-k 50, top-p off, min-p off: 50 of 49,152" in says.inner_text()
        page.get_by_role("slider", name="temperature").press("ArrowLeft")
        cell = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex")
        page.get_by_role("slider", name="top-p").press("ArrowDown")
        assert says.inner_text().startswith("Temperature 0.95, top-k 50, top-p 0.99")
        now = page.evaluate("() => window.jupyterapp.shell.currentWidget.content.activeCellIndex")
        assert now == cell  # the keys did not move through the notebook
        page.get_by_role("button", name="Draw 100").click()
        drawn = page.locator("[data-part=draws]")
        assert drawn.inner_text().startswith("100 draws from seed 0")

        # The chat: words come one by one, and Stop stops them.
        field = page.get_by_placeholder("Your message")
        field.fill("Tell me everything.")
        field.press("Enter")
        page.get_by_text("The model is writing.").wait_for()
        history = page.locator(".widget-html", has_text="Tell me everything.").first
        page.wait_for_function(
            "() => [...document.querySelectorAll('.widget-html')].some(n =>"
            " n.textContent.length > 200 && n.textContent.includes('▌'))"
        )
        page.get_by_role("button", name="Stop", exact=True).click()
        page.get_by_text("Stopped.").wait_for()
        length = len(history.inner_text())
        page.wait_for_timeout(500)
        assert len(history.inner_text()) == length
        assert page.get_by_text("tokens that the model gets").count() == 1

        for theme in browser.THEMES:
            lab.theme(theme)
            page.wait_for_timeout(500)
            host = page.locator(".llmlab-sampler > div").first
            words = CONTRAST.replace("select'", "select, td, th, caption, code, output'")
            assert "td, th" in words
            assert host.evaluate(words) >= 4.5, theme
            picture = pixels(page.locator("[data-part=landscape]"))
            paper = numpy.median(picture.reshape(-1, 3), axis=0).mean()
            assert (paper < 80) if theme == "dark" else (paper > 175), theme
            assert picture.std() > 15, theme
            page.locator(".llmlab-sampler").screenshot(path=shots / f"{theme}-sampler.png")
            area.last.screenshot(path=shots / f"{theme}-chat.png")
        assert (lab.errors(), lab.problems, lab.outside) == (0, [], [])

        # Saved and opened again, trusted now: the stored output draws without a run.
        page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        lab.open()
        page.locator(".llmlab-sampler[data-live=drawn]").wait_for()
        page.get_by_role("slider", name="min-p").press("ArrowRight")
        assert "min-p 0.01" in says.inner_text()
        assert (lab.errors(), lab.problems, lab.outside) == (0, [], [])

"""What notebook 05 promises, measured: the teaching loop's time, and the sampler's.

`rows` yields rows for the table `costs` of `tests/tools/bench.py`: what, time, peak memory.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llmlab
from tests.tools import browser

PROMPT = "My dog really wanted to eat ice cream because"
NEW = 64  # tokens
# From moving a slider to the end of the frame that shows it, in milliseconds: of each slider the
# quickest of 15 moves (another program may hold the machine for a moment), of these the slowest.
MOVE = """async () => {
    const root = document.querySelector('.llmlab-sampler > div').shadowRoot;
    const frame = () => new Promise((yes) => requestAnimationFrame(() => setTimeout(yes, 0)));
    const times = [[], [], [], []];
    for (let i = 0; i < 60; i += 1) {
        const input = root.querySelectorAll('input')[i % 4];
        await frame();
        const start = performance.now();
        input.value = input.value === input.max ? input.min : +input.value + +input.step;
        input.dispatchEvent(new Event('input', { bubbles: true }));
        await frame();
        times[i % 4].push(performance.now() - start);
    }
    return Math.max(...times.map((some) => Math.min(...some)));
}"""


def rows() -> Iterator[tuple[str, str, str]]:
    """What was measured: what, time, peak memory (not measured here)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = llmlab.models.fetch("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    inputs = tokenizer(PROMPT, return_tensors="pt")

    def ready() -> torch.Tensor:
        with torch.no_grad():
            ids = model.generate(**inputs, do_sample=False, max_new_tokens=NEW)
        return ids[0, inputs["input_ids"].shape[1] :]

    def ours() -> torch.Tensor:
        return llmlab.generation.loop(model, tokenizer, PROMPT, max_new_tokens=NEW)

    if not torch.equal(ready(), ours()):  # also the first, slower run of both
        raise RuntimeError("the loop and generate do not write the same")
    theirs, mine = _in_turn(ready, ours, times=5)
    yield f"`generate` with cache, {NEW} new tokens", f"{theirs:.1f} s", ""
    yield "the teaching loop in place of it", f"**{mine / theirs:.2f} times** that", ""
    yield from sampler(model, tokenizer)


def _in_turn(*functions: Callable[[], Any], times: int) -> list[float]:
    """The quickest run of each in seconds, taken in turn: so a busy machine slows all alike."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(times):
        for function, runs in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            function()
            runs.append(time.perf_counter() - start)
    return [min(runs) for runs in seconds]


def sampler(model: Any, tokenizer: Any) -> Iterator[tuple[str, str, str]]:
    """The sampler in headless Chromium, with SmolLM2's logits."""
    import torch

    try:
        program = browser.chromium()
    except llmlab.LabError as error:
        yield "the sampler", "not measured", str(error)
        return
    from playwright.sync_api import sync_playwright

    with torch.no_grad():
        logits = model(**tokenizer(PROMPT, return_tensors="pt")).logits[0, -1]
    view = llmlab.views.sampler(logits, tokenizer)
    yield "the sampler's HTML, with all logits", f"{len(view.html.encode()) / 1e3:.0f} kB", ""
    flags = ["--host-resolver-rules=MAP * ~NOTFOUND"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # containers
        flags.append("--no-sandbox")
    with sync_playwright() as play, tempfile.TemporaryDirectory() as work:
        path = Path(work) / "page.html"
        path.write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{view.html}', "utf-8")
        chrome = play.chromium.launch(executable_path=program, args=flags)
        page = chrome.new_page(viewport=browser.SIZE)
        page.goto(path.as_uri())
        page.wait_for_selector("[data-live=drawn]")
        moves = page.evaluate(MOVE)
        chrome.close()
    yield "the sampler, from slider to picture", f"{moves:.0f} ms", ""

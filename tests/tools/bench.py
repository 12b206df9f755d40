"""Measure the figures of the README's tables on this machine.

    python -m tests.tools.bench [costs] [views]

Prints Markdown. Seconds depend on the machine and on what else it does; ratios hardly do.

`costs`: each thing is measured in a fresh process, alone, so that its peak of memory is its own.
The GGUF is downloaded again for the comparison (93 MB), since it is not kept.

`views`: the same attention drawn by the explorer, bertviz and circuitsvis in headless Chromium
without a network. The scripts that the other two load from elsewhere are put into the page, but not
into its size. The explorer is drawn five times (the median counts), the other two, which take a
minute each, once. The processor time is that of the page's own process: it hardly depends on what
else the machine does.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llmlab
from llmlab.models import download
from llmlab.models.catalogue import all_models
from tests.tools import bench_classify, bench_generation, bench_grading, browser, notebooks

# Only what stands between these two lines is timed; the libraries are imported before.
TIMED = """
import os, sys, time
{before}
start = time.perf_counter()
{code}
print(time.perf_counter() - start, flush=True)
sys.stdin.read()
"""
LOAD = """
AutoTokenizer.from_pretrained({path!r}{more})
model = AutoModelForCausalLM.from_pretrained({path!r}, dtype=torch.float32{more})
"""


def fresh(code: str, before: str = "") -> tuple[float, float]:
    """Run code in a fresh process.

    Returns:
        The seconds it took, and the process's peak memory in MB, imports (`before`) included.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", TIMED.format(before=before, code=code)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    ) as process:  # fmt: skip
        printed = process.stdout.readline()
        if not printed:
            raise RuntimeError(f"this stopped with an error:\n{code}")
        return float(printed), notebooks.peak_memory(process.pid)  # it still waits on its stdin


def best(times: int, code: str, before: str = "") -> tuple[float, float]:
    """The quickest of several fresh runs, and the largest peak."""
    runs = [fresh(code, before) for _ in range(times)]
    return min(seconds for seconds, _ in runs), max(peak for _, peak in runs)


def rows() -> Iterator[tuple[str, str, str]]:
    """What was measured: what, time, peak memory."""
    seconds, _ = best(5, "import llmlab")
    yield "`import llmlab`", f"{1000 * seconds:.1f} ms", ""
    yield from loading()
    yield from looking()
    yield from bench_classify.rows()
    yield from bench_generation.rows()
    yield from bench_grading.rows()
    for path in notebooks.find():
        _, seconds, peak = notebooks.run(path)
        yield f"notebook {path.stem}", f"{seconds:.0f} s", f"{peak:,.0f} MB"


def loading() -> Iterator[tuple[str, str, str]]:
    """SmolLM2's model and tokenizer: from the folder that we make, and from the GGUF."""
    model = all_models()["smollm2-135m"]
    libraries = "import torch\nfrom transformers import AutoModelForCausalLM, AutoTokenizer"
    with tempfile.TemporaryDirectory() as work:
        got = download.get(model.sources[0], model.files, Path(work))
        seconds, peak = fresh(
            f"convert.from_gguf(Path({str(got)!r}), Path({work!r}))",
            "from pathlib import Path\nimport gguf, torch\nfrom llmlab.models import convert",
        )
        yield "converting SmolLM2's GGUF, once", f"{seconds:.1f} s", f"{peak:,.0f} MB"
        if not importlib.util.find_spec("accelerate"):  # transformers reads GGUF only with it
            yield "loading the GGUF in transformers", "not measured: `pip install accelerate`", ""
            return
        more = f", gguf_file={model.files[0].name!r}"
        slow, peak = best(2, LOAD.format(path=str(got), more=more), libraries)
        yield "loading the GGUF in transformers", f"{slow:.1f} s", f"{peak:,.0f} MB"
    path = llmlab.models.fetch(model.name)
    quick, peak = best(2, LOAD.format(path=path, more=""), libraries)
    yield "loading the converted folder", f"{quick:.1f} s", f"{peak:,.0f} MB"
    yield "the folder loads faster than the GGUF by", f"**{slow / quick:.1f} times**", ""


def looking() -> Iterator[tuple[str, str, str]]:
    """Capturing the attention of a long text, and switching off each head of SmolLM2."""
    path = llmlab.models.fetch("smollm2-135m")
    libraries = "import torch\nimport llmlab\nfrom transformers import AutoModelForCausalLM"
    model = f"AutoModelForCausalLM.from_pretrained({path!r}, dtype=torch.float32)"
    before = f"{libraries}\nmodel = {model}\n"
    long = "ids = torch.arange(1000, 1500)[None]\n"
    seconds, peak = fresh("llmlab.attention.capture(model, ids)", before + long)
    yield "capturing the attention of 500 tokens", f"{seconds:.1f} s", f"{peak:,.0f} MB"
    short = "ids = torch.arange(1000, 1013)[None]\n"
    ablate = "llmlab.attention.ablate(model, ids)"
    many, peak = fresh(ablate, before + short)
    yield "switching off each of 270 heads, 13 tokens", f"{many:.0f} s", f"{peak:,.0f} MB"
    alone = "llmlab.attention._LOGITS_AT_ONCE = 1\n"
    single, peak = fresh(ablate, before + short + alone)
    yield "the same, one forward pass a head", f"{single:.0f} s", f"{peak:,.0f} MB"
    yield "batches are faster by", f"**{single / many:.1f} times**", ""


# How far a page is, in milliseconds after it began to load, in the second frame in which `there`
# is true: then all of the view is in the page, and the browser has painted it once.
WATCH = """() => new Promise((yes) => {{
    const frame = (then) => requestAnimationFrame(then);
    const look = () => {there} ? frame(() => frame(() => yes(performance.now())))
        : setTimeout(look, 5);
    look();
}})"""
NODES = """() => {
    const count = (root) => [...root.querySelectorAll('*')]
        .reduce((sum, node) => sum + 1 + (node.shadowRoot ? count(node.shadowRoot) : 0), 0);
    return count(document.body);
}"""
# What bertviz asks RequireJS for, handed to it.
SHIM = """<script>var require = (names, use) => use(...names.map((name) => window[name]));
require.config = () => {}; var requirejs = require; var jquery = jQuery;</script>"""


def attention_of(tokens: int) -> tuple[Any, list[str]]:
    """SmolLM2's attention (layer, head, query, key) over the start of LICENSE, and its tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = llmlab.models.fetch("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    text = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")
    ids = tokenizer(text, return_tensors="pt")["input_ids"][:, :tokens]
    captured = llmlab.attention.capture(model, ids)
    return captured.attention[:, 0], tokenizer.convert_ids_to_tokens(ids[0])


def explorer(tokens: int) -> tuple[str, int, str, str]:
    """What it is, bytes of HTML, the page, and how to see that it is drawn."""
    view = llmlab.views.attention(*attention_of(tokens))
    chosen = re.search(r"only layers ([\d, ]+) are", view.text)
    shown = len(chosen[1].split(",")) if chosen else 30
    layers = "all layers" if shown == 30 else f"{shown} of 30 layers, its choice past 1.5 MB"
    drawn = "document.querySelector('[data-live=drawn]')"
    return f"explorer, {tokens} tokens, {layers}", len(view.html.encode()), view.html, drawn


def by_bertviz(tokens: int) -> tuple[str, int, str, str]:
    """The same of bertviz's model view. Its scripts are in the page, but not in its size."""
    import bertviz

    attention, names = attention_of(tokens)
    view = bertviz.model_view(list(attention[:, None]), names, html_action="return").data
    vendor = Path(llmlab.__file__).parent / "views" / "vendor"
    files = [vendor / "jquery.slim.min.js", vendor / "d3.min.js"]
    scripts = "".join(f"<script>{file.read_text(encoding='utf-8')}</script>" for file in files)
    page = scripts + SHIM + re.sub(r'<script src="[^"]*"></script>', "", view)
    what = f"bertviz {importlib.metadata.version('bertviz')}, model view, {tokens} tokens"
    return what, len(view.encode()), page, "document.querySelector('svg')"


def by_circuitsvis(tokens: int) -> tuple[str, int, str, str]:
    """The same of circuitsvis's heads: the page it makes offline, the size it has online."""
    from circuitsvis.attention import attention_heads

    attention, names = attention_of(tokens)
    heads = attention.flatten(0, 1).numpy()
    labels = [f"{layer}.{head}" for layer in range(30) for head in range(9)]
    view = attention_heads(heads, names, labels, mask_upper_tri=True)  # type: ignore[arg-type]
    what = f"circuitsvis {importlib.metadata.version('circuitsvis')}, heads, {tokens} tokens"
    drawn = f"document.querySelectorAll('canvas').length > {len(heads)}"
    return what, len(view.cdn_src.encode()), view.local_src, drawn


def views() -> Iterator[tuple[str, str, str, str, str]]:
    """What was drawn, bytes of HTML, elements in the page, time until it was drawn, processor."""
    try:
        program = browser.chromium()
    except llmlab.LabError as error:
        yield f"not measured: {error}", "", "", "", ""
        return
    from playwright.sync_api import sync_playwright

    flags = ["--host-resolver-rules=MAP * ~NOTFOUND"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # containers
        flags.append("--no-sandbox")
    with sync_playwright() as play, tempfile.TemporaryDirectory() as work:
        chrome = play.chromium.launch(executable_path=program, args=flags)

        def draw(view: tuple[str, int, str, str], times: int) -> tuple[str, int, int, float, float]:
            what, size, html, there = view
            path = Path(work) / "page.html"
            path.write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{html}', encoding="utf-8")
            seconds, processor, nodes = [], [], 0
            for _ in range(times):
                page = chrome.new_page(viewport=browser.SIZE)
                page.set_default_timeout(600_000)
                counters = page.context.new_cdp_session(page)
                counters.send("Performance.enable", {"timeDomain": "threadTicks"})
                page.goto(path.as_uri(), wait_until="commit")
                seconds.append(page.evaluate(WATCH.format(there=there)) / 1000)
                metrics = counters.send("Performance.getMetrics")["metrics"]
                processor += [m["value"] for m in metrics if m["name"] == "ProcessTime"]
                nodes = page.evaluate(NODES)
                page.close()
            return what, size, nodes, statistics.median(seconds), statistics.median(processor)

        def row(
            what: str, size: int, nodes: int, seconds: float, processor: float
        ) -> tuple[str, str, str, str, str]:
            times = (f"{seconds:.2f} s", f"{processor:.2f} s")
            return what, f"{size / 1e6:.2f} MB", f"{nodes:,}", *times

        view = explorer(64)
        draw(view, times=1)  # the first page of a fresh browser takes longer: it does not count
        ours = draw(view, times=5)
        yield row(*ours)
        yield row(*draw(explorer(256), times=5))
        for make in (by_bertviz, by_circuitsvis):
            try:
                theirs = draw(make(64), times=1)
            except ImportError as error:
                yield f"{error.name}", f"not measured: `pip install {error.name}`", "", "", ""
                continue
            yield row(*theirs)
            yield (
                f"{theirs[0].split()[0]} ÷ explorer",
                *(f"**{theirs[i] / ours[i]:,.0f} times**" for i in (1, 2, 3, 4)),  # type: ignore[operator]
            )
        chrome.close()


TABLES = {
    "costs": (["what", "time", "peak memory"], rows),
    "views": (["30 layers × 9 heads", "HTML", "elements", "drawn after", "processor"], views),
}


def main() -> None:
    """Print the tables, a row as soon as it is measured."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers")]
    where = f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}"
    print(f"Measured on {where}, one thread, Python {platform.python_version()},", end=" ")
    print(", ".join(versions) + ".")
    for name in sys.argv[1:] or TABLES:
        heads, measured = TABLES[name]
        print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
        for row in measured():
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()

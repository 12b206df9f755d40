"""Measure the figures of the README's table on this machine: `python -m tests.tools.bench`.

Prints Markdown. Seconds depend on the machine and on what else it does; ratios hardly do. Each
thing is measured in a fresh process, alone, so that its peak of memory is its own. The GGUF is
downloaded again for the comparison (93 MB), since it is not kept.
"""

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import llmlab
from llmlab.models import download
from llmlab.models.catalogue import all_models
from tests.tools import notebooks

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


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers")]
    where = f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}"
    print(f"Measured on {where}, one thread, Python {platform.python_version()},", end=" ")
    print(", ".join(versions) + ".\n\n| what | time | peak memory |\n|---|---|---|", flush=True)
    for row in rows():
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()

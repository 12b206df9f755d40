"""How long grading takes: submissions that need no model, and ones of the real homework.

python -m tests.tools.bench_grading [--counts 30 500] [--workers 1 2] [--real 8]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llmlab.errors import LabError
from llmlab.grading import grade
from llmlab.grading.sandbox import probe
from tests.tools.homework import HOMEWORK


def book(*sources: str) -> bytes:
    """A notebook file of these code cells."""
    cells = [{"cell_type": "code", "source": source, "metadata": {}} for source in sources]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def measure(content: bytes, count: int, workers: int) -> tuple[float, float]:
    """Seconds to grade so many copies of a submission of hw4, and the peak of one of them in MB."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "class")
        folder.mkdir()
        for number in range(count):
            (folder / f"s{number:03}.ipynb").write_bytes(content)
        start = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            table = grade(folder, "hw4", pool, out=Path(place, "out"), ahead=2 * workers)
        return time.perf_counter() - start, table["peak (MB)"].max()


def rows(
    counts: Sequence[int] = (30, 500), workers: Sequence[int] = (1, 2), real: int = 8
) -> Iterator[tuple[str, str, str]]:
    """What was measured: what, time, peak memory."""
    try:
        probe()
    except LabError as error:
        yield "grading", "not measured", str(error)
        return
    measure(book("1"), 1, 1)  # torch is imported here, and the file cache is warm
    solved = next(HOMEWORK.glob("source/hw4/*.ipynb")).read_bytes()
    loads = "".join(json.loads(solved)["cells"][3]["source"]).partition("text =")[0]
    jobs = [(f"grading {n} submissions without a model", book("x = 1"), n) for n in counts]
    if real:  # what loads is paid by each anew: every submission is a process of its own
        loading = book(f"import llmlab\n{loads}")
        jobs.append((f"grading {real} that only import and load gpt2-mini", loading, real))
        jobs.append((f"grading {real} solved hw4", solved, real))
    for name, content, count in jobs:
        for number in workers:
            seconds, peak = measure(content, count, number)
            many = f"{number} worker{'s' * (number > 1)}"
            yield (
                f"{name}, {many}",
                f"{seconds:.0f} s ({seconds / count:.2f} s each)",
                f"{peak:,.0f} MB",
            )


def main() -> None:
    """Print a line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="*", default=[30, 500])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--real", type=int, default=8, help="how many that load a model")
    given = parser.parse_args()
    for row in rows(given.counts, given.workers, given.real):
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()

"""How long grading takes: submissions that need no torch, and one of the real homework.

python -m tests.tools.bench_grading [--counts 30 500] [--workers 1 2] [--real 2]
"""

import argparse
import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llmlab.grading import grade
from tests.tools.homework import HOMEWORK


def book(*sources: str) -> bytes:
    """A notebook file of these code cells."""
    cells = [{"cell_type": "code", "source": source, "metadata": {}} for source in sources]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def seconds(content: bytes, count: int, workers: int) -> float:
    """The time to grade `count` copies of a submission of hw4, `workers` at a time."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "class")
        folder.mkdir()
        for number in range(count):
            (folder / f"s{number:03}.ipynb").write_bytes(content)
        start = time.perf_counter()
        with ThreadPoolExecutor(workers) as pool:
            grade(folder, "hw4", pool, out=Path(place, "out"), ahead=2 * workers)
        return time.perf_counter() - start


def main() -> None:
    """Print a line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[30, 500])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--real", type=int, default=4, help="copies of the solved hw4")
    given = parser.parse_args()
    seconds(book("1"), 1, 1)  # torch is imported, and the file cache is warm
    solved = next(HOMEWORK.glob("source/hw4/*.ipynb")).read_bytes()
    jobs = [("no torch", book("x = 1"), count) for count in given.counts]
    for name, content, count in [*jobs, *([("solved hw4", solved, given.real)] * (given.real > 0))]:
        for workers in given.workers:
            took = seconds(content, count, workers)
            print(f"{name}: {count} submissions, {workers} workers: {took:.1f} s, "
                  f"{took / count:.2f} s each", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

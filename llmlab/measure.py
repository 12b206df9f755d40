"""What a call costs: seconds, and memory while it runs and after it."""

import io
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
import psutil

from llmlab.errors import LabError

SPEEDS = Path(__file__).parent / "data_files" / "llm_speed.csv"  # bench_llm --out writes it
PAUSE = 0.002  # seconds between two looks at the memory


@dataclass(frozen=True)
class Measurement:
    """What `measure` found.

    Attributes:
        result: what the function returned (the last time).
        seconds: the median of its times.
        peak: bytes of memory at most while it ran, above what the process had before.
        held: bytes that the process has more afterwards, while `result` is kept.
    """

    result: Any
    seconds: float
    peak: int
    held: int


def measure(function: Callable[[], Any], *, repeat: int = 1) -> Measurement:
    """Call a function and say how long it took and how much memory it needed.

    Memory is what the system has given to this process (its resident set), looked at every two
    milliseconds: a peak that is shorter can be missed. Memory that was freed before goes back to
    the system first, so that it is not taken for new.

    Args:
        function: takes no arguments; wrap others in a `lambda`.
        repeat: how often to call it; the seconds are the median.

    Raises:
        LabError: repeat is no whole number from 1 on.

    >>> measure(lambda: sum(range(10))).result
    45
    """
    from llmlab.loading import release  # here, so that `import llmlab.measure` needs no torch

    if isinstance(repeat, bool) or not isinstance(repeat, int) or repeat < 1:
        raise LabError(f"repeat is a whole number from 1 on, not {repeat!r}.")
    release()
    process, done = psutil.Process(), threading.Event()
    before = highest = process.memory_info().rss

    def watch() -> None:
        nonlocal highest
        while not done.wait(PAUSE):
            highest = max(highest, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    times = []
    result: Any = None
    try:
        for _ in range(repeat):
            result = None  # before the next one is made: not two at once
            start = time.perf_counter()
            result = function()
            times.append(time.perf_counter() - start)
        highest = max(highest, process.memory_info().rss)
    finally:
        done.set()
        watcher.join()
    release()
    held = process.memory_info().rss - before
    return Measurement(result, statistics.median(times), highest - before, held)


@contextmanager
def memory_limit(megabytes: float) -> Iterator[None]:
    """In this block the process gets at most so many MB more than it has now: to see it run out.

    Linux only, where the system can limit a process (RLIMIT_DATA); elsewhere it does nothing.

    >>> with memory_limit(1000):
    ...     small = bytes(10)
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = int(psutil.Process().memory_info().data + megabytes * 1e6)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def stored_bytes(model: Any) -> int:
    """The bytes of a model's weights as they lie in memory, the scales of quantized ones included.

    `parameter.nbytes` alone leaves those out. Takes any `torch.nn.Module`.
    """
    total = 0
    for parameter in model.parameters():
        total += parameter.nbytes
        scales = getattr(parameter, "SCB", None)  # bitsandbytes, 8 bits: a scale a row
        total += 0 if scales is None else scales.nbytes
        state = getattr(parameter, "quant_state", None)  # 4 bits: a scale a block
        while state is not None:
            total += state.absmax.nbytes
            state = state.state2  # double quantization: the scales' own scales
    return total


def benchmark(file: Path = SPEEDS) -> pandas.DataFrame | None:
    """The figures that `make bench` wrote: how SmolLM2 runs, a column for each way.

    Prints the date and the machine that they were measured on; without the file, how to get it.
    """
    if not file.is_file():
        print("There is no table here yet: `make bench` measures it on this machine.")
        return None
    machine, text = file.read_text("utf-8").split("\n", 1)
    print(machine.removeprefix("# "))
    table = pandas.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    return table.set_index("how").T

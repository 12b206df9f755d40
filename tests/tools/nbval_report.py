"""A pytest plugin beside nbval: what its run proved, printed at the end, and the budgets.

For every cell that passed, its stored output is altered where it still says something after the
sanitiser, and nbval's own comparison is asked again: the cell counts as compared only if that
now fails. So the share below is what nbval really compares, not what it could.
"""

import copy
import os
import time
from collections import defaultdict
from dataclasses import dataclass

import pytest
from nbval.plugin import IPyNbCell, coalesce_streams

from tests.tools.notebooks import ENVIRONMENT, UNSET, peak_memory, sanitised, words

LEAST_SHARE = 0.9  # of the code cells, in every notebook and in all
MOST_MEMORY = 1600  # MB at the peak of a kernel, libraries and models included
AIM_SECONDS = 60  # on two quiet cores; reported, not enforced: a busy machine is slower


@dataclass
class Tally:
    """What one notebook's run showed."""

    cells: int = 0
    compared: int = 0
    peak: float = 0.0
    start: float = 0.0
    seconds: float = 0.0


_tallies: dict[str, Tally] = defaultdict(Tally)


def pytest_configure(config):
    """Give the kernels, which inherit it, the environment that the outputs were made in."""
    for name in UNSET:
        os.environ.pop(name, None)
    os.environ.update(ENVIRONMENT)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """Time a notebook from the start of its kernel to the end of its last cell."""
    if isinstance(item, IPyNbCell):
        tally = _tallies[item.path.name]
        tally.start = tally.start or time.perf_counter()
    result = yield
    if isinstance(item, IPyNbCell):
        tally.seconds = time.perf_counter() - tally.start
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """After a cell has run: count it, and look at its kernel's memory."""
    if isinstance(item, IPyNbCell) and call.when == "call":
        tally = _tallies[item.path.name]
        tally.cells += 1
        tally.compared += call.excinfo is None and really_compared(item)
        if item.parent.kernel.is_alive():
            pid = item.parent.kernel.km.provisioner.pid
            tally.peak = max(tally.peak, peak_memory(pid))
    return (yield)


def really_compared(item: IPyNbCell) -> bool:
    """Whether nbval rejects what this cell just gave as soon as one stored word is altered."""
    if item.options["skip"] or not item.options["check"] or item.cell.execution_count is None:
        return False
    stored = coalesce_streams(copy.deepcopy(item.cell.outputs))
    for number, output in enumerate(stored):
        for kind, text in (output.get("data") or {"text": output.get("text")}).items():
            spoken = words(kind, sanitised(text)) if isinstance(text, str) else []
            if not spoken:
                continue
            altered = copy.deepcopy(stored)
            last, whole = spoken[-1], spoken[-1].string
            (altered[number].get("data") or altered[number])[kind] = (
                f"{whole[: last.start()]}altered{whole[last.end() :]}"
            )
            if not item.compare_outputs(item.test_outputs, altered):
                return True
    return False


def pytest_sessionfinish(session, exitstatus):
    """A run that compares too little, or a kernel that is too large, is a failed run."""
    if exitstatus == pytest.ExitCode.OK and faults(_tallies, session.config.option.nbval):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def faults(tallies: dict[str, Tally], strict: bool) -> list[str]:
    """What is wrong although every cell passed; under --nbval-lax no outputs are compared."""
    large = [
        f"{name}: {t.peak:,.0f} MB at the peak, {MOST_MEMORY:,} allowed"
        for name, t in tallies.items()
        if t.peak > MOST_MEMORY
    ]
    silent = [
        f"{name}: {t.compared} of {t.cells} code cells compared, {LEAST_SHARE:.0%} needed"
        for name, t in tallies.items()
        if t.compared < LEAST_SHARE * t.cells
    ]
    return large + (silent if strict else [])


def pytest_terminal_summary(terminalreporter, config):
    """The table of the run."""
    if not _tallies:
        return
    write = terminalreporter.write_line
    terminalreporter.section("notebooks")
    write(f"{'notebook':<28} {'cells':>6} {'compared':>14} {'peak':>10} {'time':>7}")
    total = Tally()
    for name, t in _tallies.items():
        slow = f"  (aim: {AIM_SECONDS} s on two quiet cores)" if t.seconds > AIM_SECONDS else ""
        write(_row(name, t) + slow)
        total.cells += t.cells
        total.compared += t.compared
        total.peak = max(total.peak, t.peak)
        total.seconds += t.seconds
    if len(_tallies) > 1:
        write(_row("all", total))
    if not config.option.nbval:
        write(
            "Outputs were not compared (--nbval-lax): the assertions in the cells did the proving."
        )
    for fault in faults(_tallies, config.option.nbval):
        write(f"FAILED {fault}", red=True)


def _row(name: str, t: Tally) -> str:
    """One line of the table."""
    part = f"{t.compared} ({t.compared / max(1, t.cells):.0%})"
    return f"{name:<28} {t.cells:>6} {part:>14} {t.peak:>7,.0f} MB {t.seconds:>5.0f} s"

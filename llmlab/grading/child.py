"""What runs inside the sandbox: a submission's cells, then its functions. It knows no right answer.

A file of its own, started as a script, that imports nothing of llmlab: the sandbox shows the
submission neither the references nor the checks. What it reports is lines of JSON with values,
and the one who reads them (`llmlab.grading.score`) believes nothing but the values.
"""

import json
import math
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

NUMBERS = 200_000  # in one answer: far above any honest one
DEPTH = 20
# The events that Python tells of before a program or a process is started.
_STARTS = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}


class OutOfTime(BaseException):
    """A cell or a call took too long. No Exception, so that `except Exception` lets it pass."""


# ---- values <-> JSON -----------------------------------------------------------------------------


def encode(value: Any, depth: int = 0) -> Any:
    """A value as plain JSON; what is no number, text, tensor or collection only as its type's name.

    >>> encode((1, [2.5, "a"]))
    {'tuple': [1, {'list': [2.5, 'a']}]}
    >>> encode(object())
    {'other': 'object'}
    """
    if value is None or type(value) in (bool, str, int, float):
        return value
    kind = type(value).__name__
    if depth > DEPTH:
        return {"other": kind}
    if type(value) in (list, tuple):
        if len(value) > NUMBERS:
            return {"other": kind}
        return {kind: [encode(v, depth + 1) for v in value]}
    if type(value) is dict:
        pairs = [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in value.items()]
        return {"dict": pairs}
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.Tensor) and value.numel() <= NUMBERS:
        value = value.detach().cpu()
        wide = value.double() if value.is_floating_point() else value
        numbers = wide.flatten().tolist()
        dtype = str(value.dtype).removeprefix("torch.")
        return {"tensor": numbers, "shape": list(value.shape), "dtype": dtype}
    is_array = numpy is not None and isinstance(value, numpy.ndarray | numpy.generic)
    if numpy is not None and is_array and value.size <= NUMBERS and value.dtype.kind in "biuf":
        array = numpy.asarray(value)
        numbers = array.flatten().tolist()
        return {"array": numbers, "shape": list(array.shape), "dtype": str(array.dtype)}
    return {"other": kind}


def decode(value: Any) -> Any:
    """The value again.

    Raises:
        ValueError: this is nothing that `encode` writes.

    >>> decode(encode((1, [2.5, "a"])))
    (1, [2.5, 'a'])
    """
    if value is None or isinstance(value, bool | str | int | float):
        return value
    if isinstance(value, dict):
        if "list" in value:
            return [decode(v) for v in value["list"]]
        if "tuple" in value:
            return tuple(decode(v) for v in value["tuple"])
        if "dict" in value:
            return {decode(k): decode(v) for k, v in value["dict"]}
        if "tensor" in value or "array" in value:
            return _numbers(value)
        if "other" in value:
            return Other(str(value["other"])[:60])
    raise ValueError("not a value that was encoded")


class Other:
    """Stands for an answer that is neither a number, text, tensor nor collection of these."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def _numbers(value: dict) -> Any:
    shape, dtype = value["shape"], value["dtype"]
    numbers: Any = value.get("tensor", value.get("array"))
    plain = isinstance(numbers, list) and all(isinstance(n, bool | int | float) for n in numbers)
    if not plain or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("not a tensor that was encoded")
    if math.prod(shape) != len(numbers) or len(shape) > 10:
        raise ValueError("a tensor whose shape does not fit its numbers")
    known = {"bool", "uint8", *(f"int{n}" for n in (8, 16, 32, 64))}
    known |= {"float16", "float32", "float64", "bfloat16"}
    if dtype not in known:
        raise ValueError("a tensor of an unknown kind of number")
    if "tensor" in value:
        import torch

        return torch.tensor(numbers, dtype=getattr(torch, dtype)).reshape(shape)
    import numpy

    return numpy.array(numbers, dtype=dtype).reshape(shape)


# ---- the run -------------------------------------------------------------------------------------


def bound(job: dict) -> None:
    """Limits on this process. They can't be raised again from inside."""
    import resource  # not on Windows, where students check their homework with this package

    limits = {
        # the memory that is used, not the addresses that torch maps
        resource.RLIMIT_DATA: job["memory"],
        resource.RLIMIT_FSIZE: job["disk"],
        resource.RLIMIT_CPU: int(job["seconds"]) + 5,
        resource.RLIMIT_NOFILE: 512,
        resource.RLIMIT_CORE: 0,
    }
    if job["alone"]:  # elsewhere it would count all your processes, not this one's
        limits[resource.RLIMIT_NPROC] = job["threads"]
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def refuse(event: str, _: tuple) -> None:
    """Say in the student's words what the sandbox would refuse in the kernel's."""
    if event in _STARTS:
        raise PermissionError("a submission can not start other programs or processes")


def within(seconds: float, function: Callable[[], Any]) -> Any:
    """Run a function, and stop it with OutOfTime after a while. A soft limit: for honest loops."""

    def stop(*_: Any) -> None:
        raise OutOfTime(f"stopped after {seconds:g} s")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # again each second, should one be swallowed
    try:
        return function()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def cells(text: str) -> list[str]:
    """The sources of a notebook's code cells.

    Raises:
        ValueError: this is not a notebook; the message says why, for the student.
    """
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"the file is not a notebook: it can't be read as JSON ({error}); open it in Jupyter, "
            "save it and hand it in anew"
        ) from None
    found = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(found, list):
        raise ValueError("the file is not a notebook of format 4: it holds no list of cells")
    sources = []
    for cell in found:
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", "")
            sources.append("".join(map(str, source)) if isinstance(source, list) else str(source))
    return sources


def short(error: BaseException) -> list[str]:
    """An error's type and message, of bounded length."""
    try:
        return [type(error).__name__[:60], str(error)[:300]]
    except Exception:  # an error that can't say its name
        return ["Exception", ""]


def main() -> None:
    """Do the job that stands on standard input."""
    job = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    report = os.fdopen(job["report"], "w")

    def tell(**line: Any) -> None:
        report.write(json.dumps(line) + "\n")
        report.flush()

    bound(job)
    if job["alone"]:
        sys.addaudithook(refuse)
    tell(begun=True)
    try:
        sources = cells(job["notebook"])
    except ValueError as error:
        tell(unreadable=str(error)[:300])
        return
    tell(cells=len(sources))

    sys.path.append(job["lab"])  # for a lab that was not installed
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance(history_length=0)
    shell.history_manager.enabled = False
    shell.showtraceback = lambda *_, **__: None  # errors are reported, not printed
    shell.displayhook.write_output_prompt = lambda: None  # "Out[0]:" each time
    for number, source in enumerate(sources, start=1):
        tell(cell=number)
        try:
            ran = within(job["cell_seconds"], partial(shell.run_cell, source))
            failed = ran.error_before_exec or ran.error_in_exec
        except BaseException as stopped:
            failed = stopped
        if failed is not None:
            tell(cell=number, error=short(failed), source=source.strip()[:60])
    for part in job["parts"]:
        function = shell.user_ns.get(part["function"])
        if function is None:
            tell(part=part["number"], missing=True)
            continue
        for trial, arguments in enumerate(part["trials"]):
            answer = call(function, arguments, job["call_seconds"])
            tell(part=part["number"], trial=trial, **answer)
            if "OutOfTime" in answer.get("error", ()):
                break  # the next input would take as long
    import resource

    tell(done=True, peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def call(function: Any, arguments: Any, seconds: float) -> dict:
    """What a function returns for these arguments, or the error it stops with, as JSON."""
    try:
        return {"value": within(seconds, lambda: encode(function(*decode(arguments))))}
    except BaseException as error:
        return {"error": short(error)}


if __name__ == "__main__":
    main()
    # no farewell: what a submission left to run at exit is not waited for
    sys.stdout.flush()
    os._exit(0)

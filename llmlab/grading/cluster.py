"""Where submissions run: threads of this machine, or a Dask cluster. Both are an Executor."""

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module

from llmlab.errors import LabError


@contextmanager
def executor(workers: int = 1, scheduler: str = "", patience: float = 10) -> Iterator[Executor]:
    """An executor for a while.

    Threads are enough here: each of them only watches a sandbox, which is a process of its own.

    Args:
        workers: how many submissions run at a time on this machine.
        scheduler: the address of a Dask cluster, such as "tcp://10.0.0.1:8786"; its workers need
            llmlab and bubblewrap, and get the submissions through the connection.
        patience: seconds to wait for the cluster to answer.

    Raises:
        LabError: `distributed` is not installed, or no scheduler answers.
    """
    if not scheduler:
        with ThreadPoolExecutor(workers) as pool:
            yield pool
        return
    try:
        dask = import_module("distributed")  # only who has a cluster needs it
    except ImportError:
        raise LabError(
            "For a cluster install Dask's scheduler: `pip install distributed`."
        ) from None
    try:
        client = dask.Client(scheduler, timeout=patience)
    except (OSError, ValueError) as error:
        raise LabError(f"No Dask scheduler answers at {scheduler!r}: {error}") from None
    with client:
        # a function that can't be trusted to run twice is not run twice by itself
        yield client.get_executor(retries=0, pure=False)

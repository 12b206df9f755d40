"""What all tests share."""

import functools
import os
import signal
import urllib.request

import pytest

from llmlab.grading import sandbox

# One thread and no timed bars, as in the notebooks' kernels; before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("LLMLAB_PROGRESS", "0")  # no notes of passed exercises here

# A shell starts what runs in its background deaf to Ctrl+C, by which `check` stops endless loops.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@functools.cache
def hub_out_of_reach() -> str:
    """Why the Hugging Face Hub can't be reached, or "" if it can."""
    from huggingface_hub import constants

    try:
        address = f"{constants.ENDPOINT}/gpt2/resolve/main/config.json"
        urllib.request.urlopen(address, timeout=5).close()
    except OSError as error:
        return str(getattr(error, "reason", error))
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `hub` where there is no Hub, `sandbox` where none works, and say so."""
    if item.get_closest_marker("hub") and (reason := hub_out_of_reach()):
        pytest.skip(f"the Hugging Face Hub is out of reach: {reason}")
    if item.get_closest_marker("sandbox") and (reason := sandbox.refusal()):
        pytest.skip(reason)

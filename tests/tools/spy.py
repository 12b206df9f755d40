"""Whom do the Python processes of a test call? An audit hook in each of them writes it down."""

from pathlib import Path

# Python runs a module of this name at every start, so the hook is also in the processes that
# other processes start: the server's kernels.
HOOK = """
import os, sys
def note(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    with open(os.environ["SPY_LOG"], "a") as log:
        print(host, file=log)
sys.addaudithook(note)
"""
LOCAL = {"127.0.0.1", "::1", "localhost", "None", "", "0.0.0.0", "::"}


def environment(folder: Path) -> dict[str, str]:
    """The variables that put the hook into a Python process and into all that it starts.

    Args:
        folder: an empty folder for the hook and its notes.
    """
    (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    return {"PYTHONPATH": str(folder), "SPY_LOG": str(folder / "log")}


def outside(folder: Path) -> set[str]:
    """Every host looked up or connected to so far that is not this machine."""
    log = folder / "log"
    return set(log.read_text(encoding="utf-8").split()) - LOCAL if log.exists() else set()

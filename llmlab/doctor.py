"""Is this machine ready? One look at all that the notebooks need, and what to do if not."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from llmlab.models import store
from llmlab.models.catalogue import DATA, all_models, everything, replacement

if TYPE_CHECKING:
    import pandas

PYTHON = (3, 11)  # the oldest that the package runs on
MEMORY = 1.6e9  # bytes that a notebook may take
ANSWER = 4.0  # seconds after which the network counts as out of reach

OK, NOTE, PROBLEM = "ok", "note", "problem"


class Check(NamedTuple):
    """One line of the report."""

    check: str
    found: str
    status: str = OK  # "ok", "note" (may matter) or "problem" (notebooks will stop at it)
    advice: str = ""


def report() -> "pandas.DataFrame":
    """What this machine has, a row a check: columns check, found, status, advice (all text).

    status is "ok", "note" (worth knowing) or "problem" (a notebook would stop at it). Never raises
    and never waits long: without a network it takes a few seconds.
    """
    import pandas

    checks = [_python(), *_libraries(), _device(), _memory(), _disk(), *_models(), *_variables()]
    checks += [*_places(), *_proxies(), _hub(), *_index()]
    return pandas.DataFrame(checks)


def verdict(report: "pandas.DataFrame") -> str:
    """The report in one sentence: ready, or what to do.

    >>> import pandas
    >>> verdict(pandas.DataFrame([Check("torch", "2.13.0")]))
    'Ready: the notebooks can run here.'
    """
    problems = report[report["status"] == PROBLEM]
    if problems.empty:
        return "Ready: the notebooks can run here."
    return "Not ready. " + " ".join(dict.fromkeys(problems["advice"]))


# ── software ──


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info >= PYTHON:
        return Check("Python", found)
    oldest = ".".join(map(str, PYTHON))
    return Check("Python", found, PROBLEM, f"Install Python {oldest} or newer.")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _wanted(package: str) -> SpecifierSet:
    """The versions that llmlab asks for; any, when llmlab itself was not installed but copied."""
    try:
        lines = importlib.metadata.requires("llmlab") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    requirements = {requirement.name: requirement for requirement in map(Requirement, lines)}
    return requirements[package].specifier if package in requirements else SpecifierSet()


def _libraries() -> list[Check]:
    """The versions of what the notebooks import, and of what shows them."""
    checks = []
    for package in ("torch", "transformers", "ipywidgets"):
        found, wanted = _version(package), _wanted(package)
        if found and wanted.contains(found, prereleases=True):
            checks.append(Check(package, found))
        else:
            advice = f'Install a version that fits: `pip install "{package}{wanted}"`.'
            checks.append(Check(package, found or "missing", PROBLEM, advice))
    in_colab = "COLAB_RELEASE_TAG" in os.environ
    lab = _version("jupyterlab")
    if lab or in_colab:
        checks.append(Check("jupyterlab", lab or "missing, and not needed in Colab"))
    else:
        advice = "Install it to open the notebooks here: `pip install jupyterlab`."
        checks.append(Check("jupyterlab", "missing", NOTE, advice))
    return checks


# ── the machine ──


def _device() -> Check:
    """Where torch computes."""
    try:
        import torch

        if torch.cuda.is_available():
            return Check("device", f"cuda ({torch.cuda.get_device_name(0)})")
        if torch.backends.mps.is_available():
            return Check("device", "mps (Apple silicon)")
        return Check("device", f"cpu ({torch.get_num_threads()} threads)")
    except Exception as error:  # a broken torch fails in many ways: say which, and go on
        advice = "torch does not load: install it again (`pip install --force-reinstall torch`)."
        return Check("device", f"unknown: {error}", PROBLEM, advice)


def _memory() -> Check:
    """Free and total memory, within the container's limit where there is one."""
    machine = psutil.virtual_memory()
    total, free, where = machine.total, machine.available, "this machine"
    limited = memory_limit()
    if limited is not None and limited[0] < total:
        total, free, where = limited[0], min(limited[1], free), "this container"
    found = f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB in {where}"
    if total < MEMORY:
        advice = f"A notebook takes up to {MEMORY / 1e9:.1f} GB: use a larger machine."
        return Check("memory", found, PROBLEM, advice)
    if free < MEMORY:
        advice = "Shut down notebooks that you have finished (Kernel, Shut Down)."
        return Check("memory", found, NOTE, advice)
    return Check("memory", found)


def memory_limit(
    own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> tuple[int, int] | None:
    """The memory that this process's container may use and what of it is free, in bytes.

    None where there is no limit (or no Linux). The tightest of the nested groups counts. Binder
    and most class servers set one; `psutil` and `free` show the whole machine's memory.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:  # "0::/user.slice" (version 2) or "4:memory:/docker/…" (version 1)
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            top, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inner = top / group.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(top):
                limits += _group(folder, *names)
    return min(limits, key=lambda pair: pair[1], default=None)


def _group(folder: Path, limit: str, usage: str, cache: str) -> list[tuple[int, int]]:
    """The limit of one group and what of it is free, as a list of one; [] for no limit."""
    try:
        most = int((folder / limit).read_text())  # "max" is no number
        used = int((folder / usage).read_text())
        counted = re.search(rf"^{cache} (\d+)$", (folder / "memory.stat").read_text(), re.M)
    except (OSError, ValueError):
        return []
    if most >= 1 << 60:  # version 1 writes "no limit" as a huge number
        return []
    reclaimable = int(counted[1]) if counted else 0  # file cache that gives way when needed
    return [(most, max(0, most - used + reclaimable))]


def _disk() -> Check:
    """Free space where the models are kept, against what is still to fetch."""
    place = store.home()
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    needed = sum(store.room(model) for model in everything().values() if not store.is_here(model))
    found = f"{free / 1e9:.1f} GB free for {place}"
    if free < needed:
        advice = (
            f"The models still to fetch need {needed / 1e9:.1f} GB: free some space, or set "
            "LLMLAB_HOME to a folder on a larger disk."
        )
        return Check("disk", found, PROBLEM, advice)
    if needed and not (existing.is_dir() and os.access(existing, os.W_OK)):
        advice = "Set LLMLAB_HOME to a folder that you may write to: the models are fetched there."
        return Check("disk", f"{existing} can't be written to", PROBLEM, advice)
    return Check("disk", found)


# ── models and settings ──


def _models() -> list[Check]:
    checks = []
    for model in everything().values():
        what = f"{'texts' if model.kind == DATA else 'model'} {model.name}"
        if store.is_here(model):
            checks.append(Check(what, "here"))
        else:
            advice = "Fetch the models while there is a network: `llmlab fetch --all`."
            checks.append(Check(what, "not here", PROBLEM, advice))
    return checks


def _variables() -> list[Check]:
    """Models that the reader has put in the place of a default."""
    names = [replacement(model) for model in all_models().values()]
    return [
        Check(name, os.environ[name], NOTE, "Stored outputs were made with the default model.")
        for name in names
        if os.environ.get(name)
    ]


def _places() -> list[Check]:
    """Where files are kept; "(set)" marks what a variable has chosen."""
    from huggingface_hub import constants

    places = {
        "HF_HOME": constants.HF_HOME,
        "HF_HUB_CACHE": constants.HF_HUB_CACHE,
        "HF_XET_CACHE": constants.HF_XET_CACHE,
        "LLMLAB_HOME": str(store.home()),
    }
    return [
        Check(name, f"{place} (set)" if os.environ.get(name) else place)
        for name, place in places.items()
    ]


# ── the network ──


def _proxies() -> list[Check]:
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    found = [(name, os.environ.get(name) or os.environ.get(name.lower())) for name in names]
    settings = ", ".join(f"{name}={without_password(value)}" for name, value in found if value)
    return [Check("proxies", settings or "none set")]


def without_password(url: str) -> str:
    """The address without the name and password that may stand in it.

    >>> without_password("http://ada:secret@proxy.example:3128")
    'http://***@proxy.example:3128'
    """
    return re.sub(r"(^|//)[^/\s]+@", r"\1***@", url)


def _hub() -> Check:
    """Whether the Hugging Face Hub answers. Nothing needs it unless the reader asks for more."""
    import requests
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Check("Hub", "not asked: HF_HUB_OFFLINE is set", NOTE)
    answered = _in_time(lambda: requests.head(constants.ENDPOINT, timeout=ANSWER).ok)
    if answered:
        return Check("Hub", "answers")
    return Check("Hub", "out of reach", NOTE, "Not needed: the course's models work without it.")


def _index() -> list[Check]:
    """Whether the package index answers, asked only while a model is still to be fetched."""
    rows = everything().values()
    missing = [row for row in rows if row.sources and not store.is_here(row)]
    if not missing:
        return []
    from llmlab.models import download

    if _in_time(lambda: download.index_answers(missing[0].sources[0], ANSWER)):
        return [Check("package index", "answers")]
    advice = "Check the network and the proxy: the models come from the package index."
    return [Check("package index", "out of reach", NOTE, advice)]


def _in_time(question: Callable[[], bool]) -> bool:
    """The answer to a question to the network; False when there is none in a few seconds."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            answers.append(question())
        except Exception:  # whatever goes wrong: it is out of reach
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)  # a name server may keep it waiting longer
    thread.start()
    thread.join(2 * ANSWER)
    return bool(answers and answers[0])

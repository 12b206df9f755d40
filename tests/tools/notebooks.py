"""The verbs around the notebooks.

    python -m tests.tools.notebooks execute [FILES]            run twice, compare, store the outputs
    python -m tests.tools.notebooks normalise [--check] [FILES]
    python -m tests.tools.notebooks badges [--check] [FILES]   the repository's address everywhere
    python -m tests.tools.notebooks test [--lax] [FILES]       nbval, as `make test` runs it

Without FILES: all notebooks of the course.
"""

import argparse
import difflib
import hashlib
import os
import platform
import re
import subprocess
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, KernelManager, NbvalKernelspecManager
from nbval.plugin import coalesce_streams, get_sanitize_patterns

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
SANITIZE = ROOT / "tests" / "sanitize.cfg"
CELL_TIMEOUT = 300  # seconds: far above any cell, so that only a hanging one meets it
TOGETHER = min(2, os.cpu_count() or 1)  # notebooks tested at a time: each has one thread, 1.6 GB

# Where the kernels run, here and under nbval: one thread and no timed bars (both change what is
# printed), and an outside that refuses every connection at once: nothing may need it.
_CLOSED = "http://127.0.0.1:9"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
    "LLMLAB_PROGRESS": "0",  # no notes beside the course's own notebooks
    "HF_ENDPOINT": _CLOSED,
    **dict.fromkeys(["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"], _CLOSED),
    **dict.fromkeys(["http_proxy", "https_proxy", "all_proxy"], _CLOSED),
    "NO_PROXY": "",
    "no_proxy": "",
}
# What a reader may have set, and what would change the outputs.
UNSET = [
    "ATEN_CPU_CAPABILITY", "LLMLAB_CAUSAL_LM", "LLMLAB_ENCODER", "LLMLAB_TOKENIZER",
    "LLMLAB_CLASSIFIER", "LLMLAB_SEQ2SEQ",
]  # fmt: skip

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    # No "version": it would change with every Python.
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}
WIDGET = "application/vnd.jupyter.widget-view+json"
# The keys of an output that nbval leaves out (nbval.plugin.IPyNbFile.skip_compare).
NOT_COMPARED = {
    "metadata", "traceback", "prompt_number", "output_type", "name", "execution_count",
    WIDGET, "image/png", "image/jpeg",
}  # fmt: skip
# The metadata of a cell that its author gave it.
KEPT = ("tags", "nbgrader")
# Tags and comments by which nbval compares less.
EXCUSES = {"nbval-skip", "nbval-ignore-output", "nbval-raises-exception", "raises-exception"}


class Refused(Exception):
    """Why a notebook can't be stored; the message is for the one who wrote it."""


def find(files: Iterable[str | Path] = ()) -> list[Path]:
    """The notebooks named, or all of the course in their order."""
    return [Path(f).resolve() for f in files] or sorted(
        p for p in NOTEBOOKS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts
    )


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook as it stands on disk (format 4)."""
    return nbformat.read(path, as_version=4)


def code_cells(nb: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The code cells in their order; number i has the execution count i + 1."""
    return [cell for cell in nb.cells if cell.cell_type == "code"]


# ---- the normal form ---------------------------------------------------------------------------


def normal(nb: nbformat.NotebookNode) -> str:
    """The text of a notebook in its one normal form, so that a diff shows what changed.

    Execution counts 1…n, no state of widgets, no times, no versions, kept or derived cell ids,
    neighbouring stream outputs merged, nbformat's own indent, a newline at the end. A cell that
    asks for a guess has its outputs folded: JupyterLab unfolds them when the cell is run.
    """
    cells, count, ids = [], 0, set()
    for cell in nb.cells:
        new = {
            "cell_type": cell.cell_type,
            "id": _id(cell, ids),
            "metadata": {k: cell.metadata[k] for k in KEPT if cell.metadata.get(k)},
            "source": cell.source,
        }
        if cell.cell_type == "code":
            count += 1
            new |= {"execution_count": count, "outputs": _normal_outputs(cell.outputs, count)}
            if re.search(r"^guess = None\b", cell.source, re.M):
                new["metadata"]["jupyter"] = {"outputs_hidden": True}
        if cell.get("attachments"):
            new["attachments"] = cell.attachments
        cells.append(new)
    shape = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    result = nbformat.from_dict(shape)
    nbformat.validate(result)
    return nbformat.writes(result).rstrip("\n") + "\n"


def _id(cell: nbformat.NotebookNode, taken: set[str]) -> str:
    """The cell's own id, or one made from its source; unique in the notebook."""
    name = cell.get("id") or hashlib.sha256(cell.source.encode()).hexdigest()[:8]
    while name in taken:
        name = hashlib.sha256(f"{name} {cell.source}".encode()).hexdigest()[:8]
    taken.add(name)
    return name


def _normal_outputs(outputs: list, count: int) -> list[dict]:
    """Outputs without widget views, with the cell's count, neighbouring streams merged."""
    result: list[dict] = []
    for output in outputs:
        output = {key: value for key, value in output.items() if key != "transient"}
        kind = output["output_type"]
        if kind == "stream" and result and result[-1].get("name") == output["name"]:
            result[-1]["text"] += output["text"]
            continue
        if "data" in output:
            output["data"] = {k: v for k, v in output["data"].items() if k != WIDGET}
            if not output["data"]:
                continue
        if kind == "execute_result":
            output["execution_count"] = count
        result.append(output)
    return result


# ---- what nbval compares -----------------------------------------------------------------------


def sanitised(text: str) -> str:
    """The text after the rules of `tests/sanitize.cfg`, as nbval applies them."""
    for regex, replacement in dict(get_sanitize_patterns(SANITIZE.read_text("utf-8"))).items():
        text = re.sub(regex, replacement, text)
    return text


def fields(outputs: list) -> dict[str, list[str]]:
    """What nbval compares of a cell's outputs: kind of text -> the sanitised texts in order.

    Kinds are MIME types, "stdout", "stderr", "ename" and "evalue".
    """
    found = defaultdict(list)
    for output in coalesce_streams([nbformat.from_dict(dict(o)) for o in outputs]):
        flat = {**output, **output.get("data", {})}
        if output.output_type == "stream":
            flat[output.name] = flat.pop("text")
        for key in flat.keys() - NOT_COMPARED - {"data"}:
            text = flat[key] if isinstance(flat[key], str) else repr(flat[key])
            found[key].append(sanitised(text))
    return dict(found)


def words(kind: str, text: str) -> list[re.Match]:
    """The words of a sanitised text that still say something that could be wrong.

    Not among them: what was blanked, markup, and what Jupyter calls an object without a name.

    >>> def found(kind, text):
    ...     return [word[0] for word in words(kind, text)]
    >>> found("text/plain", "<measured ms>, <Figure size 640x480 with 1 Axes>, 7 tokens")
    ['7', 'tokens']
    >>> found("text/html", '<style>td {}</style><b title="id">one</b>')
    ['one']
    """
    silent = r"<png>|<measured [^>]*>|<Figure size [^>]*>|<IPython\.\S+ object>"
    if kind in ("text/html", "image/svg+xml"):
        silent += r"|<style\b.*?</style>|<script\b.*?</script>|<[^>]*>|&\w+;"
    found = re.finditer(rf"{silent}|\w+", text, re.DOTALL)
    return [word for word in found if word[0][0] not in "<&"]


def compared(cell: nbformat.NotebookNode) -> bool:
    """Whether altering the cell's stored output would make nbval fail."""
    excused = EXCUSES & ({*cell.metadata.get("tags", [])} | marks(cell.source))
    return not excused and any(
        words(kind, text) for kind, texts in fields(cell.outputs).items() for text in texts
    )


def marks(source: str) -> set[str]:
    """The comments of a cell that nbval obeys, written as tags."""
    marks = re.findall(r"^\s*#+\s*((?:PYTEST_VALIDATE|NBVAL)_\w+)\s*$", source, re.MULTILINE)
    return {m.replace("PYTEST_VALIDATE", "NBVAL").lower().replace("_", "-") for m in marks}


def share(nb: nbformat.NotebookNode) -> float:
    """The share of code cells whose output is compared, 0 to 1."""
    return sum(map(compared, code_cells(nb))) / max(1, len(code_cells(nb)))


# ---- execute -----------------------------------------------------------------------------------


def run(path: Path, **environment: str) -> tuple[nbformat.NotebookNode, float, float]:
    """Execute a copy of a notebook in a fresh kernel, in the notebook's folder.

    Returns:
        The executed copy, the seconds it took, and the kernel's peak memory in MB.

    Raises:
        Refused: a cell stopped with an error.
    """
    nb = read(path)
    env = {k: v for k, v in os.environ.items() if k not in UNSET} | ENVIRONMENT | environment
    manager = KernelManager(
        kernel_name=CURRENT_ENV_KERNEL_NAME, kernel_spec_manager=NbvalKernelspecManager()
    )
    start = time.perf_counter()
    # As under nbval, what a kernel says outside a cell is left out.
    manager.start_kernel(env=env, cwd=str(path.parent), stderr=subprocess.DEVNULL)
    try:
        NotebookClient(nb, km=manager, timeout=CELL_TIMEOUT).execute()
        return nb, time.perf_counter() - start, peak_memory(manager.provisioner.pid)
    except (CellExecutionError, DeadKernelError, CellTimeoutError) as error:
        raise Refused(f"{path.name}: a cell stopped.\n{error}") from None
    finally:
        manager.shutdown_kernel(now=True)


def peak_memory(pid: int) -> float:
    """The most memory a running process has had resident so far, in MB (10⁶ bytes).

    Where the system does not keep it (macOS), what it has now.
    """
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024 / 1e6
    memory = psutil.Process(pid).memory_info()
    return getattr(memory, "peak_wset", memory.rss) / 1e6


def differences(one: nbformat.NotebookNode, other: nbformat.NotebookNode) -> list[str]:
    """For each code cell whose compared outputs differ: its source and both outputs."""
    result = []
    pairs = zip(code_cells(one), code_cells(other), strict=True)
    for number, (a, b) in enumerate(pairs, start=1):
        first, second = fields(a.outputs), fields(b.outputs)
        if first == second:
            continue
        lines = [
            f"  {line}"
            for kind in sorted(first.keys() | second.keys())
            for line in difflib.unified_diff(
                "\n".join(first.get(kind, [])).splitlines(),
                "\n".join(second.get(kind, [])).splitlines(),
                f"{kind}, as is", f"{kind}, second run", n=1, lineterm="",
            )
        ]  # fmt: skip
        source = "\n".join(f"  {line}" for line in a.source.splitlines())
        result.append(f"In [{number}]:\n{source}\n" + "\n".join(lines))
    return result


def machine_paths(text: str) -> list[str]:
    """Absolute paths of a machine in a text: homes, temporary folders, installed packages, ours."""
    own = [re.escape(str(p)) for p in {ROOT, Path.home(), Path(sys.prefix)} if len(p.parts) > 1]
    usual = [
        r"/(?:home|Users)/[\w.-]+", r"/(?:root|tmp|content|opt|mnt|srv)/[\w.-]+",
        r"/(?:usr|var|private)/[\w.-]+/[\w.-]+", r"\bsite-packages\b",
        r"\b[A-Z]:\\+(?:Users|Windows|Program|hosted)",
    ]  # fmt: skip
    return re.findall("|".join([*own, *(rf"(?<![\w./:-]){u}" for u in usual)]), text)


def execute(path: Path) -> str:
    """Run a notebook twice, refuse what does not repeat, store the outputs in normal form.

    The second run has the vector instructions limited to AVX2, which changes the last digits of
    sums: digits that differ between the two would differ on a reader's machine as well.

    Returns:
        A line on the notebook: seconds, peak memory, size, share of compared cells.

    Raises:
        Refused: a cell stopped, the runs differ, or an output holds a path of this machine.
    """
    before = path.read_text("utf-8")
    nb, seconds, peak = run(path)
    again, _, _ = run(path, ATEN_CPU_CAPABILITY="avx2")
    found = differences(nb, again)
    if found:
        raise Refused(
            f"{path.name}: these outputs differ between two runs, the second with "
            "ATEN_CPU_CAPABILITY=avx2. Round, sort or seed them.\n\n" + "\n\n".join(found)
        )
    for number, cell in enumerate(code_cells(nb), start=1):
        text = "\n".join(t for texts in fields(cell.outputs).values() for t in texts)
        if paths := machine_paths(text):
            raise Refused(f"{path.name}: the output of In [{number}] holds the path {paths[0]}")
    if path.read_text("utf-8") != before:
        raise Refused(f"{path.name}: somebody changed it while it ran. Run it again.")
    text = normal(nb)
    path.write_text(text, encoding="utf-8", newline="\n")
    bare = [i for i, cell in enumerate(code_cells(nb), start=1) if not compared(cell)]
    return (
        f"{path.name}: {seconds:.0f} s, {peak:,.0f} MB at most, {len(text.encode()) / 1e6:.2f} MB "
        f"on disk, {share(nb):.0%} of {len(code_cells(nb))} code cells compared"
        + (f" (not: In {bare})" if bare else "")
    )


# ---- the repository's address ------------------------------------------------------------------


def address() -> str:
    """The repository's address, from the one place that knows it."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    return tomllib.loads(text)["project"]["urls"]["Repository"].rstrip("/")


def setup_cell() -> str:
    """The set-up cell that every notebook begins with."""
    return (
        "try:  # on Colab the package is not there yet\n"
        "    import llmlab\n"
        "except ImportError:\n"
        f"    %pip install -q git+{address()}\n"
        "    import llmlab\n"
        "llmlab.setup()"
    )


def links(path: Path) -> str:
    """The line of links in a notebook's first cell."""
    place = f"notebooks/{path.name}"
    if path.is_relative_to(NOTEBOOKS):
        place = path.relative_to(ROOT).as_posix().replace("homework/source/", "homework/release/")
    name = address().removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{name}/blob/main/{place}"
    binder = f"https://mybinder.org/v2/gh/{name}/main?labpath={place}"
    return f"[Open in Colab]({colab}) · [Open in Binder]({binder})"


def addressed(nb: nbformat.NotebookNode, path: Path) -> nbformat.NotebookNode:
    """The notebook with today's address in its links and its set-up cell."""
    nb = nbformat.from_dict(nb)
    first, setup = nb.cells[0], next(iter(code_cells(nb)), None)
    pattern = r"^\[Open in Colab\]\(.*$"
    if not re.search(pattern, first.source, re.MULTILINE):
        raise Refused(
            f"{path.name}: the first cell has no line of links; it should read\n{links(path)}"
        )
    if setup is None or "llmlab.setup()" not in setup.source:
        raise Refused(f"{path.name}: the first code cell should be\n{setup_cell()}")
    first.source = re.sub(pattern, lambda _: links(path), first.source, flags=re.MULTILINE)
    setup.source = setup_cell()
    return nb


def addressed_text(text: str) -> str:
    """A page such as the README with today's address in its badges, clones and installs."""
    name = address().removeprefix("https://github.com/")
    before = (
        r"(colab\.research\.google\.com/github/|mybinder\.org/v2/gh/"
        r"|(?:git\+|git clone |repository-code: \"?)https://github\.com/)"
    )
    return re.sub(before + r"[\w-]+/[\w-]+", lambda m: m[1] + name, text)


def badges(path: Path) -> str:
    """The text that a notebook or page has with today's address."""
    if path.suffix == ".ipynb":
        return normal(addressed(read(path), path))
    return addressed_text(path.read_text("utf-8"))


# ---- the command line --------------------------------------------------------------------------


def nbval_command(files: Iterable[Path], *, strict: bool) -> list[str]:
    """The nbval run over these notebooks, to be started in the repository's root."""
    return [
        sys.executable, "-m", "pytest", f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml"),
        "-p", "tests.tools.nbval_report", "--nbval" if strict else "--nbval-lax",
        "--nbval-current-env", f"--nbval-sanitize-with={SANITIZE}",
        f"--nbval-cell-timeout={CELL_TIMEOUT}", *([] if sys.stdout.isatty() else ["--color=no"]),
        *map(str, files),
    ]  # fmt: skip


def test(files: Iterable[Path], *, strict: bool, together: int = TOGETHER) -> bool:
    """nbval over each notebook, some of them at a time; prints each run, True if all passed.

    The last ones first: they take longest, and what is short fills the gap at the end.
    """

    def one(path: Path) -> subprocess.CompletedProcess[str]:
        command = nbval_command([path], strict=strict)
        return subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    failed = []
    with ThreadPoolExecutor(together) as pool:
        runs = {pool.submit(one, path): path for path in reversed(list(files))}
        for run in as_completed(runs):
            print(run.result().stdout, flush=True)
            if run.result().returncode:
                failed.append(runs[run].name)
    print(f"{len(runs) - len(failed)} of {len(runs)} notebooks passed.", flush=True)
    if failed:
        print("Failed: " + ", ".join(sorted(failed)), flush=True)
    return not failed


def comparable() -> bool:
    """Whether this machine prints the digits that are stored: only Linux on x86-64 is held to."""
    return (platform.system(), platform.machine()) == ("Linux", "x86_64")


def _rewrite(path: Path, text: str, check: bool) -> bool:
    """Write a file if its text is another; whether it was (or, under --check, would be)."""
    if path.read_text("utf-8") == text:
        return False
    if not check:
        path.write_text(text, encoding="utf-8", newline="\n")
    print(f"{path.name}: {'is not as it should be' if check else 'rewritten'}")
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("verb", choices=["execute", "normalise", "badges", "test"])
    parser.add_argument("files", nargs="*", metavar="FILES")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if it would")
    parser.add_argument("--lax", action="store_true", help="run the cells, do not compare outputs")
    given = parser.parse_intermixed_args(arguments)
    if given.verb == "test":
        strict = comparable() and not given.lax
        return int(not test(find(given.files), strict=strict))
    bad = False
    pages = [ROOT / "README.md", ROOT / "CITATION.cff"]
    more = [p for p in pages if p.exists()] if given.verb == "badges" and not given.files else []
    for path in [*find(given.files), *more]:
        try:
            if given.verb == "execute":
                print(execute(path), flush=True)
            else:
                text = normal(read(path)) if given.verb == "normalise" else badges(path)
                bad |= _rewrite(path, text, given.check) and given.check
        except Refused as reason:
            print(reason, file=sys.stderr, flush=True)
            bad = True
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())

"""One bubblewrap sandbox for one submission: what it may see, what it may use, how it ends.

Inside there is the system and the lab, read-only, without the checks, the references, other
submissions and the network; a scratch folder in memory; and limits on time, memory, processes,
files and output. A watcher outside enforces those that a process could escape by forking.
"""

import contextlib
import functools
import json
import os
import platform
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

import llmlab
from llmlab.errors import LabError
from llmlab.models import store

CHILD = Path(__file__).with_name("child.py")
_INERT = Path(__file__).with_name("inert.py")
_INSIDE = "/grading/child.py"
_SCRATCH = "/scratch"


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Attributes:
        seconds: for all of it, measured on the wall.
        cell_seconds: for one cell; then the next one runs.
        call_seconds: for one call of a function.
        memory: bytes, of all its processes together.
        disk: bytes of its scratch folder.
        output: bytes that it may print; more than that stops it.
        processes: how many, threads included.
        file: bytes of the notebook file.
    """

    seconds: float = 300
    cell_seconds: float = 60
    call_seconds: float = 10
    memory: int = 3_000_000_000
    disk: int = 200_000_000
    output: int = 10_000_000
    processes: int = 100
    file: int = 20_000_000


@dataclass
class Run:
    """How a run went, as seen from outside.

    Attributes:
        lines: what the child reported; any of it may be forged.
        output: the beginning of what it printed.
        stopped: why it was stopped or ended early, for the student; "" if it ran to its end.
        seconds: on the wall.
        peak: the most memory one of its processes had, in MB (10⁶ bytes).
    """

    lines: list[dict] = field(default_factory=list)
    output: str = ""
    stopped: str = ""
    seconds: float = 0.0
    peak: float = 0.0


# ---- what it sees --------------------------------------------------------------------------------


def command(hidden: tuple[Path, ...] = (), limits: Limits = Limits()) -> list[str]:
    """The words that start a process in a sandbox; the process's own follow.

    Args:
        hidden: folders that must not be seen, should one of them lie where Python does.
        limits: `disk` bounds the scratch folder.
    """
    words = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent"]
    words += ["--new-session", "--cap-drop", "ALL", "--uid", "65534", "--gid", "65534"]
    words += ["--hostname", "lab", "--clearenv"]
    lab = Path(llmlab.__file__).parent
    shown = [Path("/usr"), Path(sys.prefix), Path(sys.base_prefix), lab, store.home()]
    for top in map(Path, ["/bin", "/sbin", "/lib", "/lib64", "/lib32"]):
        if top.is_symlink():
            words += ["--symlink", str(top.readlink()), str(top)]
        elif top.is_dir():
            shown.insert(0, top)
    for place in ["/etc/ld.so.cache", "/etc/fonts", "/etc/localtime", "/etc/alternatives"]:
        words += ["--ro-bind-try", place, place]
    for folder in dict.fromkeys(shown):
        words += ["--ro-bind-try", str(folder), str(folder)]
    masked = [lab / "grading", lab / "checks"]
    repository = lab.parent
    for folder in (repository / "notebooks", repository / "tests", repository / ".git", *hidden):
        above = [f.resolve() for f in shown]
        inside = any(folder.resolve().is_relative_to(a) for a in above)
        if folder.is_dir() and inside:
            masked.append(folder.resolve())
    for folder in masked:
        words += ["--tmpfs", str(folder)]
    words += ["--ro-bind", str(_INERT), str(lab / "checks" / "__init__.py")]
    words += ["--ro-bind", *[str(lab / "checks" / "progress.py")] * 2]  # it knows no answer
    words += ["--ro-bind", str(CHILD), _INSIDE, "--proc", "/proc", "--dev", "/dev"]
    small = ["--size", "64000000", "--tmpfs"]
    words += ["--size", str(limits.disk), "--tmpfs", _SCRATCH, *small, "/tmp", *small, "/dev/shm"]
    for folder in [*masked, Path("/dev"), Path("/")]:
        words += ["--remount-ro", str(folder)]
    for name, value in environment(_SCRATCH).items():
        words += ["--setenv", name, value]
    return [*words, "--chdir", _SCRATCH, "--"]


def environment(scratch: str) -> dict[str, str]:
    """The variables of a submission: nothing of the instructor's own."""
    kept = {"LLMLAB_HOME": str(store.home()), "HOME": scratch, "TMPDIR": "/tmp"}
    kept |= {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MPLBACKEND": "Agg"}
    kept |= {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}
    kept |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "MPLCONFIGDIR": scratch}
    return kept | {"IPYTHONDIR": scratch}


# ---- whether it works here -----------------------------------------------------------------------


def probe() -> None:
    """Make sure that the sandbox works on this machine, by trying it.

    Raises:
        LabError: it does not; the sentence says what to change.
    """
    reason = refusal()
    if reason:
        raise LabError(
            f"{reason} (Without a sandbox a submission can read, change and delete all that you "
            "can. If that is what you want, say --no-sandbox.)"
        )


@functools.cache
def refusal() -> str:
    """Why no submission can be graded here, as one sentence, or ""."""
    if platform.system() != "Linux":
        return (
            f"Grading needs bubblewrap, which runs on Linux alone, and this is "
            f"{platform.system() or 'another system'}: grade on a Linux machine, in WSL 2 or in "
            "a virtual machine."
        )
    if shutil.which("bwrap") is None:
        return (
            "Grading needs bubblewrap, and it is not installed: `sudo apt install bubblewrap` "
            "(Debian, Ubuntu) or `sudo dnf install bubblewrap` (Fedora)."
        )
    lab = Path(llmlab.__file__).parent
    # Seen from inside: no reference, nothing to write to but the scratch folder, no network.
    look = (
        f"test ! -e {lab}/grading/score.py -a ! -e {lab}/checks/attention.py"
        f" && ! touch {lab}/x 2>/dev/null && touch x && test $(wc -l </proc/net/dev) -le 3"
    )
    tried = subprocess.run(
        [*command(), "/bin/sh", "-c", look.replace(str(lab), f"'{lab}'")],
        capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=60,
        check=False,
    )  # fmt: skip
    return "" if tried.returncode == 0 else _why(tried.stderr.strip())


def _setting(name: str) -> str:
    """A setting of the kernel, or "" where there is none."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    return ""


def _why(said: str) -> str:
    """The sentence for a sandbox that could not be made, from what bubblewrap said."""
    start = f"The sandbox can't be made here (bubblewrap says {said or 'nothing'!r}):"
    if _setting("kernel.apparmor_restrict_unprivileged_userns") == "1":
        return (
            f"{start} AppArmor forbids it, as on Ubuntu 24.04; allow bubblewrap with `sudo ln -s "
            "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/` and `sudo "
            "systemctl reload apparmor`, or until the next start all programs with `sudo sysctl "
            "kernel.apparmor_restrict_unprivileged_userns=0`."
        )
    if "0" in (_setting("kernel.unprivileged_userns_clone"), _setting("user.max_user_namespaces")):
        return (
            f"{start} this system has user namespaces turned off; turn them on with `sudo sysctl "
            "kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000`."
        )
    container = Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()
    where = "this is a container, and" if container else "if this is a container,"
    return (
        f"{start} {where} it must be started with `--security-opt seccomp=unconfined "
        "--security-opt apparmor=unconfined --security-opt systempaths=unconfined`; else grade "
        "on the machine itself."
    )


# ---- one run -------------------------------------------------------------------------------------


def run(
    notebook: bytes,
    parts: list[dict],
    limits: Limits,
    *,
    hidden: tuple[Path, ...] = (),
    sandbox: bool = True,
) -> Run:
    """Run a submission and call its functions.

    Args:
        notebook: the file as it was handed in.
        parts: for each exercise `number`, `function` (its name) and `trials` (encoded arguments).
        limits: what it may use.
        hidden: folders that it must not see wherever they lie.
        sandbox: False runs it with your own rights, in a scratch folder, under the limits alone.
    """
    mine, theirs = os.pipe()
    job = asdict(limits) | {"parts": parts, "report": theirs}
    if not sandbox:  # there it would count all your processes, not this one's
        job["processes"] = None
    job["notebook"] = notebook.decode("utf-8", errors="replace")
    with tempfile.TemporaryDirectory(prefix="llmlab-grading-") as scratch:
        words = command(hidden, limits) if sandbox else []
        words += [sys.executable, "-I", "-B", _INSIDE if sandbox else str(CHILD)]
        began = time.perf_counter()
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=[theirs], start_new_session=True, cwd=scratch,
            env=None if sandbox else environment(scratch),
        )  # fmt: skip
        os.close(theirs)
        try:
            return _follow(process, mine, json.dumps(job).encode(), limits, began)
        finally:
            os.close(mine)


def _follow(
    process: subprocess.Popen, report: int, job: bytes, limits: Limits, began: float
) -> Run:
    """Feed the process, read what it says, and stop it where it goes beyond its limits."""
    assert process.stdin and process.stdout
    run, printed, told = Run(), bytearray(), bytearray()
    total, looked, rest = 0, 0.0, memoryview(job)
    stdin, stdout = process.stdin.fileno(), process.stdout.fileno()
    for pipe in (stdin, stdout, report):
        os.set_blocking(pipe, False)
    with selectors.DefaultSelector() as ready:
        ready.register(stdin, selectors.EVENT_WRITE)
        ready.register(stdout, selectors.EVENT_READ)
        ready.register(report, selectors.EVENT_READ)
        while len(ready.get_map()) > (stdin in ready.get_map()) and not run.stopped:
            for key, _ in ready.select(0.1):
                if key.fd == stdin:
                    try:
                        rest = rest[os.write(stdin, rest[:65536]) :]
                    except BrokenPipeError:
                        rest = rest[:0]
                    if not rest:
                        ready.unregister(stdin)
                        process.stdin.close()
                    continue
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    ready.unregister(key.fd)
                total += len(chunk)
                kept, most = (printed, 20_000) if key.fd == stdout else (told, 8_000_000)
                kept += chunk[: most - len(kept)]
            now = time.perf_counter()
            if total > limits.output:
                run.stopped = f"stopped: it wrote more than {limits.output / 1e6:g} MB of output"
            elif now - began > limits.seconds:
                run.stopped = f"stopped: it was still at work after {limits.seconds:g} s"
            elif now - looked > 0.2:
                looked = now
                run.stopped = _too_much(process.pid, limits)
    run.seconds = round(time.perf_counter() - began, 2)
    status, used = _end(process)
    run.peak = round(used * 1024 / 1e6, 1)
    run.output = printed.decode("utf-8", errors="replace")
    run.lines = _lines(bytes(told))
    if not run.stopped and not any(line.get("done") is True for line in run.lines):
        run.stopped = _ended(status, run.lines)
    return run


def _too_much(pid: int, limits: Limits) -> str:
    """Why the processes below this one must be stopped, or ""."""
    with contextlib.suppress(psutil.Error):
        below = psutil.Process(pid).children(recursive=True)
        if len(below) > limits.processes:
            return f"stopped: it started more than {limits.processes} processes"
        if _used(below) > limits.memory and _used(below, shared_once=True) > limits.memory:
            return f"stopped: it took more than {limits.memory / 1e6:,.0f} MB of memory"
    return ""


def _used(processes: list[psutil.Process], *, shared_once: bool = False) -> int:
    """Bytes of memory that processes hold; counting what forks share once is exact, and slow."""
    used = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            used += process.memory_full_info().pss if shared_once else process.memory_info().rss
    return used


def _end(process: subprocess.Popen) -> tuple[int, int]:
    """Stop what is left; returns the exit status and the peak of one process's memory in kB.

    With the sandbox's first process all others in it die: the kernel sees to that.
    """
    assert process.stdin and process.stdout
    deadline = time.monotonic() + 2
    pid, status, used = os.wait4(process.pid, os.WNOHANG)
    while not pid and time.monotonic() < deadline:
        time.sleep(0.02)
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
    if not pid:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            pipe.close()
    return process.returncode, used.ru_maxrss


def _lines(told: bytes) -> list[dict]:
    """The report's lines that are JSON objects; others are no report."""
    found = []
    for line in told.split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found


def _ended(status: int, lines: list[dict]) -> str:
    """The sentence for a process that ended before its work was done."""
    if any("unreadable" in line for line in lines):
        return ""
    if not lines:
        return "it could not be started"
    cells = [line["cell"] for line in lines if isinstance(line.get("cell"), int)]
    where = f"in code cell {cells[-1]}" if cells else "at its start"
    killed = status < 0 or status > 128
    number = -status if status < 0 else status - 128
    if killed and number in {signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGXCPU}:
        return f"its process was ended by {signal.Signals(number).name} {where} or after it"
    return f"its process ended itself {where} or after it (exit code {status})"

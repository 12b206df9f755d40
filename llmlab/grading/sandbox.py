"""One bubblewrap sandbox for one submission: what it may see, what it may use, how it ends.

Inside there is the system and the lab, read-only, without the checks, the references, other
submissions and the network; a scratch folder in memory; one process, which the kernel lets start
no other (`llmlab.grading.seccomp`); and limits on time, memory, threads, files and output. A
watcher outside enforces those that the kernel does not.
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
from llmlab.grading import seccomp
from llmlab.models import store

CHILD = Path(__file__).with_name("child.py")
_INERT = Path(__file__).with_name("inert.py")
_INSIDE = "/grading/child.py"
_SCRATCH = "/scratch"
_LOOK_EVERY = 0.02  # s; root's threads are bounded by the watcher alone: some hundreds until then


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Attributes:
        seconds: for all of it, measured on the wall.
        cell_seconds: for one cell; then the next one runs.
        call_seconds: for one call of a function.
        memory: bytes.
        disk: bytes of its scratch folder.
        output: bytes that it may print; more than that stops it.
        threads: how many at a time.
        file: bytes of the notebook file.
    """

    seconds: float = 300
    cell_seconds: float = 120
    call_seconds: float = 10
    memory: int = 3_000_000_000
    disk: int = 200_000_000
    output: int = 10_000_000
    threads: int = 100
    file: int = 20_000_000


@dataclass
class Run:
    """How a run went, as seen from outside.

    Attributes:
        lines: what the child reported; any of it may be forged.
        output: the beginning of what it printed.
        stopped: why it was stopped or ended early, for the student; "" if it ran to its end.
        seconds: on the wall.
        peak: the most memory that it had, in MB (10⁶ bytes).
    """

    lines: list[dict] = field(default_factory=list)
    output: str = ""
    stopped: str = ""
    seconds: float = 0.0
    peak: float = 0.0


# ---- what it sees --------------------------------------------------------------------------------


def command(filter_fd: int, hidden: tuple[Path, ...] = (), limits: Limits = Limits()) -> list[str]:
    """The words that start a process in a sandbox; the process's own follow.

    Args:
        filter_fd: a file descriptor to read the filter of system calls from, passed on to it.
        hidden: folders that must not be seen, should one of them lie where Python does.
        limits: `disk` bounds the scratch folder.
    """
    words = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent"]
    words += ["--new-session", "--cap-drop", "ALL", "--uid", "65534", "--gid", "65534"]
    words += ["--hostname", "lab", "--clearenv", "--seccomp", str(filter_fd)]
    small = ["--size", "64000000", "--tmpfs"]
    words += [*small, "/tmp"]  # first: what is shown may lie below it
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
    words += ["--ro-bind", "/dev/null", "/dev/zero"]  # mapped, it is memory under no limit
    words += ["--size", str(limits.disk), "--tmpfs", _SCRATCH, *small, "/dev/shm"]
    for folder in [*masked, Path("/dev"), Path("/")]:
        words += ["--remount-ro", str(folder)]
    for name, value in environment(_SCRATCH).items():
        words += ["--setenv", name, value]
    return [*words, "--chdir", _SCRATCH, "--"]


def environment(scratch: str) -> dict[str, str]:
    """The variables of a submission: nothing of the instructor's own."""
    kept = {"LLMLAB_HOME": str(store.home()), "HOME": scratch, "TMPDIR": scratch}
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
    if not seccomp.program():
        return (
            f"Grading is not possible on this processor ({platform.machine()}): the filter of "
            "system calls is there for x86_64 and aarch64. Grade on a machine with one of these."
        )
    with seccomp.descriptor() as filter_fd:
        words = [*command(filter_fd), sys.executable, "-I", "-S", "-c", _LOOK]
        tried = subprocess.run(
            [*words, str(Path(llmlab.__file__).parent)], pass_fds=[filter_fd],
            capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=60,
            check=False,
        )  # fmt: skip
    return "" if tried.returncode == 0 else _why(tried.stderr.strip())


# Seen from inside: no reference, nothing to write to but the scratch folder, no network and no
# other process.
_LOOK = """
import os, sys
lab = sys.argv[1]
assert not os.path.exists(lab + "/grading/score.py"), "the references can be seen"
assert not os.path.exists(lab + "/checks/attention.py"), "the references can be seen"
open("x", "w").close()
for attack in (lambda: open(lab + "/x", "w"), os.fork):
    try:
        attack()
    except OSError:
        continue
    os._exit(7)
assert len(open("/proc/net/dev").readlines()) <= 3, "there is a network"
"""


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

    Raises:
        LabError: it could not be started: a fault of the machine, not of the submission.
    """
    if sandbox:
        probe()  # here as well: on a cluster this is another machine
    mine, theirs = os.pipe()
    job = asdict(limits) | {"parts": parts, "report": theirs, "alone": sandbox}
    job["lab"] = str(Path(llmlab.__file__).parents[1])
    job["notebook"] = notebook.decode("utf-8", errors="replace")
    with (
        tempfile.TemporaryDirectory(prefix="llmlab-grading-") as scratch,
        seccomp.descriptor() as filter_fd,
    ):
        words = command(filter_fd, hidden, limits) if sandbox else []
        words += [sys.executable, "-I", "-B", _INSIDE if sandbox else str(CHILD)]
        began = time.perf_counter()
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=[theirs, filter_fd][: 1 + sandbox], start_new_session=True, cwd=scratch,
            env=None if sandbox else environment(scratch),
        )  # fmt: skip
        os.close(theirs)
        try:
            return _follow(process, mine, json.dumps(job).encode(), limits, began, sandbox)
        finally:
            os.close(mine)


def _follow(
    process: subprocess.Popen, report: int, job: bytes, limits: Limits, began: float, alone: bool
) -> Run:
    """Feed the process, read what it says, and stop it where it goes beyond its limits."""
    assert process.stdin and process.stdout
    run, printed, told = Run(), bytearray(), bytearray()
    total, looked, rest = 0, 0.0, memoryview(job)
    watched: list[psutil.Process] = []
    stdin, stdout = process.stdin.fileno(), process.stdout.fileno()
    for pipe in (stdin, stdout, report):
        os.set_blocking(pipe, False)
    with selectors.DefaultSelector() as ready:
        ready.register(stdin, selectors.EVENT_WRITE)
        ready.register(stdout, selectors.EVENT_READ)
        ready.register(report, selectors.EVENT_READ)
        while len(ready.get_map()) > (stdin in ready.get_map()) and not run.stopped:
            for key, _ in ready.select(_LOOK_EVERY):
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
            elif now - looked > _LOOK_EVERY:
                looked = now
                if not alone or len(watched) < 3:  # bubblewrap's two and the one, never more
                    watched = _below(process.pid)
                threads, memory = _used(watched)
                run.peak = max(run.peak, round(memory / 1e6, 1))
                if threads > limits.threads + 2:
                    run.stopped = f"stopped: it started more than {limits.threads} threads"
                elif memory > limits.memory:
                    allowed = f"{limits.memory / 1e6:,.0f} MB"
                    run.stopped = f"stopped: it took more than {allowed} of memory"
    run.seconds = round(time.perf_counter() - began, 2)
    run.lines = _lines(bytes(told))
    done = next((line for line in run.lines if line.get("done") is True), None)
    status = _end(process, patience=0 if run.stopped or done else 1)
    run.output = printed.decode("utf-8", errors="replace")
    if not run.lines:  # its first words are ours
        raise LabError(f"the sandbox could not be started: {run.output[:300]}")
    if done and type(done.get("peak")) is int:  # it knows better than who looks now and then
        run.peak = max(run.peak, round(min(done["peak"] * 1024, limits.memory) / 1e6, 1))
    if not run.stopped and not done:
        run.stopped = _ended(status, run.lines)
    return run


def _below(pid: int) -> list[psutil.Process]:
    """This process and all that it started."""
    with contextlib.suppress(psutil.Error):
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    return []


def _used(processes: list[psutil.Process]) -> tuple[int, int]:
    """How many threads they have, and how many bytes of memory."""
    threads = memory = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            threads += process.num_threads()
            memory += process.memory_info().rss
    return threads, memory


def _end(process: subprocess.Popen, patience: float) -> int:
    """Stop what is left, after some seconds; returns the exit status.

    With the sandbox's first process all others in it die: the kernel sees to that.
    """
    assert process.stdin and process.stdout
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            pipe.close()
    return process.returncode


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
    cells = [line["cell"] for line in lines if isinstance(line.get("cell"), int)]
    where = f"in code cell {cells[-1]}" if cells else "at its start"
    number = -status if status < 0 else status - 128
    with contextlib.suppress(ValueError):
        return f"its process was ended by {signal.Signals(number).name} {where} or after it"
    return f"its process ended itself {where} or after it (exit code {status})"

"""Start JupyterLab on the course's notebooks: on this machine only, and without calling anybody."""

import contextlib
import http.client
import importlib.metadata
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from llmlab.errors import LabError

FIRST = "00_welcome.ipynb"
HOST = "127.0.0.1"
PATIENCE = 90  # seconds until we give up on a server: the first start on a slow disk takes long

# What keeps JupyterLab from calling its makers, and from questions about it on the first screen.
QUIET = (
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)
# The solved homework is nothing to stumble over: not listed, and still opened by its name.
LISTED = tuple(
    f"--ContentsManager.hide_globs={name}" for name in ("__pycache__", "*.pyc", "source")
)
# Defaults of the browser's side; what a user chooses in JupyterLab's own settings still wins.
SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
}


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Attributes:
        process: the server; its kernels end with it.
        port: where it listens on 127.0.0.1.
        token: the password of this one run.
        folder: the folder it shows.
        notebook: the notebook it opens, relative to `folder`.
    """

    process: subprocess.Popen
    port: int
    token: str
    folder: Path
    notebook: str

    @property
    def base(self) -> str:
        """The server's address, with a slash at the end."""
        return f"http://{HOST}:{self.port}/"

    @property
    def url(self) -> str:
        """The address to open, token included."""
        # A workspace of its own: tabs of other projects do not come back here.
        page = f"lab/workspaces/llmlab/tree/{quote(self.notebook)}"
        return f"{self.base}{page}?token={self.token}"


def serve(notebook: str | None = None, port: int | None = None) -> int:
    """Start JupyterLab with a notebook open, print its address, and wait until it ends.

    A browser opens by itself where there is a screen; elsewhere the printed address is the way in.

    Args:
        notebook: what to open: a name in `notebooks/` such as "01_tokenization", or a path.
            By default 00_welcome.
        port: where to listen on 127.0.0.1; by default 8888, or the next one that is free.

    Returns:
        The exit code: 0 when it was stopped with Ctrl+C, else the server's own.

    Raises:
        LabError: JupyterLab or the notebook is not there, or the port is taken.
    """
    browser = [] if _has_screen() else ["--no-browser"]
    with running(notebook, port, options=browser) as lab:
        print(f"llmlab is open at\n\n    {lab.url}\n", flush=True)
        print(
            "If no browser has opened, open this address in one on this machine. "
            "Save your notebooks, then stop the lab with Ctrl+C here.",
            flush=True,
        )
        stopped = False

        def stop(*_: Any) -> None:
            nonlocal stopped
            stopped = True
            lab.process.terminate()

        signal.signal(signal.SIGTERM, stop)
        while True:
            try:
                code = lab.process.wait()
                return 0 if stopped else code
            except KeyboardInterrupt:  # then wait until the server has shut its kernels down
                stop()


@contextlib.contextmanager
def running(
    notebook: str | None = None,
    port: int | None = None,
    *,
    options: Sequence[str] = (),
    settings: dict[str, dict[str, Any]] | None = None,
    log: IO[Any] | None = None,
) -> Iterator[Lab]:
    """A JupyterLab server as `llmlab lab` starts it, for the length of a `with` block.

    Args:
        notebook: see `serve`.
        port: see `serve`; 0 takes any free one.
        options: more arguments for `jupyter lab`.
        settings: more defaults for the browser's side: plugin -> its settings.
        log: where the server's own messages go; by default to this terminal.

    Yields:
        The server, once it answers.

    Raises:
        LabError: see `serve`.
    """
    folder, name = find(notebook)
    if importlib.util.find_spec("jupyterlab") is None:
        raise LabError(
            "JupyterLab is not installed for this Python. In the llmlab folder run: "
            f'{sys.executable} -m pip install -c constraints.txt -e ".[lab]"'
        )
    port, token = _port(port), secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="llmlab-") as scratch:
        overrides = Path(scratch, "overrides.json")
        overrides.write_text(json.dumps(SETTINGS | (settings or {})), encoding="utf-8")
        # The token goes by the environment: other users of this machine can read command lines.
        # This Python's own kernel goes before one of the same name in the home folder.
        environment = os.environ | {"JUPYTER_TOKEN": token, "JUPYTER_PREFER_ENV_PATH": "1"}
        process = subprocess.Popen(
            [*command(folder, name, port), f"--LabApp.app_settings_dir={scratch}", *options],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_until_it_answers(process, port)
            yield Lab(process, port, token, folder, name)
        finally:
            _stop(process)


def command(folder: Path, notebook: str, port: int) -> list[str]:
    """The command that starts JupyterLab: loopback only, calling nobody."""
    words = [
        *(sys.executable, "-m", "jupyterlab"),
        *QUIET,
        *LISTED,
        f"--ServerApp.ip={HOST}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url=/lab/workspaces/llmlab/tree/{quote(notebook)}",
        "--ServerApp.answer_yes=True",  # Ctrl+C stops it without a question
        "--ServerApp.log_level=ERROR",
        "--LabApp.log_level=ERROR",
        "--KernelManager.transport_encryption=auto",  # where the kernel can: else it complains
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # containers
        words.append("--allow-root")
    return words


def find(notebook: str | None = None) -> tuple[Path, str]:
    """The folder to show and the notebook in it to open.

    Args:
        notebook: a name in `notebooks/`, with or without .ipynb, or a path; None for the first.

    Raises:
        LabError: there is no such notebook, or no folder `notebooks/`.
    """
    path = Path(notebook or FIRST)
    if notebook and path.suffix == ".ipynb" and path.is_file():
        path = path.resolve()
        house = next((p for p in path.parents if (p / FIRST).is_file()), path.parent)
        return house, path.relative_to(house).as_posix()
    places = [Path(__file__).resolve().parents[1] / "notebooks", Path("notebooks"), Path()]
    folder = next((p.resolve() for p in places if (p / FIRST).is_file()), None)
    if folder is None:
        raise LabError(
            "The notebooks are not here: pip installs the package without them. Get the whole "
            f"course with `git clone {_repository()}`, then run `make lab` in that folder."
        )
    name = notebook.removesuffix(".ipynb") + ".ipynb" if notebook else FIRST
    if (folder / name).is_file():
        return folder, name
    there = sorted(
        file.relative_to(folder).with_suffix("").as_posix()
        for file in folder.rglob("*.ipynb")
        if not {".ipynb_checkpoints", "source"} & set(file.parts)
    )
    near = get_close_matches(name.removesuffix(".ipynb"), there, n=1)
    listed = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(there)}."
    raise LabError(f"No notebook {notebook!r} in {folder}. {listed}")


def _repository() -> str:
    """Where the project lives, as pyproject.toml says."""
    links = importlib.metadata.metadata("llmlab").get_all("Project-URL") or []
    return dict(link.split(", ", 1) for link in links)["Repository"]


def _port(port: int | None) -> int:
    """A free port: the one asked for, else the first from 8888 on; 0 means any."""
    if port is not None and not 0 <= port <= 65535:
        raise LabError(f"There is no port {port}: choose one from 1024 to 65535, or 0 for any.")
    for candidate in range(8888, 8988) if port is None else [port]:
        with socket.socket() as probe:
            if sys.platform != "win32":  # a server that has just ended still holds its port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, candidate))
                return int(probe.getsockname()[1])
    taken = "The ports 8888 to 8987 are taken" if port is None else f"Port {port} is taken"
    raise LabError(f"{taken}: stop what runs there, or choose another, as in: llmlab lab --port 0")


def _has_screen() -> bool:
    """Whether a browser can open here."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _wait_until_it_answers(process: subprocess.Popen, port: int) -> None:
    """Return once the server answers.

    Raises:
        LabError: it ended, or did not answer in time.
    """
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise LabError(
                f"JupyterLab ended at once (exit code {process.returncode}). Its own message "
                f"stands above; `{sys.executable} -m jupyterlab` shows more."
            )
        # http.client knows no proxies: a school's proxy must not be asked for this machine.
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/api")
            if connection.getresponse().status == 200:
                return
        connection.close()
        time.sleep(0.1)
    raise LabError(f"JupyterLab did not answer on port {port} within {PATIENCE} s. Try again.")


def _stop(process: subprocess.Popen) -> None:
    """End the server, which ends its kernels."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

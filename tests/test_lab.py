"""`llmlab lab`: JupyterLab on this machine only, calling nobody; what fails is said plainly."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from jupyter_client.blocking import BlockingKernelClient

from llmlab import LabError, lab
from tests.tools import browser, spy


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A folder of notebooks, and Jupyter's own state kept out of the user's home."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ["00_welcome", "01_tokenization"]:
        cells = [nbformat.v4.new_code_cell("1 + 1")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")
    for name in ["JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"]:
        monkeypatch.setenv(name, str(tmp_path / "jupyter" / name.lower()))
    for name in ["JUPYTERLAB_WORKSPACES_DIR", "JUPYTERLAB_SETTINGS_DIR"]:
        monkeypatch.setenv(name, str(tmp_path / "jupyter" / name.lower()))
    monkeypatch.chdir(tmp_path)
    return folder


def ask(server, path, *, token=True, method="GET"):
    """The status and the body of the server's answer."""
    connection = http.client.HTTPConnection(lab.HOST, server.port, timeout=60)
    headers = {"Authorization": f"token {server.token}"} if token else {}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_calls_nobody(course, tmp_path, monkeypatch):
    notes = tmp_path / "spy"
    notes.mkdir()
    for name, value in spy.environment(notes).items():
        monkeypatch.setenv(name, value)
    # The spy sees a call when there is one; this name never resolves.
    call = "import socket\ntry: socket.create_connection(('llmlab.invalid', 80))\nexcept OSError: 1"
    subprocess.run([sys.executable, "-c", call], check=True)
    assert spy.outside(notes) == {"llmlab.invalid"}
    (notes / "log").unlink()

    with lab.running(str(course / lab.FIRST), 0, options=["--no-browser"]) as server:
        status, page = ask(server, "/lab/tree/00_welcome.ipynb")
        assert status == 200
        config = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', page, re.DOTALL)
        config = json.loads(config[1])
        assert config["news"] == {"disabled": True}
        assert json.loads(ask(server, "/lab/api/news")[1]) == {"news": []}
        assert json.loads(ask(server, "/lab/api/update")[1]) == {"notification": None}
        manager = config["extensionManager"]
        assert (manager["name"], manager["can_install"]) == ("read-only", False)
        assert ask(server, "/lab/api/extensions?refresh=1&query=widget")[0] == 200
        settings = "/lab/api/settings/@jupyterlab/apputils-extension:notification"
        defaults = json.loads(ask(server, settings)[1])["schema"]["properties"]
        assert defaults["fetchNews"]["default"] == "false"
        assert defaults["checkForUpdates"]["default"] is False
        # A kernel starts and works, as for an open notebook.
        kernel = json.loads(ask(server, "/api/kernels", method="POST")[1])
        runtime = tmp_path / "jupyter" / "jupyter_runtime_dir"
        client = BlockingKernelClient(connection_file=str(runtime / f"kernel-{kernel['id']}.json"))
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(60)
        assert client.execute_interactive("1 + 1", timeout=60)["content"]["status"] == "ok"
        client.stop_channels()
        processes = [psutil.Process(server.process.pid)]
        processes += processes[0].children(recursive=True)
        listening = {
            c.laddr.ip for p in processes for c in p.net_connections() if c.status == "LISTEN"
        }
        assert len(processes) > 1, "the kernel should be running"
        assert listening == {"127.0.0.1"}
    assert (notes / "log").exists(), "the server looks its own address up at least"
    assert spy.outside(notes) == set()
    assert not any(process.is_running() for process in processes), "the kernel should be gone"


def test_answers_only_with_the_token(course):
    for kind in ("release", "source"):
        (course / "homework" / kind).mkdir(parents=True)
    with lab.running(str(course / lab.FIRST), 0, options=["--no-browser"]) as server:
        assert server.token in server.url and server.url.startswith("http://127.0.0.1:")
        assert ask(server, "/api/contents", token=False)[0] == 403
        status, body = ask(server, "/api/contents")
        assert status == 200
        names = {entry["name"] for entry in json.loads(body)["content"]}
        assert names == {"00_welcome.ipynb", "01_tokenization.ipynb", "homework"}
        inside = json.loads(ask(server, "/api/contents/homework")[1])["content"]
        assert [entry["name"] for entry in inside] == ["release"], "solutions are not listed"
        command = psutil.Process(server.process.pid).cmdline()
        assert not any(server.token in word for word in command)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("screen", [False, True])
def test_serve_prints_its_address_and_stops_with_ctrl_c(course, tmp_path, screen):
    environment = {k: v for k, v in os.environ.items() if "DISPLAY" not in k}
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\n')
    browser.chmod(0o755)
    environment["BROWSER"] = f"{browser} %s"
    if screen and sys.platform.startswith("linux"):
        environment["DISPLAY"] = ":77"
    script = "import sys; from llmlab import lab; sys.exit(lab.serve(port=0))"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        url = ""
        while not url.startswith("http"):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            url = line.strip()
        port = int(re.fullmatch(r"http://127.0.0.1:(\d+)/lab/.*/00_welcome.ipynb\?.*", url)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", url.split(str(port), 1)[1])
        assert connection.getresponse().status == 200
        if screen and sys.platform.startswith("linux"):
            end = time.monotonic() + 20
            while not opened.exists() and time.monotonic() < end:
                time.sleep(0.1)
            assert "jpserver-" in opened.read_text()  # the page that leads to the address
    finally:
        # In a terminal Ctrl+C reaches the server, too; `kill` only the command itself.
        (os.killpg if screen else os.kill)(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert opened.exists() == (screen and sys.platform.startswith("linux"))
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the server should be gone"


def test_finds_the_notebook(course):
    assert lab.find(str(course / "01_tokenization.ipynb")) == (course, "01_tokenization.ipynb")
    homework = course / "homework"
    homework.mkdir()
    (homework / "one.ipynb").write_text("{}")
    assert lab.find(str(homework / "one.ipynb")) == (course, "homework/one.ipynb")


def test_the_course_itself_opens_with_welcome():
    folder, name = lab.find()
    assert (folder.name, name) == ("notebooks", "00_welcome.ipynb")
    assert lab.find("01_tokenization")[1] == "01_tokenization.ipynb"


def test_without_a_checkout_says_how_to_get_the_notebooks(tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "__file__", str(tmp_path / "site-packages" / "llmlab" / "lab.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LabError, match=r"git clone https://.*make lab"):
        lab.find()


def test_a_misspelt_notebook_names_the_nearest(course, monkeypatch):
    monkeypatch.setattr(lab, "__file__", "/nowhere/llmlab/lab.py")
    with pytest.raises(LabError, match=r"No notebook '01_tokenisation' .* mean 01_tokenization\?"):
        lab.find("01_tokenisation")


def test_a_name_unlike_any_other_lists_the_notebooks_and_not_their_checkpoints(course, monkeypatch):
    monkeypatch.setattr(lab, "__file__", "/nowhere/llmlab/lab.py")
    checkpoints = course / ".ipynb_checkpoints"
    checkpoints.mkdir()
    (checkpoints / "00_welcome-checkpoint.ipynb").write_text("{}")
    (course / "notes.md").write_text("no notebook")
    for name in ["zzz", str(course / "notes.md")]:
        with pytest.raises(LabError, match=r"There are: 00_welcome, 01_tokenization\.$"):
            lab.find(name)


def test_a_taken_port_and_a_missing_jupyterlab_are_sentences(course, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LabError, match=f"Port {port} is taken"), lab.running(None, port):
            pass
    for port in (-1, 65536):
        with pytest.raises(LabError, match=f"no port {port}: "), lab.running(None, port):
            pass
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LabError, match="pip install"), lab.running(None, 0):
        pass


def test_what_the_browser_tests_lack_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(LabError, match=r"need Playwright: .*pip install"):
        browser.chromium()

    class NoBrowser:
        def __enter__(self):
            return SimpleNamespace(chromium=SimpleNamespace(executable_path=str(tmp_path / "no")))

        def __exit__(self, *_):
            pass

    monkeypatch.setitem(
        sys.modules, "playwright.sync_api", SimpleNamespace(sync_playwright=NoBrowser)
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLMLAB_CHROMIUM", raising=False)
    with pytest.raises(LabError, match="need Chromium or Chrome: install it"):
        browser.chromium()

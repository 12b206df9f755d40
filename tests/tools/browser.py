"""A real JupyterLab in a real Chromium, cut off from every other machine."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmlab import lab
from llmlab.errors import LabError

SIZE = {"width": 1280, "height": 800}
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
# Every cell is drawn, also those out of sight: a screenshot must not catch one half-made.
DRAW_ALL = {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}
SCROLLER = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer"
NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]


def chromium() -> str:
    """The path of a Chromium or Chrome on this machine.

    Raises:
        LabError: there is none, or Playwright is missing.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise LabError(
            "The browser tests need Playwright: python -m pip install -c constraints.txt "
            '-e ".[browser]"'
        ) from None
    for name in [os.environ.get("LLMLAB_CHROMIUM", ""), *NAMES]:
        if name and (found := shutil.which(name)):
            return found
    with sync_playwright() as play:
        own = play.chromium.executable_path
    if Path(own).is_file():
        return own
    raise LabError(
        "The browser tests need Chromium or Chrome: install it (on Debian and Ubuntu: sudo apt-get "
        "install chromium; elsewhere: python -m playwright install chromium), or name the program "
        "in the variable LLMLAB_CHROMIUM."
    )


class Page:
    """A notebook open in JupyterLab.

    Attributes:
        page: Playwright's page.
        server: the running JupyterLab.
        outside: every address asked for that is not on this machine.
        problems: uncaught errors of the page.
    """

    def __init__(self, page: Any, server: lab.Lab) -> None:
        self.page, self.server = page, server
        self.outside: list[str] = []
        self.problems: list[str] = []
        page.on("request", self._note)
        page.on("websocket", self._note)
        page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _note(self, request: Any) -> None:
        address = urlsplit(request.url)
        local = address.scheme in ("data", "blob", "about") or address.hostname == lab.HOST
        if not local:
            self.outside.append(request.url)

    def open(self) -> None:
        """Load the notebook; return when it is drawn and its kernel is idle."""
        self.page.goto(self.server.url)
        self.page.wait_for_selector(f"{SCROLLER} .jp-Cell", timeout=120_000)
        self.page.wait_for_function(
            """() => {
                const panel = window.jupyterapp?.shell.currentWidget;
                const kernel = panel?.sessionContext?.session?.kernel;
                return kernel?.status === 'idle' && panel.context.isReady;
            }""",
            timeout=120_000,
        )
        self.settle()

    def settle(self, milliseconds: int = 300) -> None:
        """Wait until all pictures are loaded, and a moment more."""
        self.page.wait_for_function(
            "() => [...document.images].every(image => image.complete)", timeout=60_000
        )
        self.page.wait_for_timeout(milliseconds)

    def run_all(self, seconds: int = 300) -> None:
        """Run all cells; return when the last one is done."""
        self.page.set_default_timeout(seconds * 1000)
        self.page.evaluate(
            """async (limit) => {
                const app = window.jupyterapp;
                const late = new Promise((_, no) => setTimeout(() => no(
                    new Error('the notebook did not finish in time')), limit));
                await Promise.race([app.commands.execute('notebook:run-all-cells'), late]);
            }""",
            seconds * 1000,
        )
        self.settle(500)

    def theme(self, name: str) -> None:
        """Change to the "light" or "dark" theme."""
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})",
            THEMES[name],
        )
        self.page.wait_for_function(
            f"() => document.body.dataset.jpThemeName === {THEMES[name]!r}", timeout=30_000
        )
        self.settle()

    def screens(self) -> Iterator[int]:
        """Scroll from top to bottom, a little less than one screen each; yields the number."""
        self.scroll(0)
        visible, whole = self.page.evaluate(
            f"() => {{ const s = document.querySelector('{SCROLLER}');"
            " return [s.clientHeight, s.scrollHeight]; }"
        )
        position, number = 0, 1
        yield number
        while position + visible < whole - 4:
            position += visible - 60
            number += 1
            self.scroll(position)
            yield number

    def scroll(self, position: int) -> None:
        """Scroll the notebook to that many pixels from its top."""
        self.page.evaluate(
            f"y => {{ document.querySelector('{SCROLLER}').scrollTop = y; }}", position
        )
        self.settle(150)

    def failed(self) -> list[str]:
        """The errors that stand in the notebook's outputs, such as "NameError: …"."""
        return self.page.evaluate(
            """() => window.jupyterapp.shell.currentWidget.content.widgets
                .filter(cell => cell.model.type === 'code')
                .flatMap(cell => cell.model.outputs.toJSON())
                .filter(output => output.output_type === 'error')
                .map(output => output.ename + ': ' + output.evalue)"""
        )

    def errors(self) -> int:
        """How often the page says "Javascript Error"."""
        return self.page.get_by_text("Javascript Error").count()


@contextlib.contextmanager
def notebook(path: str, scratch: Path, *, environment: dict[str, str] | None = None) -> Iterator:
    """A notebook in JupyterLab as `llmlab lab` starts it, open in a browser, for a `with` block.

    Args:
        path: the notebook.
        scratch: an empty folder for JupyterLab's state, so that the user's own does not matter.
        environment: variables for the server and its kernels.

    Yields:
        The open `Page`.
    """
    program = chromium()
    from playwright.sync_api import sync_playwright

    options = [
        "--no-browser",
        "--LabApp.expose_app_in_browser=True",
        f"--LabApp.workspaces_dir={scratch / 'workspaces'}",
        f"--LabApp.user_settings_dir={scratch / 'settings'}",
    ]
    flags = ["--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # containers
        flags.append("--no-sandbox")
    before = dict(os.environ)
    os.environ.update(environment or {})
    try:
        server = lab.running(path, 0, options=options, settings=DRAW_ALL)
        with server as running, sync_playwright() as play:
            browser = play.chromium.launch(executable_path=program, args=flags)
            try:
                page = Page(browser.new_page(viewport=SIZE), running)
                page.open()
                yield page
            finally:
                browser.close()
    finally:
        os.environ.clear()
        os.environ.update(before)

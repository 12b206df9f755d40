"""Screenshots of every screen of a notebook in real JupyterLab, light and dark.

    python -m tests.tools.shots notebooks/01_tokenization.ipynb OUTDIR
        [--theme light|dark|both] [--run]

The first screen is what a user sees who opens the notebook with `llmlab lab` at 1280 x 800.
The notebook file is not changed.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from llmlab.errors import LabError
from tests.tools import browser


def shots(notebook: Path, out: Path, themes: list[str], *, run: bool = False) -> int:
    """Write OUT/NAME-THEME-NN.png for every screen.

    Args:
        notebook: the .ipynb.
        out: folder for the pictures; old ones of this notebook there are removed.
        themes: of "light" and "dark".
        run: run all cells first.

    Returns:
        How many "Javascript Error" texts, uncaught errors and requests elsewhere there were.
    """
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob(f"{notebook.stem}-*.png"):
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="shots-") as scratch:
        # A copy, so that autosave cannot write into the repository; beside it the other notebooks,
        # because the list of files belongs to what a user sees.
        folder = Path(scratch, "notebooks")
        folder.mkdir()
        for file in {*notebook.parent.glob("*.ipynb"), notebook}:
            shutil.copy(file, folder)
        with browser.notebook(str(folder / notebook.name), Path(scratch)) as page:
            if run:
                page.run_all()
            for theme in themes:
                page.theme(theme)
                for number in page.screens():
                    name = f"{notebook.stem}-{theme}-{number:02d}.png"
                    page.page.screenshot(path=out / name)
                print(f"{number} screens, {theme}: {out}/{notebook.stem}-{theme}-*.png")
            errors = page.errors()
            print(f"cells with an error: {len(page.failed())} {page.failed() or ''}")
            print(f"Javascript Error: {errors}")
            print(f"uncaught errors of the page: {len(page.problems)} {page.problems or ''}")
            print(f"requests to other machines: {len(page.outside)} {page.outside or ''}")
            return errors + len(page.problems) + len(page.outside)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--theme", choices=["light", "dark", "both"], default="both")
    parser.add_argument("--run", action="store_true", help="run all cells first")
    options = parser.parse_args()
    themes = ["light", "dark"] if options.theme == "both" else [options.theme]
    try:
        return min(1, shots(options.notebook.resolve(), options.out, themes, run=options.run))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

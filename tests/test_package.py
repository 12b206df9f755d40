"""The package as a whole: quick to import, complete, and nothing lies where it should not."""

import ast
import fnmatch
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import llmlab

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(llmlab.__file__).parent


def test_importing_is_quick_and_loads_no_heavy_library():
    """Under 0.1 s. Best of five fresh processes: a busy machine is slow, never too fast."""
    code = (
        "import sys, time; start = time.perf_counter(); import llmlab; "
        "print(time.perf_counter() - start, *sys.modules)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(5)
    ]
    seconds, *modules = min((run.stdout.split() for run in runs), key=lambda words: float(words[0]))
    assert float(seconds) < 0.1
    heavy = {"torch", "transformers", "numpy", "pandas", "matplotlib", "ipywidgets", "IPython"}
    assert heavy & set(modules) == set()


@pytest.mark.parametrize("name", llmlab.__all__)
def test_every_public_name_is_there(name):
    assert getattr(llmlab, name).__doc__
    assert name in dir(llmlab)


def test_a_misspelt_name_is_told_what_there_is():
    with pytest.raises(AttributeError, match=r"no 'model'. It has: LabError, .*models"):
        _ = llmlab.model


def test_the_version_stands_in_one_place_twice():
    """In pyproject.toml for pip, in the package for the reader: the same."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    assert tomllib.loads(text)["project"]["version"] == llmlab.__version__
    assert importlib.metadata.version("llmlab") == llmlab.__version__


def test_only_plots_and_views_draw():
    drawing = {"matplotlib", "ipywidgets"}
    for path in PACKAGE.rglob("*.py"):
        if {"plots", "views"} & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & drawing, path


def test_the_house_has_only_its_rooms():
    """What lies at the top of the repository, apart from what git ignores."""
    rooms = {
        "README.md", "LICENSE", "CITATION.cff", "Makefile", "pyproject.toml", "constraints.txt",
        "environment.yml", "binder", "notebooks", "llmlab", "tests",
        ".git", ".github", ".ci", ".gitignore", ".gitattributes",
    }  # fmt: skip
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").split()]
    found = {
        path.name
        for path in ROOT.iterdir()
        if not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
    }
    assert found - rooms == set()

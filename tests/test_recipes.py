"""The training loop, and the model gpt2-mini that ships: it is what its card says."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import llmlab
from llmlab.errors import LabError
from llmlab.recipes import gpt2_mini
from llmlab.recipes.training import command_line, shuffled, train

WEIGHTS = Path(llmlab.__file__).parent / "weights" / "gpt2-mini"


# ── the training loop ──


def tiny_model():
    torch.manual_seed(1)
    layers = torch.nn.Linear(3, 8), torch.nn.Dropout(0.5), torch.nn.Tanh(), torch.nn.Linear(8, 1)
    return torch.nn.Sequential(*layers)


def run(model, checkpoint, *, stop_at=None, **settings):
    """Train on a line with noise; stop in step `stop_at` as Ctrl-C does."""
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(2))
    y = x.sum(dim=1, keepdim=True)

    def loss_at(step):
        if step == stop_at:
            raise KeyboardInterrupt
        chosen = shuffled(step, items=20, batch=4)
        return torch.nn.functional.mse_loss(model(x[chosen]), y[chosen])

    settings = {"steps": 11, "learning_rate": 0.05, "warmup": 2, "every": 3, **settings}
    return train(model, loss_at, checkpoint=checkpoint, **settings)


@pytest.mark.parametrize("stop_at", [1, 3, 7, 10])
def test_interrupted_and_resumed_is_exactly_as_if_not(tmp_path, stop_at):
    whole = tiny_model()
    losses = run(whole, tmp_path / "whole.safetensors")

    broken = tiny_model()
    with pytest.raises(KeyboardInterrupt):
        run(broken, tmp_path / "broken.safetensors", stop_at=stop_at)
    torch.rand(7)  # other use of random numbers in between must not matter
    resumed = tiny_model()
    assert run(resumed, tmp_path / "broken.safetensors") == losses
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert losses[-1] < losses[0]


def test_a_finished_run_is_read_back_and_leaves_one_file(tmp_path):
    first, again = tiny_model(), tiny_model()
    losses = run(first, tmp_path / "run.safetensors")
    assert run(again, tmp_path / "run.safetensors", stop_at=0) == losses  # no step is taken
    assert torch.equal(first[0].weight, again[0].weight)
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model(), tmp_path / "run.safetensors", stop_at=8)
    with pytest.raises(LabError, match=r"other settings \(learning_rate, texts\).*--fresh"):
        run(tiny_model(), tmp_path / "run.safetensors", learning_rate=0.1, settings={"texts": "a"})


def test_only_what_is_to_be_trained_is_trained_and_saved(tmp_path):
    model = tiny_model()
    model[0].requires_grad_(False)
    before = model[0].weight.clone(), model[3].weight.clone()
    run(model, tmp_path / "run.safetensors")
    assert torch.equal(model[0].weight, before[0])
    assert not torch.equal(model[3].weight, before[1])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (LabError("The texts could not be fetched."), "could not be fetched"),
        (KeyboardInterrupt(), "goes on from the last checkpoint"),
    ],
)
def test_a_recipe_that_stops_says_why_in_a_sentence(monkeypatch, tmp_path, error, said):
    def make(out, steps, *, fresh):
        raise error

    monkeypatch.setattr("sys.argv", ["recipe"])
    with pytest.raises(SystemExit, match=said):
        command_line("A recipe.", make, tmp_path, 5, str)


def test_the_command_line_hands_over_what_was_said(monkeypatch, tmp_path, capsys):
    def make(out, steps, *, fresh):
        return {"out": out, "steps": steps, "fresh": fresh}

    monkeypatch.setattr("sys.argv", ["recipe", "--steps", "7", "--fresh"])
    command_line("A recipe.", make, tmp_path, 5, lambda figures: f"{figures['steps']} steps")
    assert capsys.readouterr().out == f"7 steps\nWritten to {tmp_path}\n"


def test_each_pass_takes_every_example_once_in_an_order_of_its_own():
    passes = [torch.cat([shuffled(3 * i + step, 12, 4) for step in range(3)]) for i in range(2)]
    assert all(sorted(order.tolist()) == list(range(12)) for order in passes)
    assert not torch.equal(*passes)
    assert not torch.equal(shuffled(0, 12, 4, seed=0), shuffled(0, 12, 4, seed=1))


# ── gpt2-mini ──


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(WEIGHTS)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(WEIGHTS, dtype=torch.float32)


@pytest.fixture(scope="module")
def figures():
    return json.loads((WEIGHTS / "metrics.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def card():
    return (WEIGHTS / "README.md").read_text("utf-8")


def test_the_model_is_a_small_gpt2(model, tokenizer):
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert model.config.activation_function == "gelu_new"
    assert (model.config.n_layer, model.config.n_head, model.config.n_embd) == (4, 6, 192)
    assert model.config.vocab_size == len(tokenizer) == 4096
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.num_parameters() == 2_615_424
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_the_folder_is_small():
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 8_000_000


def test_perplexity_on_the_shipped_pages_is_the_recorded_one(model, tokenizer, figures):
    pages = (WEIGHTS / "heldout.txt").read_text("utf-8")
    measured = gpt2_mini.evaluate(model, tokenizer, [pages])
    recorded = figures["excerpt"]
    assert measured["tokens"] == recorded["tokens"] == len(tokenizer(pages)["input_ids"])
    # Sums are rounded differently on other processors: 1e-7 seen between AVX2 and AVX-512.
    assert measured["perplexity"] == pytest.approx(recorded["perplexity"], rel=1e-4)
    assert measured["bits_per_byte"] == pytest.approx(recorded["bits_per_byte"], rel=1e-4)


def test_the_measure_agrees_with_the_models_own_loss(model, tokenizer):
    sentence = "The little girl went out into the garden, and the sun shone upon the roses."
    ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(sentence)["input_ids"]]])
    with torch.no_grad():
        loss = model(ids, labels=ids, attention_mask=torch.ones_like(ids)).loss.item()
    measured = gpt2_mini.evaluate(model, tokenizer, [sentence])
    assert measured["loss"] == pytest.approx(loss, abs=1e-5)
    bits = loss / math.log(2) * (ids.shape[1] - 1)
    assert measured["bits_per_byte"] == pytest.approx(bits / len(sentence), abs=1e-5)


def test_a_long_text_is_measured_token_by_token_exactly_once(model, tokenizer):
    text = (WEIGHTS / "heldout.txt").read_text("utf-8")[:1500]
    ids = torch.tensor([tokenizer.eos_token_id, *tokenizer(text)["input_ids"]])
    nats, places = 0.0, {0: range(1, 256), 128: range(256, 384), 256: range(384, len(ids))}
    with torch.no_grad():
        for begin, chosen in places.items():
            logits = model(ids[None, begin : begin + 256]).logits[0]
            probs = torch.stack([logits[place - 1 - begin].softmax(dim=-1) for place in chosen])
            nats -= sum(probs[row, ids[place]].log() for row, place in enumerate(chosen)).item()
    measured = gpt2_mini.evaluate(model, tokenizer, [text])
    assert 384 < len(ids) < 512
    assert measured["loss"] == pytest.approx(nats / (len(ids) - 1), abs=1e-4)


@pytest.mark.parametrize("length", [1, 2, 127, 128, 129, 255, 256, 257, 383, 384, 385])
def test_no_token_is_left_out_at_the_edge_of_a_window(model, tokenizer, length):
    pages = (WEIGHTS / "heldout.txt").read_text("utf-8")
    text = tokenizer.decode(tokenizer(pages)["input_ids"][:length])
    measured = gpt2_mini.evaluate(model, tokenizer, [text])
    assert measured["tokens"] == len(tokenizer(text)["input_ids"]) == length


TEXTS = ["Once upon a time", "  two  spaces\n\ttab", "Zoë naïve «…» — 你好 🙂", "", "\x00\u2028"]


@pytest.mark.parametrize("text", TEXTS)
def test_the_tokenizer_gives_every_text_back(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


def test_generation_goes_on_without_a_warning(model, tokenizer, caplog, capfd):
    inputs = tokenizer("Once upon a time", return_tensors="pt")
    outputs = model.generate(**inputs, max_new_tokens=20, do_sample=False)
    text = tokenizer.decode(outputs[0])
    assert text.startswith("Once upon a time")
    assert len(set(outputs[0].tolist())) > 8  # words, not one word again and again
    assert not caplog.records
    assert capfd.readouterr().err == ""


def test_the_card_says_what_was_measured_and_used(card, figures):
    assert "license: apache-2.0" in card
    for name in ("Andersen", "Austen", "Eliot", "Joyce", "Woolf", "Wells", "public domain"):
        assert name in card
    assert gpt2_mini.SOURCE.sha256 in card
    assert figures["texts_sha256"] in card
    assert f"{figures['train']['tokens_seen']:,} tokens seen" in card
    for part in ("tales", "book", "excerpt", "smollm2-135m, excerpt"):
        row = figures[part]
        assert f"| {row['perplexity']:.1f} | {row['perplexity_by_word']:,.0f} |" in card
        assert f"| {row['bits_per_byte']:.3f} |" in card
    assert card.count("(seed ") == 6


def test_the_recipe_of_today_is_the_one_that_made_the_weights(figures):
    assert figures["train"]["steps"] == gpt2_mini.STEPS
    assert figures["train"]["tokens_seen"] == gpt2_mini.STEPS * 8 * 256
    assert figures["source"]["sha256"] == gpt2_mini.SOURCE.sha256


def test_the_texts_are_fetched_and_are_the_ones_trained_on(figures, tokenizer):
    works = gpt2_mini.texts()
    assert gpt2_mini.fingerprint(works) == figures["texts_sha256"]
    assert (WEIGHTS / "heldout.txt").read_text("utf-8") in works["book"][0]
    assert [tale.split("\n")[0] for tale in works["tales"]] == list(gpt2_mini.HELD_OUT_TALES)
    held = [line for tale in works["tales"] + works["book"] for line in tale.split("\n")]
    trained = {line for work in works["train"] for line in work.split("\n")}
    assert not [line for line in held if len(line) > 60 and line in trained]
    text = "".join(works["train"])
    assert "gutenberg" not in text.lower()
    assert len(text) == figures["train"]["characters"]
    again = gpt2_mini.make_tokenizer(works["train"])
    assert again.get_vocab() == tokenizer.get_vocab()

"""Pronouncing and alignment: equal to transformers' own numbers, and clear about bad input."""

import os

import pandas
import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    T5Model,
)

import llmlab
from llmlab import LabError, encoder_decoder, plots, views
from llmlab.recipes import t5_g2p


@pytest.fixture(scope="module")
def ours():
    path = llmlab.models.path("t5-g2p")
    model = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(path)


@pytest.fixture(scope="module")
def tiny():
    """A model of random weights with the same tokens: nothing that it says is sure."""
    tokenizer = t5_g2p.make_tokenizer()
    torch.manual_seed(3)
    return t5_g2p.make_model(len(tokenizer)).eval(), tokenizer


# ---- pronounce ----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["through", "ox", "australopithecine"])
def test_one_beam_is_what_generate_says(ours, word):
    model, tokenizer = ours
    with torch.no_grad():
        row = model.generate(**tokenizer(word, return_tensors="pt"), do_sample=False)
    table = encoder_decoder.pronounce(model, tokenizer, word, beams=1)
    assert table["answer"].tolist() == [tokenizer.decode(row[0], skip_special_tokens=True)]


@pytest.mark.parametrize("word", ["through", "quiche", "ox"])
def test_the_log_probability_is_the_models_loss_times_length(ours, word):
    """Computed anew from what is shown: the answer as labels, the loss a mean over its tokens."""
    model, tokenizer = ours
    table = encoder_decoder.pronounce(model, tokenizer, word, beams=3)
    inputs = tokenizer(word, return_tensors="pt")
    for answer, log_probability, probability in table.itertuples(index=False):
        labels = tokenizer(answer, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            loss = model(**inputs, labels=labels).loss.item()
        assert log_probability == pytest.approx(-loss * labels.shape[1], rel=1e-4)
        assert probability == pytest.approx(2.718281828**log_probability, rel=1e-4)


def test_the_likeliest_comes_first_and_none_twice(ours):
    for word in ["through", "colonel", "aaaa"]:
        table = encoder_decoder.pronounce(*ours, word, beams=5)
        assert len(table) == 5
        assert table["probability"].is_monotonic_decreasing
        assert table["answer"].is_unique
        assert table["probability"].sum() <= 1


def test_beams_find_at_least_what_greedy_finds(ours):
    for word in ["through", "quiche", "bologna", "hour"]:
        best = encoder_decoder.pronounce(*ours, word, beams=6)["log_probability"][0]
        greedy = encoder_decoder.pronounce(*ours, word, beams=1)["log_probability"][0]
        assert best >= greedy - 1e-5


def test_an_answer_that_is_cut_off_counts_what_is_there(tiny):
    model, tokenizer = tiny
    table = encoder_decoder.pronounce(model, tokenizer, "abc", beams=2, max_new_tokens=3)
    assert (table["log_probability"] < 0).all()


@pytest.mark.parametrize("word", ["Through", " through ", "THROUGH"])
def test_capitals_are_letters_not_sounds(ours, word):
    small = encoder_decoder.pronounce(*ours, "through", beams=1)
    pandas.testing.assert_frame_equal(encoder_decoder.pronounce(*ours, word, beams=1), small)


def test_a_typographic_apostrophe_and_an_accent_are_read(ours):
    _, tokenizer = ours
    for typed, meant in [("dog\N{RIGHT SINGLE QUOTATION MARK}s", "dog's"), ("café", "cafe")]:
        ids = encoder_decoder.read(*ours, typed)["input_ids"]
        assert ids.tolist() == [tokenizer(meant)["input_ids"]]


def test_the_model_is_left_as_it_was(tiny):
    model, tokenizer = tiny
    implementation = model.config._attn_implementation
    model.train()
    try:
        encoder_decoder.pronounce(model, tokenizer, "cat")
        encoder_decoder.alignment(model, tokenizer, "cat", "K AE1 T")
        assert all(module.training for module in model.modules())
        assert model.config._attn_implementation == implementation
    finally:
        model.eval()


# ---- alignment ----------------------------------------------------------------------------------


def test_the_alignment_is_transformers_cross_attention(ours):
    model, tokenizer = ours
    path = llmlab.models.path("t5-g2p")
    eager = AutoModelForSeq2SeqLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager"
    )
    labels = tokenizer("TH R UW1", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        seen = eager(
            **tokenizer("through", return_tensors="pt"), labels=labels, output_attentions=True
        ).cross_attentions
    cross = torch.stack(seen)[:, 0]  # (layer, head, written, read)
    for chosen, expected in [
        ({"layer": 2, "head": 1}, cross[2, 1]),
        ({"layer": -1}, cross[2].mean(0)),
        ({}, cross.mean((0, 1))),
    ]:
        table = encoder_decoder.alignment(model, tokenizer, "through", "TH R UW1", **chosen)
        torch.testing.assert_close(torch.tensor(table.to_numpy()), expected)
        assert list(table.index) == ["TH", "R", "UW1", "</s>"]
        assert list(table.columns) == [*"through", "</s>"]


def test_without_an_answer_it_is_the_greedy_one(ours):
    answer = encoder_decoder.pronounce(*ours, "quiche", beams=1)["answer"][0]
    table = encoder_decoder.alignment(*ours, "quiche")
    assert list(table.index) == [*answer.split(), "</s>"]
    assert table.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)


def test_in_the_last_layer_sounds_look_at_their_letters(ours):
    """What the notebook says: while "M" is written, most attention is on the "m"."""
    for word, answer, letter, sound in [
        ("autumn", "AO1 T AH0 M", "m", "M"),
        ("library", "L AY1 B R EH2 R IY0", "b", "B"),
        ("modify", "M AA1 D AH0 F AY2", "f", "F"),
    ]:
        table = encoder_decoder.alignment(*ours, word, answer, layer=-1)
        assert table.loc[sound, letter] > 0.5


# ---- bad input ----------------------------------------------------------------------------------

BAD_WORDS = [
    ("", "no word"),
    ("   ", "no word"),
    ("r2d2", "'2'"),
    ("a-b", "'-'"),
    ("日本", "'日'"),
    ("ß", "'ß'"),
    ("two words", "one at a time"),
    ("a" * 21, "21 letters"),
    (["cat"], "for word in words"),
    (None, "NoneType"),
]


@pytest.mark.parametrize(("word", "says"), BAD_WORDS)
def test_a_word_that_it_cannot_read(tiny, word, says):
    for function in (encoder_decoder.pronounce, encoder_decoder.alignment):
        with pytest.raises(LabError, match=says):
            function(*tiny, word)


def test_the_longest_word_is_the_recipes():
    assert encoder_decoder.LONGEST == t5_g2p.LONGEST


def test_a_model_of_another_kind(tiny):
    _, tokenizer = tiny
    small = {"n_layer": 1, "n_head": 2, "n_embd": 8, "vocab_size": 99}
    bert = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 8, "vocab_size": 99}
    for model, says in [
        (GPT2LMHeadModel(GPT2Config(**small)), "goes on with a text"),
        (BertModel(BertConfig(**bert, intermediate_size=8)), "reads a text and writes none"),
        (T5Model(tiny[0].config), "no head"),
        ("t5-g2p", "A model was expected"),
    ]:
        with pytest.raises(LabError, match=says) as caught:
            encoder_decoder.pronounce(model, tokenizer, "cat")
        assert "AutoModelForSeq2SeqLM" in str(caught.value)


def test_other_wrong_arguments(tiny):
    model, tokenizer = tiny

    def looked(answer, **where):
        return encoder_decoder.alignment(model, tokenizer, "cat", answer, **where)

    for wrong, says in [
        (lambda: encoder_decoder.pronounce(model, tokenizer, "cat", beams=0), "beams"),
        (lambda: encoder_decoder.pronounce(model, None, "cat"), "tokenizer"),
        (lambda: looked("K ~"), "does not know"),
        (lambda: looked("K", layer=3), "layer 3"),
        (lambda: looked("K", layer=0, head=4), "head 4"),
        (lambda: looked("K", head=0), "which layer"),
    ]:
        with pytest.raises(LabError, match=says):
            wrong()


def test_a_tokenizer_of_another_model(tiny):
    gpt2 = AutoTokenizer.from_pretrained(llmlab.models.path("gpt2-tokenizer"))
    with pytest.raises(LabError, match="same name"):
        encoder_decoder.pronounce(tiny[0], gpt2, "cat and dog")


# ---- pictures and the view ----------------------------------------------------------------------


def test_the_view_says_what_it_shows(ours):
    answers = encoder_decoder.pronounce(*ours, "through", beams=3)
    table = encoder_decoder.alignment(*ours, "through", answers["answer"][0], layer=-1)
    view = views.pronunciation("through", answers, table)
    for part in (str(view), view.html):
        for answer in answers["answer"][1:]:
            assert answer in part
    assert str(view).startswith(f"through → {answers['answer'][0]} (")
    assert "R ← r" in str(view)
    assert 'alt="' in view.html and "http" not in view.html


def test_a_word_in_the_view_is_escaped(ours):
    table = pandas.DataFrame([[1.0]], index=["<b>"], columns=["<i>"])
    answers = pandas.DataFrame({"answer": ["<b>"], "probability": [1.0]})
    assert "<i>" not in views.pronunciation("<i>", answers, table).html


def test_the_view_in_a_panel_shows_an_error_as_a_sentence(ours):
    def speak(word):
        answers = encoder_decoder.pronounce(*ours, word)
        return views.pronunciation(word, answers, encoder_decoder.alignment(*ours, word))

    panel = views.live(speak, word="r2d2").panel
    text, result = panel.children
    assert "does not know" in result.value
    text.value = "hour"
    assert "<img" in result.value


def test_an_alignment_as_a_picture():
    weights = torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.05, 0.95]])
    drawn = plots.alignment(weights, list("the"), ["DH", "AH0"], title="the")
    assert drawn.alt == "the: DH ← t 0.60, h 0.40; AH0 ← e 0.95"
    with pytest.raises(LabError, match="2 tokens written and 2 read"):
        plots.alignment(weights, list("th"), ["DH", "AH0"])


def test_the_other_pictures_say_their_message():
    assert all(word in plots.architectures().alt for word in ("MiniLM", "SmolLM2", "t5-g2p"))
    read, written = [*"hi", "</s>"], ["HH", "AY1", "</s>"]
    shapes = [(1, 3), (1, 3, 192), (1, 3), (1, 3, 99)]
    alt = plots.two_towers(read, written, shapes, "<pad>").alt
    assert "H (1, 3, 192)" in alt and "<pad> HH AY1" in alt
    squares = [("self", torch.eye(3), read, read), ("cross", torch.eye(3), written, read)]
    alt = plots.three_attentions(squares).alt
    assert alt == "self: 3 queries, 3 keys; cross: 3 queries, 3 keys"


# ---- other models -------------------------------------------------------------------------------


@pytest.mark.hub
def test_t5_small_translates():
    """06: the same functions with a model of the Hub."""
    path = llmlab.models.path("t5-small")
    model = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path)
    text = "translate English to German: I love deep learning."
    table = encoder_decoder.pronounce(model, tokenizer, text)
    assert table["answer"][0].startswith("Ich liebe")
    assert encoder_decoder.alignment(model, tokenizer, text).sum(axis=1).to_numpy() == (
        pytest.approx(1, abs=1e-4)
    )


def test_another_model_may_take_its_place(monkeypatch, tmp_path, tiny, capsys):
    """LLMLAB_SEQ2SEQ, with any encoder–decoder: here one that reads GPT-2's tokens, not letters."""
    from transformers import BartConfig, BartForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(llmlab.models.path("gpt2-tokenizer"))
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, max_position_embeddings=64, pad_token_id=50256, bos_token_id=50256,
        eos_token_id=50256, decoder_start_token_id=50256, forced_eos_token_id=None,
    )  # fmt: skip
    BartForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setenv("LLMLAB_SEQ2SEQ", os.fspath(tmp_path))
    path = llmlab.models.path("t5-g2p")
    assert path == os.fspath(tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32)
    text = "Summarize: there are 2 dogs."
    table = encoder_decoder.pronounce(model, AutoTokenizer.from_pretrained(path), text, beams=2)
    assert len(table) == 2
    looked = encoder_decoder.alignment(model, AutoTokenizer.from_pretrained(path), text, " dogs")
    assert looked.shape == (1, len(tokenizer(text)["input_ids"]))

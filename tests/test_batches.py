"""Batches by length: every text once, as it is alone, with little padding, read as a stream."""

import pytest
import torch
from transformers import AutoTokenizer

import llmlab
from llmlab import LabError
from llmlab.batches import by_length

TEXTS = [" ".join(["word"] * (1 + 7 * i % 17)) for i in range(50)]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(llmlab.models.path("minilm"))


def test_every_text_comes_once_with_the_tokens_it_has_alone(tokenizer):
    seen = []
    for indices, inputs in by_length(TEXTS, tokenizer, batch_size=8, window=20):
        for row, index in enumerate(indices):
            alone = tokenizer(TEXTS[index], return_tensors="pt")
            length = int(inputs["attention_mask"][row].sum())
            for name in inputs:
                assert torch.equal(inputs[name][row, :length], alone[name][0])
            assert (inputs["input_ids"][row, length:] == tokenizer.pad_token_id).all()
        seen += indices
    assert sorted(seen) == list(range(50))


def test_a_batch_is_as_wide_as_its_longest_and_little_of_it_is_padding(tokenizer):
    def cells(batches):
        return sum(inputs["input_ids"].numel() for _, inputs in batches)

    words = sum(len(tokenizer(text)["input_ids"]) for text in TEXTS)
    plain = sum(
        tokenizer(TEXTS[i : i + 8], padding=True, return_tensors="pt")["input_ids"].numel()
        for i in range(0, 50, 8)
    )
    sorted_cells = cells(by_length(TEXTS, tokenizer, batch_size=8))
    assert sorted_cells < 1.15 * words
    assert plain > 1.4 * words


def test_the_longest_come_first_within_a_window_and_windows_in_order(tokenizer):
    batches = [indices for indices, _ in by_length(TEXTS, tokenizer, batch_size=8, window=25)]
    places = [place for indices in batches for place in indices]
    assert set(places[:25]) == set(range(25))
    lengths = [len(TEXTS[place].split()) for place in places]
    assert lengths[:25] == sorted(lengths[:25], reverse=True)


def test_a_stream_is_read_no_further_than_a_window(tokenizer):
    taken = []

    def stream():
        for text in TEXTS:
            taken.append(text)
            yield text

    batches = by_length(stream(), tokenizer, batch_size=4, window=10)
    next(batches)
    assert len(taken) == 10
    assert sum(len(indices) for indices, _ in batches) == 46
    assert len(taken) == 50


def test_texts_are_cut_only_where_that_is_asked_for(tokenizer):
    long = ["word " * 700]
    (_, whole), *_ = by_length(long, tokenizer)
    (_, cut), *_ = by_length(long, tokenizer, max_length=9)
    assert whole["input_ids"].shape == (1, 702)
    assert cut["input_ids"].shape == (1, 9)
    assert cut["input_ids"][0, -1] == tokenizer.sep_token_id


def test_a_tokenizer_without_padding_or_with_it_on_the_left_pads_on_the_right(tokenizer):
    gpt2 = AutoTokenizer.from_pretrained(llmlab.models.path("gpt2-tokenizer"))
    assert gpt2.pad_token_id is None
    gpt2.padding_side = "left"
    ((indices, inputs),) = by_length(["one", "one two three"], gpt2)
    assert indices == [1, 0]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert inputs["input_ids"][1].tolist() == [505, gpt2.eos_token_id, gpt2.eos_token_id]


def test_nothing_to_read_is_no_batch(tokenizer):
    assert list(by_length([], tokenizer)) == []


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("one text", {}, r"one text; several were expected. Put it into a list"),
        (["a", None], {}, r"Text number 1 is no text but None"),
        (["a", 3.5], {}, r"Text number 1 is no text but 3.5 \(float\)"),
        (["a"], {"batch_size": 0}, r"batch_size must be a whole number of at least 1, not 0"),
        (["a"], {"window": 2.5}, r"window must be .* not 2.5"),
        (["a"], {"max_length": -1}, r"max_length must be .* not -1"),
    ],
)
def test_what_is_no_text_and_no_size_is_said(tokenizer, texts, options, message):
    with pytest.raises(LabError, match=message):
        list(by_length(texts, tokenizer, **options))

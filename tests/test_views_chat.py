"""The chat: what it sends, that Stop stops, that its threads end, what it says when it fails."""

import threading
import time
from html import unescape

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertModel

import llmlab
from llmlab import LabError
from llmlab.views import View, chat
from tests.test_generation import tiny_gpt2

QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(llmlab.models.path("smollm2-135m"))


@pytest.fixture(scope="module")
def smollm2():
    path = llmlab.models.path("smollm2-135m")
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


@pytest.fixture(scope="module")
def endless():
    """A model that writes until it is stopped."""
    model = tiny_gpt2(n_positions=100_000, n_embd=8)
    model.generation_config.pad_token_id = 2
    return model


@pytest.fixture(autouse=True)
def threads():
    """No test may leave a thread behind."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def said(panel):
    return unescape(panel._status.value.split(">", 1)[1].removesuffix("</p>"))


def seconds(true, limit=60.0):
    """Wait until something is true."""
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_it_answers_as_generate_does_and_keeps_the_history(smollm2, tokenizer):
    panel = chat(smollm2, tokenizer, system="Answer in one word.", max_new_tokens=4)
    assert isinstance(panel, View)
    panel._field.value = QUESTION
    panel._send.click()
    assert panel.wait(120)
    messages = [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": QUESTION},
    ]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = smollm2.generate(**inputs, max_new_tokens=4)[0, inputs["input_ids"].shape[1] :]
    answer = tokenizer.decode(ids, skip_special_tokens=True)
    assert panel.messages == [*messages, {"role": "assistant", "content": answer}]
    assert panel._field.value == "" and panel.problem == "" and said(panel) == ""
    assert f"<b>Model</b> {answer}" in unescape(panel._history.value)

    # what it sends: the template's text, special tokens in blue, the others white
    count = inputs["input_ids"].shape[1]
    assert f"The {count} tokens that the model gets" in panel._sent.value
    boxes = panel._sent.value.split("<code ")[1:]
    assert len(boxes) == count
    blue = [box for box in boxes if "background:#6AA8E0" in box]
    assert len(blue) == sum(i in tokenizer.all_special_ids for i in inputs["input_ids"][0].tolist())
    assert "&lt;|im_start|&gt;" in blue[0] and 'title="id 1,' in blue[0]

    panel.send("And of Italy?")
    assert panel.wait(120)
    roles = [message["role"] for message in panel.messages]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert answer.split()[0] in panel._sent.value  # the whole history went out again
    panel._new.click()
    assert panel.messages == messages[:1] and panel._sent.value == ""


def test_stop_stops(endless, tokenizer):
    panel = chat(endless, tokenizer, max_new_tokens=50_000)
    panel.send(QUESTION)
    assert panel.writing
    assert panel._send.disabled and not panel._stop.disabled
    seconds(lambda: len(panel._history.value) > 300)  # some words are there
    assert said(panel) == "The model is writing."
    panel.send("Another question")
    assert "still writing" in said(panel)
    assert len(panel.messages) == 1
    panel._stop.click()
    assert panel.wait(20)
    assert said(panel) == "Stopped."
    assert panel.messages[1]["role"] == "assistant" and panel.messages[1]["content"]
    assert panel._stop.disabled and not panel._send.disabled
    assert not endless.training
    # and it goes on after that
    panel.settings["max_new_tokens"] = 3
    panel.send("Go on")
    assert panel.wait(60)
    assert len(panel.messages) == 4 and said(panel) == ""


def test_a_new_chat_ends_what_is_being_written(endless, tokenizer):
    panel = chat(endless, tokenizer, max_new_tokens=50_000)
    for _ in range(3):
        panel.send(QUESTION)
        panel.clear()
        assert panel.messages == [] and not panel.writing
        assert not panel._send.disabled


def test_the_same_seed_gives_the_same_answers(endless, tokenizer):
    answers = []
    for seed in (3, 3, 4):
        panel = chat(endless, tokenizer, max_new_tokens=6, seed=seed, do_sample=True)
        panel.send(QUESTION)
        assert panel.wait(60)
        answers.append(panel.messages[-1]["content"])
    assert answers[0] == answers[1] != answers[2]


def test_an_error_becomes_a_sentence_and_the_message_comes_back(endless, tokenizer):
    panel = chat(endless, tokenizer, temprature=0.5)
    panel.send(QUESTION)
    assert panel.wait(60)
    assert said(panel) == panel.problem
    assert "generate refuses these settings" in panel.problem and "temprature" in panel.problem
    assert panel.messages == [] and panel._field.value == QUESTION
    assert not panel._send.disabled

    def fails(*args, **kwargs):
        raise RuntimeError("out of <memory>")

    panel = chat(endless, tokenizer)
    endless.forward, kept = fails, endless.forward
    try:
        panel.send(QUESTION)
        assert panel.wait(60)
    finally:
        endless.forward = kept
    assert panel.problem == said(panel) == "RuntimeError: out of <memory>"
    assert "<memory>" not in panel._status.value


def test_an_error_after_some_words(endless, tokenizer):
    panel = chat(endless, tokenizer, max_new_tokens=50)
    count, kept = [], endless.forward

    def fails_later(*args, **kwargs):
        count.append(1)
        if len(count) > 5:
            raise RuntimeError("the machine gave up")
        return kept(*args, **kwargs)

    endless.forward = fails_later
    try:
        panel.send(QUESTION)
        assert panel.wait(60)
    finally:
        endless.forward = kept
    assert panel.problem == "RuntimeError: the machine gave up"
    assert panel.messages == []


def test_a_template_that_refuses_a_message(endless, tokenizer):
    strict = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    strict.chat_template = "{{ raise_exception('No system messages here') }}"
    panel = chat(endless, strict, system="Be brief.")
    panel.send(QUESTION)
    assert panel.wait(10)
    assert "No system messages here" in panel.problem
    assert [m["role"] for m in panel.messages] == ["system"]


def test_a_chat_longer_than_the_context(tokenizer):
    panel = chat(tiny_gpt2(n_positions=64), tokenizer, max_new_tokens=40)
    panel.send(QUESTION)
    assert panel.wait(10)
    assert "the model's context of 64. Begin a new chat" in panel.problem
    assert panel.messages == []


def test_nothing_is_sent_for_nothing(endless, tokenizer):
    panel = chat(endless, tokenizer)
    panel.send("  ")
    assert not panel.writing and panel.messages == []


def test_what_is_said_stays_text(endless, tokenizer):
    panel = chat(endless, tokenizer, max_new_tokens=1)
    panel.send("<img src=x onerror=alert(1)>")
    assert panel.wait(60)
    assert "<img" not in panel._history.value + panel._sent.value


def test_stored_it_is_a_sentence_with_the_code(endless, tokenizer):
    panel = chat(endless, tokenizer, max_new_tokens=20, do_sample=True)
    assert repr(panel) == (
        "A chat (it needs a running kernel). As code: inputs = tokenizer.apply_chat_template("
        'messages, add_generation_prompt=True, return_tensors="pt", return_dict=True), then '
        "model.generate(**inputs, max_new_tokens=20, do_sample=True)"
    )
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == repr(panel)
    assert set(bundle) == {"text/plain", "application/vnd.jupyter.widget-view+json"}
    seeded = chat(endless, tokenizer, max_new_tokens=20, do_sample=True, seed=3)
    assert "As code: torch.manual_seed(3), inputs = tokenizer." in repr(seeded)


def test_who_can_not_chat_is_told_so(endless, tokenizer):
    config = BertConfig(
        vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8,
    )  # fmt: skip
    with pytest.raises(LabError, match="predicts no next token"):
        chat(BertModel(config), tokenizer)
    plain = AutoTokenizer.from_pretrained(llmlab.models.path("gpt2-tokenizer"))
    with pytest.raises(LabError, match="no chat template"):
        chat(endless, plain)

"""Published figures of models that only the Hub has. Without the Hub these are skipped, and said.

Each belongs to a notebook; it comes here with that notebook.
"""

import http.server
import threading

import huggingface_hub
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import llmlab
from tests.conftest import hub_out_of_reach


@pytest.mark.hub
def test_gpt2_loss():
    """02: with labels = ids, the loss of "I love deep learning." is 5.5497."""
    path = llmlab.models.path("gpt2")  # a Hub id is passed through
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    inputs = tokenizer("I love deep learning.", return_tensors="pt")
    with torch.no_grad():
        loss = model(**inputs, labels=inputs["input_ids"]).loss
    assert loss.item() == pytest.approx(5.5497, abs=1e-4)


@pytest.mark.hub
@pytest.mark.parametrize("text", ["Hello, how are you?", "naïve 東京 🙂 don't\n\n  x=1"])
@pytest.mark.parametrize(
    ("ours", "hub"), [("gpt2-tokenizer", "gpt2"), ("minilm", "bert-base-uncased")]
)
def test_the_embedded_tokenizers_are_the_hubs(ours, hub, text):
    """01: the same ids as the tokenizers that ours stand for."""
    here, there = (AutoTokenizer.from_pretrained(llmlab.models.path(name)) for name in (ours, hub))
    assert here(text)["input_ids"] == there(text)["input_ids"]


def test_the_hub_is_looked_for_before_it_is_given_up(monkeypatch):
    """The tests above run as soon as something answers, and are skipped with a reason else."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        for answer, reason in ((200, ""), (503, "Service Unavailable")):
            head = f"HTTP/1.0 {answer} {reason}\r\n\r\n".encode()
            server.finish_request = lambda request, address, head=head: request.send(head)
            monkeypatch.setattr(
                huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}"
            )
            answering = threading.Thread(target=server.handle_request)
            answering.start()
            hub_out_of_reach.cache_clear()
            assert hub_out_of_reach() == reason
            answering.join()
    hub_out_of_reach.cache_clear()
    assert "refused" in hub_out_of_reach()
    monkeypatch.undo()
    hub_out_of_reach.cache_clear()

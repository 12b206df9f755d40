"""A small chat: keeps the history, and shows the tokens that it sends."""

import threading
import warnings
from html import escape
from typing import Any

from llmlab.errors import LabError
from llmlab.views.live import Live
from llmlab.views.tokens import tokens

_NAMES = {"system": "System", "user": "You", "assistant": "Model"}


def chat(
    model: Any,
    tokenizer: Any,
    *,
    system: str | None = None,
    max_new_tokens: int = 200,
    seed: int | None = None,
    **generate: Any,
) -> "Chat":
    """A panel to chat with an instruction model, word by word, with a button that stops it.

    Below the chat stand the tokens that the model gets: the whole history as the chat template
    writes it, special tokens in blue. The same as code:

        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = model.generate(**inputs, max_new_tokens=200)

    Args:
        model: a causal model that was trained to follow instructions.
        tokenizer: its tokenizer, with a chat template.
        system: the message that stands before all others; None: what the template puts there.
        max_new_tokens: the longest answer.
        seed: where each answer's random numbers start, if it samples; None: they go on.
        **generate: what `model.generate` takes, such as do_sample=True, temperature=0.7.

    Returns:
        A view with the panel. `messages` holds the history; `send`, `stop`, `clear` and `wait` do
        what the buttons do.

    Raises:
        LabError: the model is not causal, or the tokenizer has no chat template.
    """
    from llmlab import generation  # torch and transformers: only where they are needed

    generation.require_causal(model)
    if not getattr(tokenizer, "chat_template", None):
        raise LabError(
            "This tokenizer has no chat template: its model was not trained to chat, it goes on "
            "with a text. Use an instruction model, such as smollm2-135m."
        )
    settings = {"max_new_tokens": max_new_tokens} | generate
    return Chat(model, tokenizer, system, seed, settings)


class Chat(Live):
    """The panel that `chat` returns.

    Attributes:
        messages: the history, as `apply_chat_template` takes it.
        problem: why the last answer did not come, or "".
    """

    def __init__(
        self, model: Any, tokenizer: Any, system: str | None, seed: int | None, settings: dict
    ) -> None:
        import ipywidgets  # a slow import, and only notebooks need it

        self.model, self.tokenizer, self.seed, self.settings = model, tokenizer, seed, settings
        self._start = [] if system is None else [{"role": "system", "content": system}]
        self.messages: list[dict[str, str]] = list(self._start)
        self.problem = ""
        self._stopping = threading.Event()
        self._writer: threading.Thread | None = None

        self._history, self._sent, self._status = (ipywidgets.HTML() for _ in range(3))
        self._field = ipywidgets.Text(
            placeholder="Your message", description="You", layout={"width": "70%"}
        )
        self._send, self._stop, self._new = (
            ipywidgets.Button(description=name) for name in ("Send", "Stop", "New chat")
        )
        with warnings.catch_warnings():  # Enter; what is to replace it also fires on leaving
            warnings.simplefilter("ignore", DeprecationWarning)
            self._field.on_submit(lambda _: self.send(self._field.value))
        self._send.on_click(lambda _: self.send(self._field.value))
        self._stop.on_click(lambda _: self.stop())
        self._new.on_click(lambda _: self.clear())
        entry = ipywidgets.HBox([self._field, self._send, self._stop, self._new])
        panel = ipywidgets.VBox([self._history, self._status, entry, self._sent])
        options = "".join(f", {name}={value!r}" for name, value in settings.items())
        start = "" if seed is None else f"torch.manual_seed({seed}), "
        super().__init__(
            panel,
            f"A chat (it needs a running kernel). As code: {start}"
            "inputs = tokenizer.apply_chat_template("
            'messages, add_generation_prompt=True, return_tensors="pt", return_dict=True), then '
            f"model.generate(**inputs{options})",
        )
        self._show()

    @property
    def writing(self) -> bool:
        """Whether an answer is being written."""
        return self._writer is not None and self._writer.is_alive()

    def send(self, text: str) -> None:
        """Put a message to the model; returns at once, and the answer comes bit by bit."""
        if not text.strip():
            return
        if self.writing:
            self._say("The model is still writing. Wait for it, or press Stop.")
            return
        self.messages.append({"role": "user", "content": text})
        try:
            inputs = self._inputs()
        except Exception as error:  # of the template, too: it is a program of its own
            self._take_back(text, _sentence(error))
            return
        self.problem = ""
        self._stopping.clear()
        self._field.value = ""
        self._writer = threading.Thread(target=self._write, args=(text, inputs), daemon=True)
        self._writer.start()

    def stop(self) -> None:
        """Let the model end after the token that it is at."""
        self._stopping.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the answer is there; False if it is not after so many seconds."""
        if self._writer is not None:
            self._writer.join(seconds)
        return not self.writing

    def clear(self) -> None:
        """Stop, and begin a new chat."""
        self.stop()
        self.wait()
        self.messages = list(self._start)
        self.problem = ""
        self._sent.value = ""
        self._show()

    def _inputs(self) -> Any:
        """The history as tensors on the model's device; its tokens go into the panel."""
        from llmlab import generation

        inputs = self.tokenizer.apply_chat_template(
            self.messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = inputs["input_ids"][0].tolist()
        limit, new = generation.context_length(self.model), self.settings["max_new_tokens"]
        if limit and len(ids) + new > limit:
            raise LabError(
                f"The chat has {len(ids)} tokens, and with {new} for the answer that is more than "
                f"the model's context of {limit}. Begin a new chat, or write less."
            )
        names = [generation.text_of(self.tokenizer, i) for i in ids]
        special = [float(i in self.tokenizer.all_special_ids) for i in ids]
        self._sent.value = (
            f"<details open><summary>The {len(ids)} tokens that the model gets (blue: special "
            f"tokens)</summary>{tokens(names, special, ids=ids).html}</details>"
        )
        return inputs.to(self.model.device)

    def _write(self, text: str, inputs: Any) -> None:
        """What the thread does: show each piece of the answer as it comes, then keep it."""
        from transformers import TextIteratorStreamer

        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        problems: list[str] = []
        maker = threading.Thread(target=self._make, args=(inputs, streamer, problems), daemon=True)
        self._show("")
        maker.start()
        reply = ""
        for piece in streamer:
            reply += piece
            self._show(reply)
        maker.join()
        if problems:
            self._take_back(text, problems[0])
            return
        self.messages.append({"role": "assistant", "content": reply})
        self._show()
        if self._stopping.is_set():
            self._say("Stopped.")

    def _make(self, inputs: Any, streamer: Any, problems: list[str]) -> None:
        """Generate into the streamer. Whatever happens, the streamer ends."""
        import torch
        from transformers import StoppingCriteriaList

        from llmlab import generation

        def stopped(input_ids: Any, scores: Any, **_: Any) -> Any:
            row = (input_ids.shape[0],)
            return torch.full(row, self._stopping.is_set(), device=input_ids.device)

        extra = {"streamer": streamer, "stopping_criteria": StoppingCriteriaList([stopped])}
        try:
            generation.run_generate(
                self.model, self.tokenizer, inputs, self.seed, self.settings | extra
            )
        except Exception as error:  # nobody catches what a thread raises: say it in the panel
            problems.append(_sentence(error))
            streamer.text_queue.put(streamer.stop_signal)

    def _take_back(self, text: str, problem: str) -> None:
        """Remove the message that got no answer, give its text back, and say why."""
        self.messages.pop()
        self.problem = problem
        self._field.value = text
        self._show()
        self._say(problem)

    def _say(self, words: str) -> None:
        self._status.value = f'<p role="status" aria-live="polite">{escape(words)}</p>'

    def _show(self, reply: str | None = None) -> None:
        """The history, and the answer so far (None: none is being written)."""
        busy = reply is not None
        shown = [*self.messages, *([{"role": "assistant", "content": f"{reply}▌"}] if busy else [])]
        self._history.value = "".join(
            f'<p style="white-space:pre-wrap"><b>{_NAMES.get(one["role"], one["role"])}</b> '
            f"{escape(one['content'])}</p>"
            for one in shown
        )
        self._say("The model is writing." if busy else "")
        self._send.disabled, self._stop.disabled = busy, not busy


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, LabError) else f"{type(error).__name__}: {error}"

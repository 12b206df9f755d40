"""One class for running a language model: load it, let it write, and give its memory back.

It puts together what the notebooks show one by one: device, dtype and quantization (08), sampling,
streaming and the chat template (05), batches with padding on the left (05).
"""

import os
import tempfile
import threading
import traceback
import weakref
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any

import pandas
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from llmlab import batches, generation, loading, models
from llmlab.errors import LabError

ROOM = 1.2  # times the weights: what must be free, since the cache and activations come on top


class LLM:
    """A causal language model with its tokenizer, ready to write.

        with llmlab.LLM("smollm2-135m") as llm:
            print(llm.generate("The capital of France is", max_new_tokens=5))

    Leaving the block gives the memory back, also after an error. Without a block call `close()`.

    Args:
        name: as for `models.path`: a name of the catalogue, a folder, an id on the Hub.
        device: "cpu", "cuda" (or "cuda:1"), "mps"; "auto": the first of cuda, mps and cpu that
            is here. What does not fit there is spread by accelerate over all devices, the
            machine's memory and the disk (slow, but it runs).
        dtype: "float32", "bfloat16" or "float16" (or torch's own); "auto": float32 on a CPU; on a
            GPU bfloat16 where it can, else float16.
        quantize: "int8" or "int4": the linear layers' weights in so many bits, by bitsandbytes
            (Dettmers et al. 2022, LLM.int8(); 2023, QLoRA, whose NF4 is the "int4" here).
        seed: where the random numbers of each call start, so that a call repeated gives the same
            text; None: they go on.
        max_memory: spread the model so that each device gets no more than this, as accelerate
            takes it: {0: "6GB", "cpu": "2GB"}; the rest goes to the disk.

    Attributes:
        model, tokenizer: as transformers loads them.
        device: where the inputs go.
        dtype: the type of the weights that are not quantized.

    Raises:
        LabError: no such model, one that can't go on with a text, an unknown setting, or one that
            this machine can't follow. Says what to do.
    """

    def __init__(
        self,
        name: str,
        *,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
        quantize: str | None = None,
        seed: int | None = 0,
        max_memory: dict[int | str, int | str] | None = None,
    ) -> None:
        self.name, self.seed = name, seed
        self.model: Any = None  # None once it is closed
        self.tokenizer: Any = None
        self._streams: weakref.WeakSet[Generator[str]] = weakref.WeakSet()
        self._folder: tempfile.TemporaryDirectory | None = None
        place = loading.device_of(device)
        self.dtype = loading.dtype_of(dtype, place)
        options = {"dtype": self.dtype} | loading.quantization(quantize, self.dtype)
        path = models.path(name)
        with loading.in_words(name):
            needed = ROOM * loading.weight_bytes(path, self.dtype, quantize)
            fits = device != "auto" or needed <= loading.free_bytes(place)
            if fits and max_memory is None:
                options["device_map"] = {"": place}
            else:  # accelerate decides layer by layer; weights on the disk are read at each step
                self._folder = tempfile.TemporaryDirectory(prefix="llmlab-offload-")
                options |= {"device_map": "auto", "max_memory": max_memory}
                options["offload_folder"] = self._folder.name
            if place.type == "cpu":  # what several threads allocate, glibc would not all give back
                os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")
            self.tokenizer = AutoTokenizer.from_pretrained(path)
            self.model = AutoModelForCausalLM.from_pretrained(path, **options)
        self.device = generation.input_device(self.model)

    # ---- what it can do -------------------------------------------------------------------------

    def generate(
        self,
        prompt: str | list[str],
        *,
        max_new_tokens: int = 50,
        temperature: float = 0,
        top_p: float = 1,
        top_k: int = 0,
        long: str = "refuse",
        overlap: int = 32,
        batch_size: int = 8,
    ) -> str | list[str]:
        """What the model writes after a prompt, or after each of several: the new text only.

        Several prompts are sorted by length and run in batches, padded on the left, so that each
        row's last token is the prompt's own. Greedy texts are those of one prompt at a time (but
        for ties of two tokens within rounding); drawn ones are others, equally likely.

        Args:
            prompt: a text, or a list of them.
            max_new_tokens: the longest continuation; the end-of-text token ends it earlier.
            temperature: 0: greedy, the likeliest token at each step (top_p and top_k then change
                nothing); 1: drawn by the model's own probabilities.
            top_p: draw among the likeliest tokens that together have this probability.
            top_k: draw among so many likeliest tokens; 0: among all.
            long: a prompt that leaves no room for the new tokens in the model's context is, by
                default, an error ("refuse"). "truncate": its end is kept. "window": it is cut
                into pieces that fit, each piece is continued, a line each.
            overlap: with "window": so many tokens at the start of a piece end the one before.
            batch_size: how many prompts run at once. More is faster and takes more memory.

        Returns:
            A text for a text, a list in the order of the prompts for a list.

        Raises:
            LabError: closed; no text; settings out of range; a prompt too long.
        """
        settings = self._settings(max_new_tokens, temperature, top_p, top_k)
        prompts = [prompt] if isinstance(prompt, str) else prompt
        pieces, owners = self._encode(prompts, max_new_tokens, long, overlap)
        order = sorted(range(len(pieces)), key=lambda piece: -len(pieces[piece]))
        texts: dict[int, str] = {}
        for first in range(0, len(order), _whole("batch_size", batch_size, 1)):
            batch = order[first : first + batch_size]
            written = self._write([pieces[i] for i in batch], settings, first)
            texts |= zip(batch, written, strict=True)
        answers: list[list[str]] = [[] for _ in prompts]
        for piece, owner in enumerate(owners):
            answers[owner].append(texts[piece])
        joined = ["\n".join(parts) for parts in answers]
        return joined[0] if isinstance(prompt, str) else joined

    def stream(self, prompt: str, **settings: Any) -> Iterator[str]:
        """The text of `generate`, piece by piece as it is written: for piece in llm.stream(…).

        The model writes in a thread. Leaving the loop early, or closing the iterator, stops it
        after the token it is at. Settings and errors are those of `generate`: max_new_tokens,
        temperature, top_p, top_k.
        """
        asked = self._settings(**settings)
        pieces, _ = self._encode([prompt], asked["max_new_tokens"])
        stream = self._stream(pieces[0], asked)
        self._streams.add(stream)
        return stream

    def chat(self, messages: list[dict[str, str]], **settings: Any) -> str:
        """The model's answer to messages: [{"role": "user", "content": "Hello"}].

        The tokenizer's chat template makes one text of them, with the marks that the model was
        trained to see around each message. Roles: system, user, assistant. Settings and errors
        are those of `generate`; a model without a chat template is one, too.
        """
        asked = self._settings(**settings)
        if not self.tokenizer.chat_template:
            raise LabError(
                f"{self.name!r} has no chat template: it was not trained to chat, it goes on with "
                "a text. Use generate, or an instruction model such as smollm2-135m."
            )
        try:
            ids = self.tokenizer.apply_chat_template(
                [{"role": one["role"], "content": one["content"]} for one in messages],
                add_generation_prompt=True,
                return_dict=True,
            )["input_ids"]
        except Exception as error:  # the template is a program of its own
            raise LabError(
                'messages is a list such as [{"role": "user", "content": "Hello"}]; the chat '
                f"template refuses this one ({type(error).__name__}: {error})."
            ) from None
        self._fits(len(ids), asked["max_new_tokens"])
        return self._write([ids], asked)[0]

    def next_tokens(self, prompt: str, k: int = 10) -> pandas.DataFrame:
        """The k likeliest next tokens with their probabilities: `generation.next_tokens`."""
        self._opened()
        return generation.next_tokens(self.model, self.tokenizer, prompt, k)

    # ---- opening and closing --------------------------------------------------------------------

    def close(self) -> None:
        """Stop what is still writing and give the memory back. A second time does nothing."""
        for stream in list(self._streams):
            stream.close()
        self.model = self.tokenizer = None
        if self._folder is not None:
            self._folder.cleanup()
        loading.release()

    def __enter__(self) -> "LLM":
        self._opened()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # An error keeps the local variables of each function it passed through, and so the model.
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            error = error.__context__
        self.close()

    # ---- the parts ------------------------------------------------------------------------------

    def _opened(self) -> None:
        if self.model is None:
            raise LabError(
                f"This LLM ({self.name!r}) is closed: its memory was given back. Work inside the "
                "`with` block, or open it again with llmlab.LLM(…)."
            )

    def _settings(
        self, max_new_tokens: int = 50, temperature: float = 0, top_p: float = 1, top_k: int = 0
    ) -> dict[str, Any]:
        """What `model.generate` is to be told: every setting, so that no model's own slips in."""
        self._opened()
        settings: dict[str, Any] = {"max_new_tokens": _whole("max_new_tokens", max_new_tokens, 1)}
        for name, value in (("temperature", temperature), ("top_p", top_p)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise LabError(f"{name} is a number, not {value!r}.")
        if not 0 <= temperature < float("inf"):
            raise LabError(f"temperature is 0 (greedy) or more; it was {temperature}.")
        if not 0 < top_p <= 1:
            raise LabError(f"top_p is a probability, above 0 and up to 1; it was {top_p}.")
        _whole("top_k", top_k, 0)
        if temperature == 0:
            nothing = dict.fromkeys(["temperature", "top_p", "top_k"])
            return settings | {"do_sample": False} | nothing
        drawn = {"do_sample": True, "temperature": float(temperature), "top_p": float(top_p)}
        return settings | drawn | {"top_k": top_k}

    def _encode(
        self, prompts: list[str], new: int, long: str = "refuse", overlap: int = 0
    ) -> tuple[list[list[int]], list[int]]:
        """The prompts' ids in pieces that fit into the context, and whose prompt each piece is."""
        if not isinstance(prompts, list | tuple) or not prompts:
            raise LabError(f"A prompt is a text, or a list of some: not {prompts!r:.60}.")
        for number, prompt in enumerate(prompts):
            if not isinstance(prompt, str) or not prompt:
                raise LabError(
                    f"Prompt number {number} is {prompt!r:.60}, and a text of at least one "
                    "character was expected: the model needs something to go on from."
                )
        if long not in ("refuse", "truncate", "window"):
            raise LabError(f"long is 'refuse', 'truncate' or 'window', not {long!r}.")
        encoded = self.tokenizer(prompts, verbose=False)["input_ids"]
        if not all(encoded):
            raise LabError("A prompt has no tokens: the model needs something to go on from.")
        context = generation.context_length(self.model)
        if context is None or all(len(ids) + new <= context for ids in encoded):
            return encoded, list(range(len(encoded)))
        room = context - new - self.tokenizer.num_special_tokens_to_add()
        if long == "refuse" or room < 1:
            self._fits(max(map(len, encoded)), new)
        self.tokenizer.truncation_side = "left" if long == "truncate" else "right"
        options: dict[str, Any] = {"truncation": True, "max_length": context - new}
        if long == "truncate":
            return self.tokenizer(prompts, **options)["input_ids"], list(range(len(prompts)))
        if _whole("overlap", overlap, 0) >= room:
            raise LabError(f"overlap must be below {room}, a window's tokens; it was {overlap}.")
        cut = self.tokenizer(prompts, stride=overlap, return_overflowing_tokens=True, **options)
        if "overflow_to_sample_mapping" not in cut:
            raise LabError(f"{self.name!r} has no fast tokenizer, and only those cut windows.")
        return cut["input_ids"], cut["overflow_to_sample_mapping"]

    def _fits(self, length: int, new: int) -> None:
        context = generation.context_length(self.model)
        if context is not None and length + new > context:
            raise LabError(
                f"The prompt has {length} tokens, and with {new} new ones that is more than the "
                f"model's context of {context}. Shorten one of them; generate can also keep a "
                "prompt's end (long='truncate') or go piece by piece (long='window')."
            )

    def _write(self, rows: list[list[int]], settings: dict[str, Any], before: int = 0) -> list[str]:
        """The new text of each row of ids."""
        new = self._run(rows, settings, before)
        return self.tokenizer.batch_decode(new, skip_special_tokens=True)

    def _run(
        self, rows: list[list[int]], settings: dict[str, Any], before: int = 0
    ) -> torch.Tensor:
        """The new ids of each row of ids, all at once, of shape (batch, new).

        `before`: how many rows of this call ran already; each batch gets random numbers of its own.
        """
        seed = self.seed + before if isinstance(self.seed, int) else self.seed
        encoded = {"input_ids": rows, "attention_mask": [[1] * len(ids) for ids in rows]}
        inputs = batches.padded(encoded, range(len(rows)), self.tokenizer, side="left")
        outputs = generation.run_generate(
            self.model, self.tokenizer, inputs.to(self.device), seed, settings
        )
        return outputs[:, inputs["input_ids"].shape[1] :]

    def _stream(self, ids: list[int], settings: dict[str, Any]) -> Generator[str]:
        """A thread writes into a queue; here what comes out of it is handed on."""
        self._opened()  # it may have been closed before the first piece was asked for
        stopping = threading.Event()
        problems: list[BaseException] = []
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)

        def stopped(input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            return torch.full((len(input_ids),), stopping.is_set(), device=input_ids.device)

        more = {"streamer": streamer, "stopping_criteria": StoppingCriteriaList([stopped])}

        def write() -> None:
            try:
                self._run([ids], settings | more)
            except BaseException as error:  # nobody catches what a thread raises: pass it on
                problems.append(error)
                streamer.end()

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        try:
            yield from filter(None, streamer)  # some pieces are empty: parts of a character
        finally:  # also when the reader leaves early
            stopping.set()
            thread.join()
        if problems:
            raise problems[0]


def _whole(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise LabError(f"{name} is a whole number from {least} on, not {value!r}.")
    return value

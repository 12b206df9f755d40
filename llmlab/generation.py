"""From logits to text: what the model would say next, what it said, and how sure it was.

Everything here takes a causal model as `AutoModelForCausalLM` loads it, and its tokenizer. Dropout
is off meanwhile; the model is left as it was. Probabilities are the model's own (softmax of its
logits) unless a setting is named.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pandas
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    BatchEncoding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmlab.errors import LabError

WINDOW = 1024  # tokens that the model reads at once in a long text, if its context allows
# A word with what an apostrophe joins to it (don't), or one sign.
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


# ---- what comes next ----------------------------------------------------------------------------


def next_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, k: int = 10
) -> pandas.DataFrame:
    """The k tokens that the model holds likeliest after the prompt.

    Args:
        prompt: the text so far.
        k: how many.

    Returns:
        A row a token, likeliest first, index `rank` from 1: `token` (its text, with its leading
        space), `id`, `logit`, `probability`.

    Raises:
        LabError: the model is not causal, the prompt is empty or longer than the model's context,
            the tokenizer belongs to another model, or there are no k tokens.
    """
    inputs = _inputs(model, tokenizer, prompt)
    with _evaluating(model):
        logits = model(**inputs, return_dict=True).logits[0, -1].float().cpu()  # (vocabulary,)
    _checked(logits)
    if not isinstance(k, int) or not 1 <= k <= len(logits):
        raise LabError(
            f"k is how many tokens to show, from 1 to {len(logits):,} (the vocabulary); it was {k}."
        )
    probs = logits.softmax(-1)
    ids = logits.topk(k).indices.tolist()
    return pandas.DataFrame(
        {
            "token": [text_of(tokenizer, i) for i in ids],
            "id": ids,
            "logit": logits[ids].tolist(),
            "probability": probs[ids].tolist(),
        },
        index=pandas.RangeIndex(1, k + 1, name="rank"),
    )


def loop(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    choose: Callable[[Float[Tensor, "vocabulary"]], Any] = torch.argmax,
    max_new_tokens: int = 20,
    *,
    use_cache: bool = True,
) -> Int[Tensor, "new"]:
    """The autoregressive loop: forward, logits of the last position, choose, append, repeat.

    Args:
        prompt: the text so far.
        choose: gets the logits of the next token, (vocabulary,), and returns an id. By default the
            likeliest (greedy): then the ids are those of `generate(do_sample=False)`.
        max_new_tokens: stop after so many, if no end-of-text token came before.
        use_cache: keep keys and values, so that each step reads one new token only. Without, each
            step reads the whole text again: the same ids, later.

    Returns:
        The new ids, with the end-of-text token if it came. `tokenizer.decode` makes text of them.

    Raises:
        LabError: as for `next_tokens`; prompt and new tokens don't fit into the context; `choose`
            returns no id.
    """
    input_ids = _inputs(model, tokenizer, prompt, max_new_tokens)["input_ids"]  # (1, position)
    ends, cache = _ends(model), None
    new: list[int] = []
    with _evaluating(model):
        while len(new) < max_new_tokens:
            outputs = model(input_ids, past_key_values=cache, use_cache=use_cache)
            cache = _cache(outputs, use_cache)
            logits = outputs.logits[0, -1].float()  # (vocabulary,)
            token = _id(choose(logits), len(logits))
            new.append(token)
            if token in ends:
                break
            last = input_ids.new_tensor([[token]])  # (1, 1)
            input_ids = last if use_cache else torch.cat([input_ids, last], dim=1)
    return torch.tensor(new)


def trace(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    k: int = 3,
    seed: int | None = None,
    **generate: Any,
) -> pandas.DataFrame:
    """What `model.generate` chose at every step, and what it could have chosen instead.

    As coloured text with the runners-up on hover:

        table = llmlab.generation.trace(model, tokenizer, prompt)
        llmlab.views.tokens(table["token"], table["probability"], notes=table["runners_up"])

    Args:
        prompt: the text so far.
        k: how many runners-up.
        seed: where the random numbers start, for this call only; None: they go on.
        **generate: what `model.generate` takes: max_new_tokens (20 by default), do_sample,
            temperature, top_k, stop_strings, … One sequence, no beams.

    Returns:
        A row a new token: `token`, `id`, its `probability` for the model itself, its `rank` by
        that (1: the likeliest), its `chance` under the settings (after temperature, top-k, … with
        do_sample; 1 where nothing is left to chance), and `runners_up`: the other likeliest
        tokens with the model's probabilities, as text.

    Raises:
        LabError: as for `next_tokens`; prompt and new tokens don't fit into the context; `generate`
            refuses a setting; beams or several sequences are asked for.
    """
    for name in ("num_beams", "num_return_sequences"):
        if generate.get(name) not in (None, 1):
            raise LabError(
                f"trace follows one sequence, chosen token by token. Leave {name}= out: several "
                "sequences (or beams) are several stories."
            )
    inputs = _inputs(model, tokenizer, prompt, generate.setdefault("max_new_tokens", 20))
    wanted = {"return_dict_in_generate": True, "output_logits": True, "output_scores": True}
    outputs = run_generate(model, tokenizer, inputs, seed, generate | wanted)
    ids = outputs.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    sampled = generate.get("do_sample", getattr(model.generation_config, "do_sample", False))
    rows = []
    for token, logits, scores in zip(ids, outputs.logits, outputs.scores, strict=True):
        probs = logits[0].float().softmax(-1)
        best = [i for i in probs.topk(min(k + 1, len(probs))).indices.tolist() if i != token][:k]
        others = ", ".join(f"{_shown(tokenizer, i)} {probs[i]:.2f}" for i in best)
        chance = scores[0].float().softmax(-1)[token].item() if sampled else 1.0
        rank = int((probs > probs[token]).sum()) + 1
        row = (text_of(tokenizer, token), token, probs[token].item(), rank, chance, others)
        rows.append(row)
    return pandas.DataFrame(
        rows, columns=["token", "id", "probability", "rank", "chance", "runners_up"]
    )


# ---- a given text -------------------------------------------------------------------------------


def surprise(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    window: int | None = None,
    stride: int | None = None,
) -> pandas.DataFrame:
    """How little the model expected each token of a text: −ln of its probability, in nats.

    0: it was certain; 0.69 (ln 2): it held it as likely as not; divided by 0.69 it is in bits.
    Psycholinguists call it surprisal (Hale 2001, A probabilistic Earley parser as a
    psycholinguistic model). Its mean is the model's loss, and exp(mean) is the perplexity.

        table = llmlab.generation.surprise(model, tokenizer, text)
        llmlab.views.tokens(table["token"], table["surprise"])

    Args:
        text: at least two tokens.
        window, stride: as for `perplexity`.

    Returns:
        A row a token: `token`, `id`, `surprise` in nats. The first is nan: nothing stands before
        it that could predict it.

    Raises:
        LabError: as for `perplexity`.
    """
    ids = _inputs(model, tokenizer, text, limited=False)["input_ids"]
    nats = _nats(model, ids, 1, window, stride)
    listed = ids[0].tolist()
    tokens = [text_of(tokenizer, i) for i in listed]
    return pandas.DataFrame(
        {"token": tokens, "id": listed, "surprise": [float("nan"), *nats.tolist()]}
    )


def perplexity(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    prompt: str = "",
    window: int | None = None,
    stride: int | None = None,
) -> float:
    """How many tokens the model hesitates between, on average: exp of the mean surprise.

    1: it knew every token; the size of the vocabulary: it guessed blindly. (Jelinek et al. 1977,
    Perplexity: a measure of the difficulty of speech recognition tasks.) Compare models by it
    only where they cut the text into the same tokens.

    A text longer than `window` is read in windows that overlap: each moves on by `stride` tokens
    and counts only its new ones, so that (after the first window) every token is predicted from at
    least window − stride tokens before it. Other windows give another figure: name them with it.

    Args:
        text: what is measured: with `prompt` all of its tokens, without all but the first.
        prompt: what stands before it. It is read, not counted.
        window: tokens read at once; by default 1024, or the model's context if that is shorter.
        stride: by default half a window.

    Returns:
        The perplexity, at least 1.

    Raises:
        LabError: the model is not causal, the text is empty or has no token that anything
            predicts, the tokenizer belongs to another model, or window and stride are impossible.
    """
    parts = [_inputs(model, tokenizer, prompt or text, limited=False)["input_ids"]]
    start = 1
    if prompt:
        start = parts[0].shape[1]
        rest = _inputs(model, tokenizer, text, limited=False, add_special_tokens=False)
        parts.append(rest["input_ids"])
    nats = _nats(model, torch.cat(parts, dim=1), start, window, stride)
    return nats.mean().exp().item()


def _nats(
    model: PreTrainedModel,
    ids: Int[Tensor, "1 position"],
    start: int,
    window: int | None,
    stride: int | None,
) -> Float[Tensor, "counted"]:
    """−ln p of each token from position `start` on, given those before it. float64."""
    context = context_length(model) or WINDOW
    window = min(WINDOW, context) if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not isinstance(window, int) or not 2 <= window <= max(context, 2):
        raise LabError(
            f"window is how many tokens the model reads at once, from 2 to {context:,} for this "
            f"model; it was {window}."
        )
    if not isinstance(stride, int) or not 1 <= stride < window:
        raise LabError(
            f"stride is how far the window moves, from 1 to {window - 1} (a token less than the "
            f"window, so that windows overlap); it was {stride}."
        )
    length = ids.shape[1]
    if length <= start:
        raise LabError(
            "This text is a single token, and a token is predicted from those before it. Give a "
            "longer text, or a prompt= that stands before it."
        )
    nats = []
    done = start
    with _evaluating(model):
        for begin in range(0, length, stride):
            end = min(begin + window, length)
            if end > done:
                logits = model(input_ids=ids[:, begin:end], return_dict=True).logits[0]
                # a few positions at a time: a vocabulary wide, a second copy would be large
                for first in range(done, end, 64):
                    some = slice(first - begin - 1, min(first + 64, end) - begin - 1)
                    right = ids[0, first : min(first + 64, end)]
                    nats.append(cross_entropy(logits[some].double(), right, reduction="none"))
                done = end
            if end == length:
                break
    counted = torch.cat(nats).cpu()
    if counted.isnan().any():
        raise LabError(
            "The model's logits hold NaN, so there are no probabilities. Were its weights loaded "
            "as float16 on a CPU? Load it with dtype=torch.float32."
        )
    return counted


# ---- choosing: filters on logits ----------------------------------------------------------------
# Logits are (…, vocabulary); what a filter cuts becomes -inf, so its probability becomes 0.


def apply_temperature(
    logits: Float[Tensor, "... vocabulary"], temperature: float
) -> Float[Tensor, "... vocabulary"]:
    """Sharpen (below 1) or flatten (above 1): logits / temperature.

    (Ackley, Hinton and Sejnowski 1985, A learning algorithm for Boltzmann machines.) The same as
    transformers' `TemperatureLogitsWarper`.

    Raises:
        LabError: the temperature is not above 0, or so near 0 that the logits overflow; no logits.

    >>> apply_temperature(torch.tensor([1.0, 2.0]), 0.5)
    tensor([2., 4.])
    """
    _checked(logits)
    if not temperature > 0:
        raise LabError(
            f"A temperature is above 0, and {temperature} is not. At 0 the likeliest token always "
            "wins: take logits.argmax(-1), or generate(do_sample=False)."
        )
    scaled = logits / temperature
    if bool((scaled.isinf() & ~logits.isinf()).any()):
        raise LabError(
            f"Divided by {temperature}, these logits are too large for {logits.dtype}. So near 0 "
            "only the likeliest token is left: take logits.argmax(-1)."
        )
    return scaled


def keep_top_k(logits: Float[Tensor, "... vocabulary"], k: int) -> Float[Tensor, "... vocabulary"]:
    """Cut all but the k highest logits (those equal to the k-th stay too).

    0 cuts nothing, as in `generate`; nor does a k beyond the vocabulary. (Fan, Lewis and Dauphin
    2018, Hierarchical neural story generation.) The same as transformers' `TopKLogitsWarper`.

    Raises:
        LabError: k is no whole number from 0 on; no logits.

    >>> keep_top_k(torch.tensor([1.0, 3.0, 2.0]), 2)
    tensor([-inf, 3., 2.])
    """
    _checked(logits)
    if not isinstance(k, int) or k < 0:
        raise LabError(f"top_k is a whole number: how many tokens stay, 0 for all. It was {k!r}.")
    if k == 0:
        return logits
    least = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < least, -math.inf)


def keep_top_p(
    logits: Float[Tensor, "... vocabulary"], p: float
) -> Float[Tensor, "... vocabulary"]:
    """Nucleus sampling: keep the fewest of the likeliest tokens that together have probability p.

    At 0 only the likeliest stays. (Holtzman et al. 2020, The curious case of neural text
    degeneration.) The same as transformers' `TopPLogitsWarper`.

    Raises:
        LabError: p is no share from 0 to 1; no logits.

    >>> keep_top_p(torch.tensor([0.2, 0.5, 0.3]).log(), 0.7).exp()
    tensor([0.0000, 0.5000, 0.3000])
    """
    _checked(logits)
    _share("top_p", p)
    ordered, order = logits.sort(descending=False)  # the rarest first
    cut = ordered.softmax(-1).cumsum(-1) <= 1 - p
    cut[..., -1] = False  # one must stay
    return logits.masked_fill(cut.scatter(-1, order, cut), -math.inf)


def keep_min_p(
    logits: Float[Tensor, "... vocabulary"], p: float
) -> Float[Tensor, "... vocabulary"]:
    """Keep tokens with at least p times the probability of the likeliest.

    (Nguyen et al. 2024, Turning up the heat: min-p sampling for creative and coherent LLM
    outputs.) The same as transformers' `MinPLogitsWarper`.

    Raises:
        LabError: p is no share from 0 to 1; no logits.

    >>> keep_min_p(torch.tensor([0.1, 0.6, 0.3]).log(), 0.4).exp()
    tensor([0.0000, 0.6000, 0.3000])
    """
    _checked(logits)
    _share("min_p", p)
    probs = logits.softmax(-1)
    return logits.masked_fill(probs < p * probs.amax(-1, keepdim=True), -math.inf)


def penalize_repetition(
    logits: Float[Tensor, "... vocabulary"], input_ids: Int[Tensor, "... position"], penalty: float
) -> Float[Tensor, "... vocabulary"]:
    """Make tokens that stand in the text already less likely: once each, however often they do.

    A logit above 0 is divided by the penalty, one below 0 multiplied: both go down. 1 changes
    nothing. (Keskar et al. 2019, CTRL.) The same as `RepetitionPenaltyLogitsProcessor`.

    Raises:
        LabError: the penalty is not above 0; ids beyond the vocabulary; no logits.

    >>> penalize_repetition(torch.tensor([2.0, -1.0, 3.0]), torch.tensor([0, 1, 0]), 2.0)
    tensor([ 1., -2.,  3.])
    """
    _checked(logits)
    if not penalty > 0:
        raise LabError(f"A repetition penalty is above 0 (1 changes nothing); it was {penalty}.")
    if input_ids.numel() and int(input_ids.max()) >= logits.shape[-1]:
        raise LabError(
            f"There is an id {int(input_ids.max())} in the text, but only {logits.shape[-1]} "
            "logits. Do both come from the same model?"
        )
    seen = logits.gather(-1, input_ids)
    seen = torch.where(seen < 0, seen * penalty, seen / penalty)
    return logits.scatter(-1, input_ids, seen)


def filtered(
    logits: Float[Tensor, "... vocabulary"],
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> Float[Tensor, "... vocabulary"]:
    """The logits that `generate(do_sample=True)` makes of these: its filters, in its order.

    Temperature, top-k, top-p, min-p: each works on what the one before has left.

    Raises:
        LabError: as for the filters.
    """
    logits = keep_top_k(apply_temperature(logits, temperature), top_k)
    _share("top_p", top_p)
    return keep_min_p(keep_top_p(logits, top_p) if top_p < 1 else logits, min_p)


def probabilities(
    logits: Float[Tensor, "... vocabulary"], **settings: Any
) -> Float[Tensor, "... vocabulary"]:
    """What `generate(do_sample=True)` draws from: softmax of the `filtered` logits.

    Args:
        logits: as the model returns them.
        **settings: temperature, top_k, top_p, min_p, as for `filtered`.

    Raises:
        LabError: as for the filters.

    >>> logits = torch.tensor([4.0, 2.0, 1.0, 0.5]).log()
    >>> probabilities(logits, temperature=0.5, top_k=3, min_p=0.2)  # 16 : 4 : 1, the last cut
    tensor([0.8000, 0.2000, 0.0000, 0.0000])
    """
    return filtered(logits, **settings).softmax(-1)


# ---- what came out ------------------------------------------------------------------------------


def compare(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    settings: Mapping[str, Mapping[str, Any]],
    *,
    judge: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None,
    samples: int = 1,
    seed: int = 0,
) -> pandas.DataFrame:
    """The same prompt under several settings of `generate`, with figures beside each text.

    A row a text, so that you see how much texts of one setting differ:

        table = llmlab.generation.compare(model, tokenizer, prompt, settings, samples=8)
        table.groupby("setting", sort=False)["distinct_2"].agg(["min", "mean", "max"])

    Several models: `pandas.concat({"one": compare(…), "other": compare(…)})`, with one judge.

    Args:
        prompt: the text so far.
        settings: a name for each, and what it gives `generate`:
            `{"greedy": {}, "hot": {"do_sample": True, "temperature": 1.5}}`. 40 new tokens
            unless max_new_tokens says otherwise; no sampling unless do_sample does.
        judge: model and tokenizer that measure the perplexity; by default those that wrote.
        samples: how many continuations of each setting that samples.
        seed: where the random numbers start for every setting.

    Returns:
        A row a continuation, index `setting` and `sample` (from 1): `text` (without the prompt),
        `distinct_1` and `distinct_2` (see `distinct`), `repetition` (see `repetition`),
        `perplexity` of the continuation after the prompt under the judge: low is what it expects.
        nan where nothing was written.

    Raises:
        LabError: as for `trace`.
    """
    if not isinstance(settings, Mapping) or not settings:
        raise LabError(
            "settings is a dictionary: a name for each row and its arguments for generate, such as "
            '{"greedy": {}, "hot": {"do_sample": True, "temperature": 1.5}}.'
        )
    if not isinstance(samples, int) or samples < 1:
        raise LabError(f"samples is a whole number from 1 on, not {samples!r}.")
    rows = {}
    for name, own in settings.items():
        generate = {"max_new_tokens": 40, "do_sample": False} | dict(own)
        inputs = _inputs(model, tokenizer, prompt, generate["max_new_tokens"])
        if generate["do_sample"]:
            generate.setdefault("num_return_sequences", samples)
        ids = run_generate(model, tokenizer, inputs, seed, generate)
        new = ids[:, inputs["input_ids"].shape[1] :]
        for sample, text in enumerate(tokenizer.batch_decode(new, skip_special_tokens=True), 1):
            rows[name, sample] = _figures(text, prompt, *(judge or (model, tokenizer)))
    index = pandas.MultiIndex.from_tuples(rows, names=["setting", "sample"])
    return pandas.DataFrame(list(rows.values()), index=index)


def _figures(
    text: str, prompt: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """The row of one text."""
    written = bool(_words(text))
    return {
        "text": text,
        "distinct_1": distinct(text, 1) if written else math.nan,
        "distinct_2": distinct(text, 2) if written else math.nan,
        "repetition": repetition(text) if written else math.nan,
        "perplexity": perplexity(model, tokenizer, text, prompt=prompt) if text else math.nan,
    }


def distinct(texts: str | Iterable[str], n: int = 1) -> float:
    """Diversity: how many different n-grams of words there are, as a share of all words.

    Li et al. 2016 (A diversity-promoting objective function for neural conversation models) call
    it distinct-n. Words and signs are counted, not tokens, and case is not: so models with
    different tokenizers compare. Longer texts repeat more: compare equal lengths.

    Args:
        texts: one text or several, which count together.
        n: words in a row that make one n-gram.

    Returns:
        From near 0 (always the same) to 1 (no word twice).

    Raises:
        LabError: no words, or n below 1.

    >>> distinct("the cat and the dog")  # the, cat, and, dog
    0.8
    """
    grams = [_grams(text, n) for text in _listed(texts)]
    words = sum(len(_words(text)) for text in _listed(texts))
    if not words:
        raise LabError("There are no words in this text, so nothing to count.")
    return len({gram for some in grams for gram in some}) / words


def repetition(texts: str | Iterable[str], n: int = 4) -> float:
    """The share of n-grams of words that have stood in the same text before.

    Welleck et al. 2020 (Neural text generation with unlikelihood training) call it seq-rep-n.

    Args:
        texts: one text or several; of several the mean.
        n: words in a row that make one n-gram.

    Returns:
        From 0 (never the same n words again) to near 1 (a loop); 0 for a text of fewer words.

    Raises:
        LabError: no texts, or n below 1.

    >>> repetition("I know, I know, I know")  # 8 words: 5 n-grams, 3 of them different
    0.4
    """
    shares = []
    for text in _listed(texts):
        grams = _grams(text, n)
        shares.append(1 - len(set(grams)) / len(grams) if grams else 0.0)
    if not shares:
        raise LabError("There are no texts here.")
    return sum(shares) / len(shares)


def _listed(texts: str | Iterable[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    if not isinstance(n, int) or n < 1:
        raise LabError(f"n is a whole number from 1 on: words in a row. It was {n!r}.")
    words = _words(text)
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


# ---- model and tokenizer ------------------------------------------------------------------------


def text_of(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str:
    """The text of one token, with its leading space.

    A part of a character (of bytes that mean nothing alone) is shown as the vocabulary writes it;
    an id that the tokenizer does not know as ⟨id 7⟩.
    """
    written = tokenizer.convert_ids_to_tokens(token_id) if token_id < len(tokenizer) else None
    if written is None:  # models have spare rows
        return f"⟨id {token_id}⟩"
    text = tokenizer.decode([token_id])
    if "\N{REPLACEMENT CHARACTER}" in text or (not text and written):
        return written
    if written.startswith("▁") and not text.startswith(" "):  # SentencePiece's space
        return " " + text
    return text


def _shown(tokenizer: PreTrainedTokenizerBase, token_id: int) -> str:
    """The text of a token with a sign for a space: for lists in which it would get lost."""
    return text_of(tokenizer, token_id).replace(" ", "␣").replace("\n", "⏎")


def _inputs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    new: int = 0,
    *,
    limited: bool = True,
    **options: Any,
) -> BatchEncoding:
    """The text as tensors of shape (1, position) on the model's device.

    Raises:
        LabError: the model is not causal, or the text can't be read by it.
    """
    require_causal(model)
    if not isinstance(text, str):
        raise LabError(
            f"One text was expected, and this is a {type(text).__name__}. Of several take them in "
            "turn: for text in texts."
        )
    if not isinstance(new, int) or isinstance(new, bool) or new < 0:
        raise LabError(f"max_new_tokens is a whole number from 1 on, not {new!r}.")
    if not callable(tokenizer):
        raise LabError(
            f"A tokenizer was expected, not {tokenizer!r:.60}. Load the one of the same model: "
            "AutoTokenizer.from_pretrained(…)."
        )
    encoded = tokenizer(text, return_tensors="pt", verbose=False, **options)
    ids = encoded["input_ids"].long()
    if not text or not ids.shape[1]:
        raise LabError(
            "This text is empty, and the model needs at least one token to go on from. Give it a "
            "word, or the token that stands at a text's start: tokenizer.bos_token."
        )
    size = model.get_input_embeddings().weight.shape[0]
    if int(ids.max()) >= size:
        raise LabError(
            f"The tokenizer made an id {int(ids.max())}, and this model knows ids up to "
            f"{size - 1}. Load model and tokenizer from the same name."
        )
    context = context_length(model)
    if limited and context and ids.shape[1] + new > context:
        more = f" and {new} new ones" if new else ""
        raise LabError(
            f"The text has {ids.shape[1]} tokens{more}; this model's context holds {context}. "
            "Shorten the text, or keep its end: tokenizer(text).input_ids[-n:]."
        )
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return BatchEncoding(inputs).to(input_device(model))


def require_causal(model: Any) -> None:
    """Raise LabError unless the model predicts the next token from those before it."""
    name = type(model).__name__
    load = "Load one with AutoModelForCausalLM.from_pretrained(…)."
    if not hasattr(model, "config"):
        raise LabError(f"A model was expected, not {model!r:.60}. {load}")
    if not hasattr(model, "generate"):
        raise LabError(f"{name} predicts no next token. {load}")
    config = model.config
    if config.is_encoder_decoder:
        raise LabError(
            f"{name} is an encoder–decoder: it reads one text and writes another. Here a model is "
            "needed that goes on with a text: AutoModelForCausalLM, for example smollm2-135m."
        )
    # BERT and its kin load as causal models too, but each token sees those after it
    both_ways = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(
        config, "is_decoder", False
    )
    if both_ways or not model.can_generate():
        raise LabError(
            f"{name} does not predict a next token"
            f"{': its tokens see those that come after' if both_ways else ''}. Load a causal model "
            "with AutoModelForCausalLM, for example smollm2-135m."
        )


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Dropout off and no gradients; afterwards each part is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Random numbers from a seed for a `with` block; afterwards they go on as if nothing was."""
    if seed is None:
        yield
        return
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise LabError(f"A seed is a whole number from 0 on, not {seed!r}.")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def run_generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    inputs: BatchEncoding,
    seed: int | None,
    settings: dict[str, Any],
) -> Any:
    """`model.generate` with dropout off, from a seed; what it refuses is said in one sentence.

    Raises:
        LabError: settings that it refuses; NaN where probabilities should be.
    """
    if "stop_strings" in settings:
        settings = {"tokenizer": tokenizer} | settings
    if model.generation_config.pad_token_id is None:  # else generate warns
        fill = tokenizer.pad_token_id
        settings = {"pad_token_id": tokenizer.eos_token_id if fill is None else fill} | settings
    try:
        with _evaluating(model), _seeded(seed):
            return model.generate(**inputs, **settings)
    except (ValueError, TypeError) as error:
        raise LabError(f"generate refuses these settings: {' '.join(str(error).split())}") from None
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        raise LabError(
            "There are no probabilities to draw from: the logits hold NaN or overflow. Is the "
            "temperature too near 0? Else load the model with dtype=torch.float32."
        ) from None


def input_device(model: PreTrainedModel) -> torch.device:
    """Where a model wants its inputs, also one that accelerate has spread over devices and disk."""
    spread = getattr(getattr(model, "_hf_hook", None), "execution_device", None)
    return model.device if spread is None else torch.device(spread)


def context_length(model: PreTrainedModel) -> int | None:
    """How many tokens the model has positions for, if it says so."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def _ends(model: PreTrainedModel) -> list[int]:
    """The ids at which `generate` stops."""
    ends = model.generation_config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def _cache(outputs: Any, wanted: bool) -> Any:
    """The cache for the next step."""
    cache = outputs.get("past_key_values") if wanted else None
    if wanted and cache is None:
        raise LabError(
            "This model keeps no keys and values (past_key_values). Use use_cache=False: then each "
            "step reads the whole text again."
        )
    return cache


def _id(choice: Any, size: int) -> int:
    """What `choose` returned, as an id."""
    try:
        token = int(choice)
    except (TypeError, ValueError, RuntimeError):
        raise LabError(
            f"choose must return one id, such as logits.argmax(); it returned {choice!r:.60}."
        ) from None
    if not 0 <= token < size:
        raise LabError(f"choose returned {token}; ids go from 0 to {size - 1}.")
    return token


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise LabError(f"{name} is a share, from 0 to 1; it was {value}.")


def _checked(logits: Any) -> None:
    """That there is something to choose from.

    Raises:
        LabError: no tensor of floats, NaN, +inf, or nothing but -inf.
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or not logits.ndim:
        what = f"a tensor of {logits.dtype}" if isinstance(logits, Tensor) else f"{logits!r:.60}"
        raise LabError(
            "Logits are floats of shape (…, vocabulary), such as outputs.logits[0, -1], "
            f"and this is {what}."
        )
    most = logits.amax(-1)  # NaN wins over every number
    if bool(most.isnan().any()):
        raise LabError(
            "These logits hold NaN (not a number): no probabilities can be made of them. Was the "
            "model run in float16 on a CPU, or was something divided by 0?"
        )
    if bool((most == math.inf).any()):
        raise LabError("These logits hold +inf: no probabilities can be made of them.")
    if bool((most == -math.inf).any()):
        raise LabError("All of these logits are -inf: every token was cut, so none is left.")

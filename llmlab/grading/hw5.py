"""The parts of homework 5: top-k, top-p, a step of sampling, when to stop, what to cut off."""

import random
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from llmlab.checks import Exercise
from llmlab.grading.assignment import Assignment, Part

_Row = Float[Tensor, "vocabulary"]


def _generator(rng: random.Random) -> torch.Generator:
    """torch's random numbers, started from the check's."""
    return torch.Generator().manual_seed(rng.randrange(2**31))


def _logits(rng: random.Random, size: int) -> Tensor:
    """Logits in any order, above and below 0, none close to another."""
    order = torch.randperm(size, generator=_generator(rng))
    return 0.6 * (order - size / 2) + 0.3 * torch.rand(size, generator=_generator(rng))


def _between(sums: list[float], rng: random.Random, last: int) -> float:
    """A p in the middle of a step of a running sum, so that rounding decides nothing."""
    step = rng.randrange(1, last)
    return (sums[step - 1] + sums[step]) / 2


# ---- hw5.1 top-k ---------------------------------------------------------------------------------


def _k_inputs(rng: random.Random) -> tuple[Tensor, int]:
    size = rng.randrange(8, 14)
    return _logits(rng, size), rng.randrange(2, size - 2)


def _top_k(logits: _Row, k: int) -> _Row:
    return logits.masked_fill(logits < logits.topk(k).values[-1], -torch.inf)


def _top_k_values(logits: _Row, k: int) -> Tensor:
    return logits.topk(k).values


def _top_k_ids(logits: _Row, k: int) -> Tensor:
    return logits.topk(k).indices


def _top_k_zero(logits: _Row, k: int) -> _Row:
    return logits.masked_fill(logits < logits.topk(k).values[-1], 0.0)


def _top_k_lowest(logits: _Row, k: int) -> _Row:
    return logits.masked_fill(logits > (-logits).topk(k).values[-1].neg(), -torch.inf)


def _top_k_cut(logits: _Row, k: int) -> _Row:
    return logits.masked_fill(logits >= logits.topk(k).values[-1], -torch.inf)


def _top_k_one_less(logits: _Row, k: int) -> _Row:
    return _top_k(logits, k - 1)


def _top_k_one_more(logits: _Row, k: int) -> _Row:
    return _top_k(logits, k + 1)


def _top_k_probs(logits: _Row, k: int) -> _Row:
    return _top_k(logits, k).softmax(-1)


def _top_k_sorted(logits: _Row, k: int) -> _Row:
    return _top_k(logits.sort(descending=True).values, k)


# ---- hw5.2 top-p ---------------------------------------------------------------------------------


def _p_inputs(rng: random.Random) -> tuple[Tensor, float]:
    size = rng.randrange(8, 14)
    logits = _logits(rng, size)
    sums = logits.softmax(-1).sort(descending=True).values.cumsum(0).tolist()
    return logits, _between(sums, rng, size // 2)


def _nucleus(logits: _Row, p: float, *, most: bool = True, more: int = 0) -> _Row:
    """`most`: the likeliest first; `more`: so many beyond the one that crosses p."""
    probs, order = logits.softmax(-1).sort(descending=most)
    kept = int((probs.cumsum(-1) < p).sum()) + 1 + more
    return logits.index_fill(0, order[kept:], -torch.inf)


def _top_p_zero(logits: _Row, p: float) -> _Row:
    return _nucleus(logits, p).nan_to_num(neginf=0.0)


def _top_p_unsorted(logits: _Row, p: float) -> _Row:
    kept = int((logits.softmax(-1).cumsum(-1) < p).sum()) + 1
    return logits.index_fill(0, torch.arange(kept, len(logits)), -torch.inf)


def _top_p_each(logits: _Row, p: float) -> _Row:
    return logits.masked_fill(logits.softmax(-1) < p, -torch.inf)


def _top_p_min_p(logits: _Row, p: float) -> _Row:
    probs = logits.softmax(-1)
    return logits.masked_fill(probs < p * probs.max(), -torch.inf)


def _top_p_sorted(logits: _Row, p: float) -> _Row:
    return _nucleus(logits.sort(descending=True).values, p)


def _top_p_probs(logits: _Row, p: float) -> _Row:
    return _nucleus(logits, p).softmax(-1)


def _top_p_cut(logits: _Row, p: float) -> _Row:
    kept = _nucleus(logits, p).isfinite()
    return logits.masked_fill(kept, -torch.inf)


# ---- hw5.3 one step ------------------------------------------------------------------------------


def _step_inputs(rng: random.Random) -> tuple[Tensor, float, int, float]:
    """In half of them the k likeliest together stay below p, so that the order of cuts shows."""
    wanted = rng.random() < 0.5
    while True:
        size = rng.randrange(9, 14)
        logits, temperature = _logits(rng, size), rng.choice([0.5, 0.7, 1.5, 2.0])
        k = rng.randrange(4, size - 2)
        left = _top_k(logits / temperature, k).softmax(-1)
        p = _between(left.sort(descending=True).values.cumsum(0).tolist(), rng, k - 1)
        if (float((logits / temperature).softmax(-1).topk(k).values.sum()) < p) == wanted:
            return logits, temperature, k, p


def _step(logits: _Row, temperature: float, k: int, p: float) -> _Row:
    return _nucleus(_top_k(logits / temperature, k), p).softmax(-1)


def _step_times(logits: _Row, temperature: float, k: int, p: float) -> _Row:
    return _step(logits, 1 / temperature, k, p)


def _step_cold(logits: _Row, temperature: float, k: int, p: float) -> _Row:
    return _step(logits, 1.0, k, p)


def _step_late(logits: _Row, temperature: float, k: int, p: float) -> _Row:
    return (_nucleus(_top_k(logits, k), p) / temperature).softmax(-1)


def _step_p_first(logits: _Row, temperature: float, k: int, p: float) -> _Row:
    return _top_k(_nucleus(logits / temperature, p), k).softmax(-1)


def _step_short(logits: _Row, temperature: float, k: int, p: float) -> _Row:
    return _nucleus(_top_k(logits / temperature, k), p, more=-1).softmax(-1)


def _step_no_k(logits: _Row, temperature: float, k: int, p: float) -> _Row:
    return _nucleus(logits / temperature, p).softmax(-1)


def _step_no_p(logits: _Row, temperature: float, k: int, p: float) -> _Row:
    return _top_k(logits / temperature, k).softmax(-1)


def _step_logits(logits: _Row, temperature: float, k: int, p: float) -> _Row:
    return _nucleus(_top_k(logits / temperature, k), p)


def _step_unshared(logits: _Row, temperature: float, k: int, p: float) -> _Row:
    kept = _step_logits(logits, temperature, k, p).isfinite()
    return (logits / temperature).softmax(-1) * kept


def _step_drawn(logits: _Row, temperature: float, k: int, p: float) -> Tensor:
    return _step(logits, temperature, k, p).argmax()


# ---- hw5.4 when to stop --------------------------------------------------------------------------

_Texts = list[list[int]]


def _texts(rng: random.Random) -> tuple[list[list[int]], int, int, int]:
    """Seven texts, one of each kind that an end can have or lack, in any order."""
    prompt, most, end = rng.randrange(3, 6), rng.randrange(5, 9), rng.randrange(50, 90)
    start = prompt + rng.randrange(2, most - 2)

    def words(count: int) -> list[int]:
        return [rng.randrange(1, 49) for _ in range(count)]

    unfinished, ended, padded, asked = (words(start) for _ in range(4))
    ended[-1] = end  # the end token is the last
    padded[-2:] = [end, 0]  # the end token has filler after it
    asked[1] = end  # it stands in the prompt alone
    long = [words(prompt + most + more) for more in (-1, 0, 1)]
    texts = [unfinished, ended, padded, asked, *long]
    return rng.sample(texts, len(texts)), prompt, end, most


def _stop(texts: _Texts, prompt: int, end: int, most: int) -> list[bool]:
    return [end in t[prompt:] or len(t) - prompt >= most for t in texts]


def _stop_prompt(texts: _Texts, prompt: int, end: int, most: int) -> list[bool]:
    return [end in t or len(t) - prompt >= most for t in texts]


def _stop_last(texts: _Texts, prompt: int, end: int, most: int) -> list[bool]:
    return [t[-1] == end or len(t) - prompt >= most for t in texts]


def _stop_end_only(texts: _Texts, prompt: int, end: int, most: int) -> list[bool]:
    return [end in t[prompt:] for t in texts]


def _stop_length_only(texts: _Texts, prompt: int, end: int, most: int) -> list[bool]:
    return [len(t) - prompt >= most for t in texts]


def _stop_whole(texts: _Texts, prompt: int, end: int, most: int) -> list[bool]:
    return [end in t[prompt:] or len(t) >= most for t in texts]


def _stop_shifted(texts: _Texts, prompt: int, end: int, most: int, by: int) -> list[bool]:
    return [end in t[prompt:] or len(t) - prompt >= most + by for t in texts]


def _stop_both(texts: _Texts, prompt: int, end: int, most: int) -> list[bool]:
    return [end in t[prompt:] and len(t) - prompt >= most for t in texts]


def _stop_inverted(texts: _Texts, prompt: int, end: int, most: int) -> list[bool]:
    return [not done for done in _stop(texts, prompt, end, most)]


def _stop_one(texts: _Texts, prompt: int, end: int, most: int) -> bool:
    return all(_stop(texts, prompt, end, most))


def _stop_any(texts: _Texts, prompt: int, end: int, most: int) -> bool:
    return any(_stop(texts, prompt, end, most))


# ---- hw5.5 what to cut off -----------------------------------------------------------------------

_Ids = list[int]


def _cut_inputs(rng: random.Random) -> tuple[list[int], list[list[int]]]:
    """New ids in which two stop sequences stand, the second of the list first, and it again.

    One time in four none stands there.
    """
    plain = [rng.randrange(100, 200) for _ in range(rng.randrange(12, 18))]
    first, second = ([rng.randrange(lo, lo + 40) for _ in range(3)] for lo in (1, 50))
    a = rng.randrange(3, 5)
    ids = [*plain[:a], *second, *plain[a : a + 3], *first, *plain[a + 3 :], *second, plain[0]]
    if rng.random() < 0.25:
        ids = plain
    ids.insert(1, second[0])  # one token of a sequence is not the sequence
    return ids, [first, second]


def _places(ids: _Ids, sequences: list[_Ids]) -> list[tuple[int, int]]:
    """Where which sequence begins, in the order of the ids."""
    return [
        (place, number)
        for place in range(len(ids))
        for number, sequence in enumerate(sequences)
        if ids[place : place + len(sequence)] == sequence
    ]


def _cut(ids: _Ids, sequences: list[_Ids], more: int = 0) -> _Ids:
    places = [place for place, _ in _places(ids, sequences)]
    return ids[: min(places) + more] if places else ids


def _cut_last(ids: _Ids, sequences: list[_Ids]) -> _Ids:
    return ids[: max((place for place, _ in _places(ids, sequences)), default=len(ids))]


def _cut_in_turn(ids: _Ids, sequences: list[_Ids]) -> _Ids:
    return _cut(ids, sequences[:1])


def _cut_any_token(ids: _Ids, sequences: list[_Ids]) -> _Ids:
    stops = {token for sequence in sequences for token in sequence}
    return ids[: next(place for place, token in enumerate(ids) if token in stops)]


def _cut_at_end_only(ids: _Ids, sequences: list[_Ids]) -> _Ids:
    return ids


def _cut_removed(ids: _Ids, sequences: list[_Ids]) -> _Ids:
    gone = {p + n for p, number in _places(ids, sequences) for n in range(len(sequences[number]))}
    return [token for place, token in enumerate(ids) if place not in gone]


def _cut_rest(ids: _Ids, sequences: list[_Ids]) -> _Ids:
    return ids[len(_cut(ids, sequences)) :]


EXERCISES = {
    "hw5.1": Exercise(
        title="keep the k likeliest",
        inputs=_k_inputs,
        reference=_top_k,
        mistakes={
            "you return k logits; nobody can tell any more which tokens they belong to. Keep the "
            "whole vocabulary.": _top_k_values,
            "you return ids; asked are logits, with the cut ones at −∞.": _top_k_ids,
            "a logit of 0 cuts nothing off: e to the power of 0 is 1.": _top_k_zero,
            "the k lowest stay; it should be the k highest.": _top_k_lowest,
            "you cut off the k likeliest: they should stay.": _top_k_cut,
            "one too few stays: the k-th itself belongs to them.": _top_k_one_less,
            "one too many stays.": _top_k_one_more,
            "these are probabilities; asked are logits, softmax comes later.": _top_k_probs,
            "you sorted the logits: each must stay at its token's place.": _top_k_sorted,
        },
    ),
    "hw5.2": Exercise(
        title="keep the nucleus",
        inputs=_p_inputs,
        reference=_nucleus,
        mistakes={
            "one too few: the token with which the sum crosses p stays too.": (
                partial(_nucleus, more=-1)
            ),
            "one too many: once the sum has reached p, nothing more is taken.": (
                partial(_nucleus, more=1)
            ),
            "you begin with the least likely token; the nucleus takes the likeliest first.": (
                partial(_nucleus, most=False)
            ),
            "you add up in the order of the vocabulary; the nucleus takes the likeliest first.": (
                _top_p_unsorted
            ),
            "you compare each probability with p; it is their sum, likeliest first.": _top_p_each,
            "this is min-p: each probability against a share of the largest.": _top_p_min_p,
            "a logit of 0 cuts nothing off: e to the power of 0 is 1.": _top_p_zero,
            "you return them sorted: each logit must stay at its token's place.": _top_p_sorted,
            "these are probabilities; asked are logits, softmax comes later.": _top_p_probs,
            "you cut off the nucleus: it should stay.": _top_p_cut,
        },
    ),
    "hw5.3": Exercise(
        title="the probabilities of one step",
        inputs=_step_inputs,
        reference=_step,
        mistakes={
            "the temperature works the wrong way round: a logit is divided by it.": _step_times,
            "the temperature has no effect: it must act on logits, before softmax.": _step_cold,
            "the temperature comes too late: it decides how many tokens reach p.": _step_late,
            "top-p comes before top-k: it should share out among the k that are left.": (
                _step_p_first
            ),
            "top-k is missing.": _step_no_k,
            "top-p is missing.": _step_no_p,
            "this comes from your top-p: it keeps one token too few.": _step_short,
            "these are logits still: softmax is missing.": _step_logits,
            "your probabilities don't add up to 1: those of the cut tokens are lost. Softmax comes "
            "after the cuts.": _step_unshared,
            "you choose a token; asked is what the dice are thrown with.": _step_drawn,
        },
    ),
    "hw5.4": Exercise(
        title="which texts are finished",
        inputs=_texts,
        reference=_stop,
        mistakes={
            "an end token in the prompt ends nothing: look at the new ids alone.": _stop_prompt,
            "in a batch a finished text gets filler behind its end token: it need not be the "
            "last.": _stop_last,
            "a text that reaches the allowed length must stop too.": _stop_end_only,
            "a text with an end token must stop too, however short.": _stop_length_only,
            "you count the prompt: allowed is a number of new tokens.": _stop_whole,
            "one too late: with as many new tokens as allowed it is finished.": (
                partial(_stop_shifted, by=1)
            ),
            "one too early: the last allowed token may still be written.": (
                partial(_stop_shifted, by=-1)
            ),
            "one reason to stop is enough; yours asks for both.": _stop_both,
            "it is the wrong way round: True is for texts that are finished.": _stop_inverted,
            "one answer for all: asked is True or False for each text.": _stop_one,
            "one answer for all, and one finished text would stop the others.": _stop_any,
        },
    ),
    "hw5.5": Exercise(
        title="cut off at a stop sequence",
        inputs=_cut_inputs,
        reference=_cut,
        mistakes={
            "the stop sequence itself is still there: cut before it.": partial(_cut, more=3),
            "its first token is still there: cut before it.": partial(_cut, more=1),
            "you cut one token too much.": partial(_cut, more=-1),
            "you cut at the last of them; it should be the earliest.": _cut_last,
            "you look for the sequences one after the other and cut at the first that you find; "
            "which of them stands earliest in the text?": _cut_in_turn,
            "one token of a sequence is not the sequence: all of it must stand there.": (
                _cut_any_token
            ),
            "nothing is cut: a stop sequence may stand in the middle.": _cut_at_end_only,
            "you take the sequences out and keep what comes after: the answer has ended.": (
                _cut_removed
            ),
            "you return what is cut off.": _cut_rest,
        },
    ),
}

ASSIGNMENT = Assignment(
    name="hw5",
    notebook="hw5_sampler.ipynb",
    parts=(
        Part("hw5.1", "top_k", 3, EXERCISES["hw5.1"]),
        Part("hw5.2", "top_p", 5, EXERCISES["hw5.2"]),
        Part("hw5.3", "step_probabilities", 4, EXERCISES["hw5.3"]),
        Part("hw5.4", "finished", 4, EXERCISES["hw5.4"]),
        Part("hw5.5", "cut_at", 4, EXERCISES["hw5.5"]),
    ),
)

"""The parts of homework 1: settings, combinations, two figures of texts, what they say."""

import math
import random
import re
from collections.abc import Iterable
from functools import partial
from itertools import combinations, product
from typing import Any

from llmlab.checks import Exercise
from llmlab.checks.rubric import (
    Fact,
    Rubric,
    agrees,
    exercise,
    found,
    mentions,
    passages,
    words,
)
from llmlab.grading.assignment import Assignment, Part

MODELS = ("gpt2-mini", "SmolLM2")


# ---- hw1.1 settings ------------------------------------------------------------------------------


def _settings_inputs(rng: random.Random) -> tuple[float, int]:
    return rng.choice([0.0, 0.0, round(rng.uniform(0.1, 2.0), 2)]), rng.randrange(5, 80)


def _settings(temperature: float, max_new_tokens: int) -> dict[str, Any]:
    if temperature == 0:
        return {"do_sample": False, "max_new_tokens": max_new_tokens}
    return {"do_sample": True, "temperature": temperature, "max_new_tokens": max_new_tokens}


def _settings_always(temperature: float, max_new_tokens: int) -> dict[str, Any]:
    return {"do_sample": True, "temperature": temperature, "max_new_tokens": max_new_tokens}


def _settings_never(temperature: float, max_new_tokens: int) -> dict[str, Any]:
    return _settings(temperature, max_new_tokens) | {"do_sample": False}


def _settings_silent(temperature: float, max_new_tokens: int) -> dict[str, Any]:
    found = _settings(temperature, max_new_tokens)
    return {name: value for name, value in found.items() if name != "do_sample"}


def _settings_cold(temperature: float, max_new_tokens: int) -> dict[str, Any]:
    return _settings(temperature, max_new_tokens) | {"temperature": temperature}


def _settings_small(temperature: float, max_new_tokens: int, least: float) -> dict[str, Any]:
    return _settings_always(max(temperature, least), max_new_tokens)


def _settings_length(temperature: float, max_new_tokens: int) -> dict[str, Any]:
    found = _settings(temperature, max_new_tokens)
    return {"max_length" if n == "max_new_tokens" else n: value for n, value in found.items()}


def _settings_upside_down(temperature: float, max_new_tokens: int) -> dict[str, Any]:
    return _settings(temperature and 1 / temperature, max_new_tokens)


# ---- hw1.2 combinations --------------------------------------------------------------------------


def _axes(rng: random.Random) -> tuple[list[str], list[float], list[int]]:
    """Of each two or three, never all of a number, in any order."""
    names = rng.sample(["gpt2-mini", "SmolLM2", "gpt2", "distilgpt2"], 3)
    heats = [round(rng.uniform(0.1, 2.0), 2) for _ in range(3)]
    sizes = rng.choice([(2, 3, 2), (3, 2, 2), (2, 2, 3)])
    lengths = rng.sample(range(10, 90), 3)
    return names[: sizes[0]], heats[: sizes[1]], lengths[: sizes[2]]


_Triples = list[tuple[str, float, int]]


def _combinations(models: list, temperatures: list, lengths: list) -> _Triples:
    return list(product(models, temperatures, lengths))


def _combinations_zip(models: list, temperatures: list, lengths: list) -> _Triples:
    return list(zip(models, temperatures, lengths, strict=False))


def _combinations_outer(models: list, temperatures: list, lengths: list) -> _Triples:
    return [(m, t, n) for n in lengths for t in temperatures for m in models]


def _combinations_named_late(models: list, temperatures: list, lengths: list) -> list[tuple]:
    return list(product(temperatures, lengths, models))


def _combinations_one_length(models: list, temperatures: list, lengths: list) -> _Triples:
    return list(product(models, temperatures, lengths[:1]))


def _combinations_pairs(models: list, temperatures: list, lengths: list) -> list[tuple]:
    return list(product(models, temperatures))


def _combinations_one_by_one(models: list, temperatures: list, lengths: list) -> _Triples:
    base = (models[0], temperatures[0], lengths[0])
    changed = [(m, *base[1:]) for m in models[1:]]
    changed += [(base[0], t, base[2]) for t in temperatures[1:]]
    return [base, *changed, *((*base[:2], n) for n in lengths[1:])]


def _combinations_nested(models: list, temperatures: list, lengths: list) -> list[list]:
    return [[(m, t, n) for t in temperatures for n in lengths] for m in models]


# ---- hw1.3 diversity -----------------------------------------------------------------------------


def _texts(rng: random.Random) -> tuple[list[str], int]:
    """Texts of few words that share some, with capitals; each longer than n."""
    few = ["the", "sea", "old", "and", "was", "cold", "a", "king"]
    texts = []
    for _ in range(3):
        said = [rng.choice(few) for _ in range(rng.randrange(6, 12))]
        texts.append(" ".join(["The", *said, "Sea", "the", "sea", *said[:3]]))
    return texts, rng.choice([2, 3])


def _grams(text: str, n: int) -> list[tuple[str, ...]]:
    said = text.lower().split()
    return [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]


def _pooled(texts: list[str], n: int) -> list[tuple[str, ...]]:
    return [gram for text in texts for gram in _grams(text, n)]


def _count(texts: list[str]) -> int:
    return sum(len(text.split()) for text in texts)


def _distinct(texts: list[str], n: int) -> float:
    return len(set(_pooled(texts, n))) / _count(texts)


def _distinct_mean(texts: list[str], n: int) -> float:
    return sum(_distinct([text], n) for text in texts) / len(texts)


def _distinct_sum(texts: list[str], n: int) -> float:
    """Different within each text; the same in two texts counts twice."""
    return sum(len(set(_grams(text, n))) for text in texts) / _count(texts)


def _distinct_grams(texts: list[str], n: int) -> float:
    return len(set(_pooled(texts, n))) / len(_pooled(texts, n))


def _distinct_number(texts: list[str], n: int) -> int:
    return len(set(_pooled(texts, n)))


def _distinct_case(texts: list[str], n: int) -> float:
    grams = set()
    for text in texts:
        said = text.split()
        grams |= {tuple(said[i : i + n]) for i in range(len(said) - n + 1)}
    return len(grams) / _count(texts)


def _distinct_words(texts: list[str], n: int) -> float:
    return _distinct(texts, 1)


def _distinct_joined(texts: list[str], n: int) -> float:
    return len(set(_grams(" ".join(texts), n))) / _count(texts)


def _distinct_repeated(texts: list[str], n: int) -> float:
    return 1 - _distinct_grams(texts, n)


def _distinct_blocks(texts: list[str], n: int) -> float:
    blocks = {tuple(text.lower().split()[i : i + n]) for text in texts
              for i in range(0, len(text.split()) - n + 1, n)}  # fmt: skip
    return len(blocks) / _count(texts)


def _distinct_characters(texts: list[str], n: int) -> float:
    grams = {text.lower()[i : i + n] for text in texts for i in range(len(text) - n + 1)}
    return len(grams) / _count(texts)


# ---- hw1.4 perplexity ----------------------------------------------------------------------------


def _log_probs(rng: random.Random) -> tuple[list[list[float]]]:
    """Three texts of very different lengths, log probabilities (nats) of their tokens."""
    lengths = rng.sample([2, 3, 9, 14], 3)
    return ([[math.log(rng.uniform(0.02, 0.9)) for _ in range(n)] for n in lengths],)


def _all(log_probs: list[list[float]]) -> list[float]:
    return [value for text in log_probs for value in text]


def _perplexity(log_probs: list[list[float]], base: float = math.e) -> float:
    values = _all(log_probs)
    return base ** (-sum(values) / len(values))


def _perplexity_mean(log_probs: list[list[float]]) -> float:
    return sum(_perplexity([text]) for text in log_probs) / len(log_probs)


def _perplexity_means(log_probs: list[list[float]]) -> float:
    means = [-sum(text) / len(text) for text in log_probs]
    return math.exp(sum(means) / len(means))


def _perplexity_sign(log_probs: list[list[float]]) -> float:
    return 1 / _perplexity(log_probs)


def _perplexity_log(log_probs: list[list[float]]) -> float:
    return math.log(_perplexity(log_probs))


def _perplexity_sum(log_probs: list[list[float]]) -> float:
    return math.exp(-sum(_all(log_probs)))


def _perplexity_probs(log_probs: list[list[float]]) -> float:
    """1 / the mean probability: an arithmetic mean where a geometric one is asked."""
    values = _all(log_probs)
    return len(values) / sum(map(math.exp, values))


def _perplexity_each(log_probs: list[list[float]]) -> list[float]:
    return [_perplexity([text]) for text in log_probs]


# ---- hw1.5 a text --------------------------------------------------------------------------------

TASK = """\
You advise a friend who wants a story-teller that children like to listen to. What do \
temperature, max_new_tokens and the model do to how readable a text is? Write it down in your own \
words (100 to 600 of them), with figures from your table. State in it:

- the effect of temperature: two rows that differ in nothing else, both temperatures, and both \
perplexities or both diversities;
- the effect of max_new_tokens: two rows that differ in nothing else, both lengths, and both \
diversities or both repetitions;
- the effect of the model: two rows that differ in nothing else, both names, and both perplexities;
- a place from one of your texts, at least four words in quotation marks, that shows what a figure \
means for the reader;
- why the lowest perplexity is not the best text;
- which setting you propose, and what your figures can not show."""

Rows = dict[str, dict[str, Any]]
_AXES = ("model", "temperature", "max_new_tokens")


def _figures(measured: Rows) -> str:
    rows = list(measured.values())
    for row in rows:
        share = 0 <= row["distinct_2"] <= 1 and 0 <= row["repetition"] <= 1
        if not (share and row["perplexity"] >= 1 and "".join(row["texts"]).strip()):
            raise ValueError("such figures no text has")
    used = [{row[axis] for row in rows} for axis in _AXES]
    different = len({tuple(row[axis] for axis in _AXES) for row in rows})
    if different < 4:
        return f"your table has {different} combinations; at least four are asked."
    if not used[0] >= set(MODELS):
        return "your table needs rows of both models, gpt2-mini and SmolLM2."
    if len(used[1]) < 2 or len(used[2]) < 2:
        return "your table needs two temperatures at least, and two lengths."
    return ""


def _pairs(measured: Rows, axis: str) -> Iterable[tuple[dict, dict]]:
    """Rows that differ in nothing but the axis."""
    for one, other in combinations(measured.values(), 2):
        if [name for name in _AXES if one[name] != other[name]] == [axis]:
            yield one, other


def _effect(axis: str, figures: tuple[str, ...], missing: str) -> Fact:
    """One passage names two rows by the axis in which alone they differ, with a figure of both."""

    def named(passage: str, value: Any) -> bool:
        if isinstance(value, str):
            return found(re.escape(value), passage)
        return agrees(passage, value)

    def fact(text: str, measured: Rows) -> str:
        for passage in passages(text):
            for rows in _pairs(measured, axis):
                if not all(named(passage, row[axis]) for row in rows):
                    continue
                for figure in figures:
                    differ = len({row[figure] for row in rows}) > 1
                    if differ and all(agrees(passage, row[figure]) for row in rows):
                        return ""
        return missing

    return fact


def _quotes(text: str, measured: Rows) -> str:
    written = {
        said[i : i + 4]
        for row in measured.values()
        for one in row["texts"]
        for said in [tuple(words(one))]
        for i in range(len(said) - 3)
    }
    for quoted in re.findall(r'"([^"]+)"|“([^”]+)”', text):
        said = tuple(words(max(quoted, key=len)))
        if any(said[i : i + 4] in written for i in range(len(said) - 3)):
            return ""
    return (
        "quote a place from one of the texts in your table: four words or more, in quotation marks."
    )


_RUBRIC = Rubric(
    task=TASK,
    least=100,
    figures=_figures,
    facts=(
        _effect(
            "temperature", ("perplexity", "distinct_2"),
            missing="what does temperature do? Take two rows that differ in it alone, and name "
            "both temperatures and both perplexities (or diversities) in one place.",
        ),
        _effect(
            "max_new_tokens", ("distinct_2", "repetition"),
            missing="what does max_new_tokens do? Take two rows that differ in it alone, and name "
            "both lengths and both diversities (or repetitions) in one place.",
        ),
        _effect(
            "model", ("perplexity",),
            missing="what does the model do? Take two rows that differ in it alone, and name both "
            "models and both perplexities in one place.",
        ),
        _quotes,
        mentions(
            r"\bperplexit(y|ies)\b",
            r"\b(repeat\w*|repetit\w*|loops?|again|dull|boring|bland|predict\w*|expect\w*|safe|judge)\b",
            missing="why is the text of the lowest perplexity not the best? What does it look "
            "like?",
        ),
        mentions(
            r"\b(propose|suggest|recommend|would (use|take|choose|pick|set)|advise|my advice)\b",
            r"\d|gpt2-mini|SmolLM2",
            missing="which setting do you propose?",
        ),
    ),
)  # fmt: skip

EXERCISES = {
    "hw1.1": Exercise(
        title="the arguments for one setting",
        inputs=_settings_inputs,
        reference=_settings,
        mistakes={
            "temperature 0 can't be sampled with: nothing can be divided by 0. Take the likeliest "
            "token then, without sampling.": _settings_always,
            "without do_sample=True the temperature has no effect.": _settings_never,
            "do_sample is missing: whether the model samples is then left to its defaults.": (
                _settings_silent
            ),
            "without sampling there is no temperature: leave it out, or transformers warns.": (
                _settings_cold
            ),
            "a very small temperature is nearly, not exactly, the likeliest token: don't sample "
            "at 0.": partial(_settings_small, least=0.01),
            "max_length counts the prompt too; asked is a number of new tokens.": _settings_length,
            "generate divides by the temperature itself: pass it as it is.": _settings_upside_down,
        },
    ),
    "hw1.2": Exercise(
        title="every combination of three lists",
        inputs=_axes,
        reference=_combinations,
        mistakes={
            "zip takes the first of each, then the second of each; asked is every combination.": (
                _combinations_zip
            ),
            "the order differs: the models change slowest, the lengths fastest.": (
                _combinations_outer
            ),
            "each is (model, temperature, length): yours has another order inside.": (
                _combinations_named_late
            ),
            "you take the first length only.": _combinations_one_length,
            "the lengths are missing: three things are combined.": _combinations_pairs,
            "you change one thing at a time; asked is every combination.": _combinations_one_by_one,
            "a list of lists: asked is one flat list.": _combinations_nested,
        },
    ),
    "hw1.3": Exercise(
        title="different n-grams, as a share of all words",
        inputs=_texts,
        reference=_distinct,
        mistakes={
            "you take the mean over texts: then it does not show when all texts say the same. "
            "Count them together.": _distinct_mean,
            "an n-gram that stands in two texts is one, not two: collect them in one set.": (
                _distinct_sum
            ),
            "you divide by the number of n-grams; asked is the number of words.": _distinct_grams,
            "that is a number; asked is a share of all words.": _distinct_number,
            "The and the count as two in yours: use small letters.": _distinct_case,
            "you count single words whatever n is.": _distinct_words,
            "you join the texts, so that an n-gram begins in one and ends in the next.": (
                _distinct_joined
            ),
            "that is the share that is repeated.": _distinct_repeated,
            "your n-grams don't overlap: one begins at each word.": _distinct_blocks,
            "you count characters; asked are words.": _distinct_characters,
        },
    ),
    "hw1.4": Exercise(
        title="the perplexity of several texts together",
        inputs=_log_probs,
        reference=_perplexity,
        mistakes={
            "you take the mean of the texts' perplexities: one wild text drowns the others. Take "
            "all tokens together.": _perplexity_mean,
            "you take the mean of the texts' means: a short text then counts as much as a long "
            "one. Take all tokens together.": _perplexity_means,
            "below 1: a sign is missing. Log probabilities are negative.": _perplexity_sign,
            "that is the mean surprise in nats; perplexity is e to the power of it.": (
                _perplexity_log
            ),
            "you add up; the exponent is the mean over the tokens.": _perplexity_sum,
            "you average probabilities; it is their logarithms that are averaged.": (
                _perplexity_probs
            ),
            "2 to the power of it: natural logarithms go with e.": partial(_perplexity, base=2.0),
            "one for each text: asked is one number for all.": _perplexity_each,
        },
    ),
    "hw1.5": exercise("what the settings do to a text, in your words and figures", _RUBRIC),
}

ASSIGNMENT = Assignment(
    name="hw1",
    notebook="hw1_generation_settings.ipynb",
    parts=(
        Part("hw1.1", "settings", 2, EXERCISES["hw1.1"]),
        Part("hw1.2", "combinations", 2, EXERCISES["hw1.2"]),
        Part("hw1.3", "distinct", 4, EXERCISES["hw1.3"]),
        Part("hw1.4", "perplexity", 4, EXERCISES["hw1.4"]),
        Part("hw1.5", "advice", 4, EXERCISES["hw1.5"], read=4),
    ),
)

"""The parts of homework 2: figures and kinds of heads, copying, and what size does."""

import random
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from llmlab.checks import Exercise
from llmlab.checks.rubric import Fact, Rubric, agrees, exercise, found, mentions, passages
from llmlab.grading.assignment import Assignment, Part

_Heads = Float[Tensor, "head query key"]
_Figure = Float[Tensor, "head"]


def _attention(rng: random.Random, heads: int, tokens: int) -> _Heads:
    """Causal weights of random heads."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    scores = 1.5 * torch.randn(heads, tokens, tokens, generator=generator)
    return scores.masked_fill(torch.ones(tokens, tokens).triu(1).bool(), -torch.inf).softmax(-1)


def _one(rng: random.Random) -> tuple[_Heads]:
    """As many heads as no text has tokens."""
    return (_attention(rng, rng.randrange(2, 5), rng.randrange(6, 11)),)


# ---- hw2.1 to the first token --------------------------------------------------------------------


def _first(attention: _Heads) -> _Figure:
    return attention[:, 1:, 0].mean(-1)


def _first_all(attention: _Heads) -> _Figure:
    return attention[:, :, 0].mean(-1)


def _first_row(attention: _Heads) -> _Figure:
    return attention[:, 0, 1:].mean(-1)


def _first_last_query(attention: _Heads) -> _Figure:
    return attention[:, -1, 0]


def _first_sum(attention: _Heads) -> _Figure:
    return attention[:, 1:, 0].sum(-1)


def _first_model(attention: _Heads) -> Tensor:
    return attention[:, 1:, 0].mean()


def _first_queries(attention: _Heads) -> Tensor:
    return attention[:, 1:, 0].mean(0)


def _first_last_key(attention: _Heads) -> _Figure:
    return attention[:, :, -1].mean(-1)


def _first_none(attention: _Heads) -> Tensor:
    return attention[:, 1:, 0]


# ---- hw2.2 to the token before -------------------------------------------------------------------


def _previous(attention: _Heads, offset: int = -1) -> _Figure:
    return attention.diagonal(offset, 1, 2).mean(-1)


def _previous_all(attention: _Heads) -> _Figure:
    return attention.diagonal(-1, 1, 2).sum(-1) / attention.shape[-1]


def _previous_sum(attention: _Heads) -> _Figure:
    return attention.diagonal(-1, 1, 2).sum(-1)


def _previous_model(attention: _Heads) -> Tensor:
    return _previous(attention).mean()


def _previous_last_query(attention: _Heads) -> _Figure:
    return attention[:, -1, -2]


def _previous_second(attention: _Heads) -> _Figure:
    return attention[:, 1:, 1].mean(-1)


def _previous_heads(attention: _Heads) -> Tensor:
    """The diagonal of (head, query): the axes of torch's default."""
    return attention.diagonal(-1).mean(-1)


# ---- hw2.3 kinds ---------------------------------------------------------------------------------

_KINDS = ["first", "previous", "self"]


def _kind_inputs(rng: random.Random) -> tuple[list[dict[str, float]], float]:
    """Seven heads, one of each sort that matters, and a bound."""
    least = rng.choice([0.25, 0.3, 0.35])
    low = [rng.uniform(0.02, least - 0.02) for _ in range(18)]
    heads = [
        [rng.uniform(least + 0.3, 0.75), low[0], low[1]],
        [low[2], rng.uniform(least + 0.3, 0.75), low[3]],
        [low[4], low[5], rng.uniform(least + 0.3, 0.75)],
        # two above the bound: the larger counts, wherever it stands
        [rng.uniform(least + 0.01, least + 0.05), rng.uniform(least + 0.1, 0.65), low[6]],
        [rng.uniform(least + 0.1, 0.65), low[7], rng.uniform(least + 0.01, least + 0.05)],
        sorted(low[8:11]),
        [least - 0.01, least - 0.015, low[11]],
    ]
    figures = [dict(zip(_KINDS, numbers, strict=True)) for numbers in heads]
    return rng.sample(figures, len(figures)), least


_Figures = list[dict[str, float]]


def _kinds(figures: _Figures, least: float) -> list[str]:
    best = [max(head, key=lambda kind: head[kind]) for head in figures]
    return [
        name if head[name] >= least else "mixed" for head, name in zip(figures, best, strict=True)
    ]


def _kinds_never_mixed(figures: _Figures, least: float) -> list[str]:
    return _kinds(figures, 0)


def _kinds_in_turn(figures: _Figures, least: float, back: bool = False) -> list[str]:
    def first_above(head: dict[str, float]) -> str:
        names = reversed(list(head)) if back else head
        return next((name for name in names if head[name] >= least), "mixed")

    return [first_above(head) for head in figures]


def _kinds_half(figures: _Figures, least: float) -> list[str]:
    return _kinds(figures, 0.5)


def _kinds_smallest(figures: _Figures, least: float) -> list[str]:
    return _kinds([{name: -value for name, value in head.items()} for head in figures], -2)


def _kinds_alone(figures: _Figures, least: float) -> list[str]:
    above = [[name for name in head if head[name] >= least] for head in figures]
    return [names[0] if len(names) == 1 else "mixed" for names in above]


def _kinds_numbers(figures: _Figures, least: float) -> list[float]:
    return [max(head.values()) for head in figures]


def _kinds_lists(figures: _Figures, least: float) -> list[list[str]]:
    return [[name for name in head if head[name] >= least] or ["mixed"] for head in figures]


def _kinds_counted(figures: _Figures, least: float) -> dict[str, int]:
    found = _kinds(figures, least)
    return {name: found.count(name) for name in [*_KINDS, "mixed"]}


# ---- hw2.4 copying -------------------------------------------------------------------------------


def _twice(rng: random.Random) -> tuple[_Heads, int]:
    period = rng.randrange(4, 9)
    return _attention(rng, rng.randrange(2, 5), 2 * period), period


def _copying(attention: _Heads, period: int, shift: int = 1) -> _Figure:
    """`shift`: which token counts, from the earlier copy of the query on."""
    queries = torch.arange(period, 2 * period)
    return attention[:, queries, queries - period + shift].mean(-1)


def _copying_all(attention: _Heads, period: int) -> _Figure:
    queries = torch.arange(period, 2 * period)
    return attention[:, queries, queries - period + 1].sum(-1) / (2 * period)


def _copying_from_first(attention: _Heads, period: int) -> _Figure:
    """Along the diagonal from the last query of the first copy on."""
    return attention.diagonal(1 - period, 1, 2).mean(-1)


def _copying_fewer(attention: _Heads, period: int) -> _Figure:
    queries = torch.arange(period + 1, 2 * period)
    return attention[:, queries, queries - period + 1].mean(-1)


def _copying_half(attention: _Heads, period: int) -> _Figure:
    return attention[:, period:, :period].sum(-1).mean(-1)


def _copying_sum(attention: _Heads, period: int) -> _Figure:
    return _copying(attention, period) * period


def _copying_model(attention: _Heads, period: int) -> Tensor:
    return _copying(attention, period).mean()


def _copying_ahead(attention: _Heads, period: int) -> _Figure:
    queries = torch.arange(period - 1)
    return attention[:, queries, queries + period + 1].mean(-1)


# ---- hw2.5 a text --------------------------------------------------------------------------------

# The notebook's figures; a machine's last digits may differ.
FIGURES = {
    "gpt2-mini": {"layers": 4, "heads": 24, "sinks": 1, "specialised": 2, "first": 0.13,
                  "previous": 0.39, "entropy": 1.76, "distance": 3.66, "copying": 0.03},
    "SmolLM2": {"layers": 30, "heads": 270, "sinks": 192, "specialised": 247, "first": 0.61,
                "previous": 0.79, "entropy": 0.95, "distance": 6.65, "copying": 0.88},
}  # fmt: skip

TASK = """\
A fellow student says: "A larger model is the same thing with more heads; each of them reads \
farther." What do your figures say? Describe in your own words (100 to 600 of them) how attention \
in SmolLM2 differs from that in gpt2-mini. State in it, each with the figures of **both** models:

- how many layers or heads they have;
- how much goes to the first token (its mean share, or the number of sinks), and what that is for;
- one more kind of head, the previous-token head: the best one's figure;
- how well their best heads copy, and what copying is good for;
- that SmolLM2's mean distance is larger, and whether its heads read farther: what is the distance \
made of?
- why two models on one text can't prove that it was size: what else differs?"""


def _figures(measured: dict) -> str:
    for name, figures in FIGURES.items():
        for figure, value in figures.items():
            if abs(float(measured[name][figure]) - value) > max(0.02, 0.02 * value):
                return f"{name}'s {figure!r} is not that of the notebook: make `measured` again."
    return ""


def _both(*patterns: str, figures: tuple[str, ...], missing: str) -> Fact:
    """One passage has the patterns and one of these figures of both models; or its share."""

    def fact(text: str, measured: dict) -> str:
        small, large = measured["gpt2-mini"], measured["SmolLM2"]
        for passage in passages(text):
            if not all(found(pattern, passage) for pattern in patterns):
                continue
            pairs = [(small[name], large[name]) for name in figures]
            shares = {"sinks", "specialised"} & {*figures}
            parts = [(small[n] / small["heads"], large[n] / large["heads"]) for n in shares]
            parts += [(100 * a, 100 * b) for a, b in [*parts, *pairs] if b <= 1]
            if any(agrees(passage, a) and agrees(passage, b) for a, b in pairs + parts):
                return ""
        return missing

    return fact


_RUBRIC = Rubric(
    task=TASK,
    least=100,
    figures=_figures,
    facts=(
        _both(
            r"\b(heads?|layers?)\b", figures=("heads", "layers"),
            missing="how many heads or layers have the two models? Give both numbers in one place.",
        ),
        _both(
            r"\b(first|sinks?)\b", figures=("first", "sinks"),
            missing="how much goes to the first token in the one model and in the other?",
        ),
        mentions(
            r"\b(first token|sinks?)\b",
            r"\b(nothing|park\w*|rest\w*|idle|no(thing)? to (do|say)|not needed|unused"
            r"|leav(e|es|ing) (it|its|their|attention)|left over|dump\w*|default"
            r"|add up|sum to)\b",
            missing="what is the attention to the first token for? (Notebook 03, on sinks.)",
        ),
        _both(
            r"\b(previous|token before|one before|preceding)\b", figures=("previous",),
            missing="one more kind of head: what does the best previous-token head give in each "
            "model?",
        ),
        _both(
            r"\b(cop(y|ies|ied|ying)|induction|repeat\w*)\b", figures=("copying",),
            missing="how well do the best heads copy, in the one model and in the other?",
        ),
        _both(
            r"\bdistance\b", figures=("distance",),
            missing="what is the mean distance in the two models?",
        ),
        mentions(
            r"\b(distance|farther|further)\b", r"\b(first token|sinks?)\b",
            missing="what is SmolLM2's distance made of? Think of where most of its heads look, "
            "and how far that is from the end of a text.",
        ),
        mentions(
            r"\b(train\w*|data|texts?|tokenizers?|positions?|rotary|architectur\w*|vocabular\w*)\b",
            r"\b(differ\w*|not (only|just|prove)|other than|can(no|')t|also|besides|no proof)\b",
            missing="what differs between these models besides their size?",
        ),
    ),
)  # fmt: skip

EXERCISES = {
    "hw2.1": Exercise(
        title="what each head gives to the first token",
        inputs=_one,
        reference=_first,
        mistakes={
            "the first token itself counts in yours: it has no choice but to look at itself.": (
                _first_all
            ),
            "rows and columns are swapped: the first key is a column.": _first_row,
            "you take the last query alone; asked is the mean over all but the first.": (
                _first_last_query
            ),
            "you add up; asked is the mean over the queries.": _first_sum,
            "one number for all heads: asked is one for each.": _first_model,
            "you average over the heads; asked is a number for each head, over its queries.": (
                _first_queries
            ),
            "that is the last key: the first one is column 0.": _first_last_key,
            "one number for each query: take their mean.": _first_none,
        },
    ),
    "hw2.2": Exercise(
        title="what each head gives to the token before",
        inputs=_one,
        reference=_previous,
        mistakes={
            "you go along the main diagonal: that is each token's attention to itself.": (
                partial(_previous, offset=0)
            ),
            "you look one token ahead: in a causal model that is 0.": partial(_previous, offset=1),
            "that is the token two places before.": partial(_previous, offset=-2),
            "you divide by the number of tokens; the first has no token before it and does not "
            "count.": _previous_all,
            "you add up; asked is the mean over the queries.": _previous_sum,
            "one number for all heads: asked is one for each.": _previous_model,
            "you take the last query alone; asked is the mean over all that have one before.": (
                _previous_last_query
            ),
            "you take one column, the second token; the token before is another one for each "
            "query.": _previous_second,
            "the diagonal runs through heads and queries: it should run through queries and keys, "
            "the last two axes.": _previous_heads,
        },
    ),
    "hw2.3": Exercise(
        title="the kind of each head",
        inputs=_kind_inputs,
        reference=_kinds,
        mistakes={
            "no head is mixed in yours: one whose figures are all small is of no kind.": (
                _kinds_never_mixed
            ),
            "you take the first figure above the bound; asked is the largest.": _kinds_in_turn,
            "you take the last figure above the bound; asked is the largest.": (
                partial(_kinds_in_turn, back=True)
            ),
            "your bound is fixed at 0.5: `least` says it.": _kinds_half,
            "you take the smallest figure.": _kinds_smallest,
            "a head with two figures above the bound is of the kind of the larger.": _kinds_alone,
            "these are figures; asked are the names of the kinds.": _kinds_numbers,
            "these are all kinds above the bound, in lists; asked is one name a head.": (
                _kinds_lists
            ),
            "you count the kinds; asked is the kind of each head, in their order.": _kinds_counted,
        },
    ),
    "hw2.4": Exercise(
        title="what each head gives to the token that came next last time",
        inputs=_twice,
        reference=_copying,
        mistakes={
            "that is the earlier copy of the token itself; asked is the one after it.": (
                partial(_copying, shift=0)
            ),
            "that is the token before the earlier copy; asked is the one after it.": (
                partial(_copying, shift=-1)
            ),
            "that is two places after the earlier copy; asked is one.": partial(_copying, shift=2),
            "you divide by all queries: those of the first half have no earlier copy.": (
                _copying_all
            ),
            "one query too many: the last of the first half has no earlier copy yet.": (
                _copying_from_first
            ),
            "one query too few: the first of the second half has an earlier copy.": _copying_fewer,
            "you count all that goes to the first half; asked is one token for each query.": (
                _copying_half
            ),
            "you add up; asked is the mean over the queries.": _copying_sum,
            "one number for all heads: asked is one for each.": _copying_model,
            "you look ahead, from the first half to the second: in a causal model that is 0.": (
                _copying_ahead
            ),
        },
    ),
    "hw2.5": exercise("what size does to attention, in your words and figures", _RUBRIC),
}

ASSIGNMENT = Assignment(
    name="hw2",
    notebook="hw2_attention_and_size.ipynb",
    parts=(
        Part("hw2.1", "to_first", 2, EXERCISES["hw2.1"]),
        Part("hw2.2", "to_previous", 3, EXERCISES["hw2.2"]),
        Part("hw2.3", "kinds", 4, EXERCISES["hw2.3"]),
        Part("hw2.4", "copying", 5, EXERCISES["hw2.4"]),
        Part("hw2.5", "description", 3, EXERCISES["hw2.5"], read=3),
    ),
)

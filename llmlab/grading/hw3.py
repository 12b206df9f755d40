"""The parts of homework 3: what a text costs, what is cut off, what is lost, and what follows."""

import random
import re
from functools import partial

from llmlab.checks import Exercise
from llmlab.checks.rubric import Rubric, agrees, cites, exercise, found, mentions, passages
from llmlab.grading.assignment import Assignment, Part

_Counts = dict[str, int]  # language -> tokens

LANGUAGES = ["English", "Swahili", "Serbian, Latin", "Serbian, Cyrillic", "Chinese", "Arabic",
             "Hindi", "Burmese"]  # fmt: skip
LIMIT = 64  # tokens: the context of the notebook's experiment


# ---- hw3.1 premiums ------------------------------------------------------------------------------


def _counts(rng: random.Random) -> _Counts:
    """Four languages in any order, no count near another, none a multiple of another."""
    names = [*rng.sample(LANGUAGES[1:], 3), "English"]
    counts = [rng.randrange(low, low + 12) for low in (23, 47, 71, 97)]
    return dict(zip(rng.sample(names, 4), rng.sample(counts, 4), strict=True))


def _premium_inputs(rng: random.Random) -> tuple[_Counts, str]:
    counts = _counts(rng)
    return counts, rng.choice([name for name in counts if name != "English"])


def _premiums(tokens: _Counts, base: str) -> dict[str, float]:
    return {name: count / tokens[base] for name, count in tokens.items()}


def _premiums_upside_down(tokens: _Counts, base: str) -> dict[str, float]:
    return {name: tokens[base] / count for name, count in tokens.items()}


def _premiums_less(tokens: _Counts, base: str) -> dict[str, int]:
    return {name: count - tokens[base] for name, count in tokens.items()}


def _premiums_more(tokens: _Counts, base: str) -> dict[str, float]:
    return {name: count / tokens[base] - 1 for name, count in tokens.items()}


def _premiums_english(tokens: _Counts, base: str) -> dict[str, float]:
    return _premiums(tokens, "English")


def _premiums_cheapest(tokens: _Counts, base: str) -> dict[str, float]:
    return _premiums(tokens, min(tokens, key=lambda name: tokens[name]))


def _premiums_shares(tokens: _Counts, base: str) -> dict[str, float]:
    return {name: count / sum(tokens.values()) for name, count in tokens.items()}


def _premiums_whole(tokens: _Counts, base: str) -> dict[str, int]:
    return {name: count // tokens[base] for name, count in tokens.items()}


def _premiums_percent(tokens: _Counts, base: str) -> dict[str, float]:
    return {name: 100 * count / tokens[base] for name, count in tokens.items()}


def _premiums_others(tokens: _Counts, base: str) -> dict[str, float]:
    return {name: value for name, value in _premiums(tokens, base).items() if name != base}


def _premiums_rounded(tokens: _Counts, base: str, *, digits: int) -> dict[str, float]:
    return {name: round(value, digits) for name, value in _premiums(tokens, base).items()}


# ---- hw3.2 what a limit leaves -------------------------------------------------------------------


def _kept_inputs(rng: random.Random) -> tuple[int, int, int]:
    """A text's tokens, a limit, special tokens: above and below the limit, and between."""
    limit, special = rng.randrange(20, 60), rng.randrange(1, 4)
    over = rng.choice([-15, -10, -10, -special, rng.randrange(1 - special, 1), 0, 7, 150])
    return limit + over, limit, special


def _kept(tokens: int, limit: int, special: int, *, most: float = 1.0) -> float:
    return min(most, (limit - special) / tokens)


def _kept_no_special(tokens: int, limit: int, special: int) -> float:
    return min(1.0, limit / tokens)


def _kept_added(tokens: int, limit: int, special: int) -> float:
    return min(1.0, limit / (tokens + special))


def _kept_lost(tokens: int, limit: int, special: int) -> float:
    return 1 - _kept(tokens, limit, special)


def _kept_number(tokens: int, limit: int, special: int) -> int:
    return min(tokens, limit - special)


def _kept_all_or_nothing(tokens: int, limit: int, special: int) -> float:
    return 1.0 if tokens <= limit - special else 0.0


def _kept_just_fits(tokens: int, limit: int, special: int) -> float:
    return 1.0 if tokens <= limit else (limit - special) / tokens


def _kept_of_limit(tokens: int, limit: int, special: int) -> float:
    return min(1.0, tokens / (limit - special))


def _kept_two(tokens: int, limit: int, special: int) -> float:
    return _kept(tokens, limit, 2)


# ---- hw3.3 premiums of what can be read ----------------------------------------------------------


def _unknown_inputs(rng: random.Random) -> tuple[_Counts, _Counts, str]:
    """Of four languages one has no unknown token, one a few, one most; the base has none."""
    counts = _counts(rng)
    base, none, few, most = rng.sample(list(counts), 4)
    unknown = {base: 0, none: 0, few: rng.randrange(1, 4), most: counts[most] - rng.randrange(6)}
    return counts, {name: unknown[name] for name in counts}, base


def _readable(tokens: _Counts, unknown: _Counts, base: str, *, most: float = 0.0) -> dict:
    """`most`: the share of unknown tokens that is let pass."""
    premiums = _premiums(tokens, base)
    return {n: premiums[n] if unknown[n] <= most * tokens[n] else None for n in tokens}


def _readable_blind(tokens: _Counts, unknown: _Counts, base: str) -> dict:
    return _premiums(tokens, base)


def _readable_left_out(tokens: _Counts, unknown: _Counts, base: str) -> dict:
    return {n: value for n, value in _readable(tokens, unknown, base).items() if value is not None}


def _readable_zero(tokens: _Counts, unknown: _Counts, base: str) -> dict:
    return {n: value or 0.0 for n, value in _readable(tokens, unknown, base).items()}


def _readable_subtracted(tokens: _Counts, unknown: _Counts, base: str) -> dict:
    return _premiums({n: tokens[n] - unknown[n] for n in tokens}, base)


def _readable_inverted(tokens: _Counts, unknown: _Counts, base: str) -> dict:
    premiums = _premiums(tokens, base)
    return {n: premiums[n] if unknown[n] else None for n in tokens}


def _readable_english(tokens: _Counts, unknown: _Counts, base: str) -> dict:
    return _readable(tokens, unknown, "English")


def _readable_upside_down(tokens: _Counts, unknown: _Counts, base: str) -> dict:
    found = _readable(tokens, unknown, base)
    return {n: None if value is None else 1 / value for n, value in found.items()}


# ---- hw3.4 cut at a whole character --------------------------------------------------------------

_Pieces = list[list[int]]
_LETTERS = "abe čšđ жшћ मनक ကလတ 自由 😀"


def _pieces_inputs(rng: random.Random) -> tuple[_Pieces, int]:
    """A text's bytes in pieces that don't heed its characters, and a limit.

    In two of three the limit falls within a character.
    """
    within = rng.random() < 2 / 3
    while True:
        data = "".join(rng.choice(_LETTERS) for _ in range(18)).encode()
        pieces, at = [], 0
        while at < len(data):
            size = rng.choice([1, 1, 2, 3])
            pieces.append(list(data[at : at + size]))
            at += size
        if len(pieces) < 10:
            continue
        limit = rng.randrange(5, len(pieces) - 3)
        ends_within = data[len(_join(pieces[:limit]))] & 0xC0 == 0x80
        several = len(_join(pieces[:limit]).decode("utf-8", "ignore")) > 2
        if ends_within == within and several:
            return pieces, limit


def _join(pieces: _Pieces) -> bytes:
    return b"".join(map(bytes, pieces))


def _cut(pieces: _Pieces, limit: int) -> str:
    return _join(pieces[:limit]).decode("utf-8", "ignore")


def _cut_replaced(pieces: _Pieces, limit: int) -> str:
    return _join(pieces[:limit]).decode("utf-8", "replace")


def _cut_strict(pieces: _Pieces, limit: int) -> str:
    return _join(pieces[:limit]).decode("utf-8")  # stops within a character


def _cut_each(pieces: _Pieces, limit: int, errors: str) -> str:
    return "".join(bytes(piece).decode("utf-8", errors) for piece in pieces[:limit])


def _cut_characters(pieces: _Pieces, limit: int) -> str:
    return _join(pieces).decode()[:limit]


def _cut_bytes(pieces: _Pieces, limit: int) -> str:
    return _join(pieces)[:limit].decode("utf-8", "ignore")


def _cut_always_one(pieces: _Pieces, limit: int) -> str:
    return _cut(pieces, limit)[:-1]


def _cut_all(pieces: _Pieces, limit: int) -> str:
    return _join(pieces).decode()


def _cut_latin(pieces: _Pieces, limit: int) -> str:
    return _join(pieces[:limit]).decode("latin-1")


def _cut_ascii(pieces: _Pieces, limit: int) -> str:
    return _join(pieces[:limit]).decode("ascii", "ignore")


# ---- hw3.5 a text --------------------------------------------------------------------------------

# The notebook's counts: what the four tokenizers make of the eight texts.
TOKENS = {
    "SmolLM2": [32, 50, 76, 132, 74, 109, 199, 726],
    "GPT-2": [33, 49, 76, 178, 86, 120, 294, 726],
    "gpt2-mini": [39, 69, 101, 293, 129, 212, 497, 746],
    "MiniLM": [32, 49, 66, 127, 43, 94, 109, 29],
}

_BYTES = ["SmolLM2", "GPT-2", "gpt2-mini"]  # those that work on bytes: nothing is unknown

TASK = """\
A town wants to put a help line for new residents online. A language model is to answer in all \
eight languages; the town pays by the token, and what doesn't fit into the context is cut off. \
One on the council says: "The same model answers everybody, so everybody gets the same."

Answer in your own words (100 to 600 of them), with figures from your tables. State in it:

- which language is dearest with SmolLM2's tokenizer, and how many times as much as English;
- what Serbian shows, whose two texts differ in the script alone, with figures for both scripts;
- for one language other than English, what share of its text fits into 64 tokens;
- why MiniLM's low count for Burmese or Chinese is no good news;
- what follows for people: name at least three kinds of consequences;
- what you would propose to the town, and what your figures can not show."""


def _figures(measured: dict) -> str:
    counts = {name: [measured[name][language] for language in LANGUAGES] for name in TOKENS}
    if counts == TOKENS:
        return ""
    return "the counts are not those of the notebook's texts: make `tokens` again as it was given."


def _ratios(measured: dict, language: str, base: str = "English") -> list[float]:
    """How many times as much as the base, with each tokenizer that loses nothing."""
    return [measured[name][language] / measured[name][base] for name in _BYTES]


_LIMITED = r"\b(fits?|cut|context|limit|truncat\w*|kept|keeps?|left|lost|loses?)\b"


def _share_kept(text: str, measured: dict) -> str:
    """For a language that is named beside it, what share fits (or is lost), in per cent or not."""
    for passage in passages(text):
        if not found(
            r"\b(fits?|cut|context|limit|truncat\w*|kept|keeps?|left|lost|loses?)\b", passage
        ):
            continue
        for language in LANGUAGES[1:]:
            if not all(found(rf"\b{word}\b", passage) for word in language.split(", ")):
                continue
            for counts in measured.values():
                share = min(1.0, LIMIT / counts[language])
                values = [share, 100 * share, 1 - share, 100 - 100 * share]
                if any(agrees(passage, value) for value in values if value > 0):
                    return ""
    return f"what share of a text (name its language) fits into {LIMIT} tokens? With its figure."


def _two_scripts(text: str, measured: dict) -> str:
    """Both counts, both premiums, or the one by the other, beside the names of the scripts."""
    for passage in passages(text):
        if not (found("cyrillic", passage) and found("latin", passage)):
            continue
        for counts in measured.values():
            one, two = counts["Serbian, Latin"], counts["Serbian, Cyrillic"]
            base = counts["English"]
            if _bound(passage, "latin", two) and _bound(passage, "cyrillic", one):
                return "your two figures are swapped: look at the table again."
            pairs = [(one, two), (one / base, two / base), (two / one, two / one)]
            if any(agrees(passage, a) and agrees(passage, b) for a, b in pairs):
                return ""
    return (
        "compare Serbian in Latin and in Cyrillic script in one place, with your figures of both."
    )


def _bound(passage: str, script: str, value: float) -> bool:
    """Whether a number that stands behind this script's name alone is this value."""
    behind = 0
    for match in re.finditer(r"\d+(?:\.\d+)?", passage):
        between = passage[behind : match.start()].casefold()
        names = [name for name in ("latin", "cyrillic") if name in between]
        if names == [script] and agrees(match[0], value):
            return True
        behind = match.end()
    return False


_KINDS = (
    r"\b(pay|pays|paid|price|bill|money|expens\w*|euros?|dollars?|budget|charg\w*|cost\w*|fees?)\b",
    r"\b(truncat\w*|cut off|interrupt\w*|unheard|context|forget\w*|does(n't| not) fit)\b"
    r"|\b(less (of|room)|shorter)\b",
    r"\b(slow\w*|wait\w*|time|latency|seconds?|faster|late|later|delay\w*)\b",
    r"\b(rarely|seldom|little|less|fewer|hardly|poor\w*)\b[^.]*\b(train|learn|seen)"
    r"|\b(worse|poorer|mistakes?|misunderst\w+|errors?|lower quality|less (reliable|accurate))\b",
)

_RUBRIC = Rubric(
    task=TASK,
    least=100,
    figures=_figures,
    facts=(
        cites(
            r"burmese|myanmar",
            value=partial(_ratios, language="Burmese"),
            missing="which language is dearest, and how many times as much as English does it "
            "cost? (The premium of part 1.)",
            confused=lambda measured: [measured[name]["Burmese"] for name in _BYTES],
            wrong="you give Burmese's number of tokens; asked is how many times as much as English "
            "that is.",
        ),
        _two_scripts,
        _share_kept,
        mentions(
            r"minilm|bert|wordpiece",
            r"unknown|placeholder|\bunk\b|\[unk\]|not read|can(no|')t (be )?read",
            missing="MiniLM needs few tokens for Burmese: what do they hold? (The table before "
            "part 3.)",
        ),
        mentions(*_KINDS, least=3, missing="name at least three kinds of consequences for people."),
        mentions(
            r"\b(propose|proposal|suggest\w*|recommend\w*|should|would|could|ought|advise)\b",
            r"\b(town|council|tokenizers?|model|languages?|residents?|people)\b",
            missing="what would you propose to the town?",
        ),
    ),
)

EXERCISES = {
    "hw3.1": Exercise(
        title="how many times as much as the base",
        inputs=_premium_inputs,
        reference=_premiums,
        mistakes={
            "your fractions are upside down: a language that needs more tokens than the base has a "
            "premium above 1.": _premiums_upside_down,
            "you subtract; asked is how many times as much.": _premiums_less,
            "you give what comes on top of the base; its own premium is 1, not 0.": _premiums_more,
            "you compare with English whatever `base` says.": _premiums_english,
            "you compare with the language of fewest tokens; `base` says with which.": (
                _premiums_cheapest
            ),
            "these are shares of all tokens together; compare each with the base.": (
                _premiums_shares
            ),
            "your premiums are whole numbers: `//` drops what is behind the point.": (
                _premiums_whole
            ),
            "your premiums are rounded to a digit behind the point: leave them as they are, a "
            "table rounds for itself.": partial(_premiums_rounded, digits=1),
            "your premiums are rounded to two digits: leave them as they are, a table rounds for "
            "itself.": partial(_premiums_rounded, digits=2),
            "these are percents; asked is how many times as much.": _premiums_percent,
            "the base itself is missing: it has a premium too.": _premiums_others,
        },
    ),
    "hw3.2": Exercise(
        title="the share of a text that a limit leaves",
        inputs=_kept_inputs,
        reference=_kept,
        mistakes={
            "the special tokens take their places too: less is left for the text.": (
                _kept_no_special
            ),
            "a short text is kept whole: the share is never above 1.": partial(_kept, most=1e9),
            "you add the special tokens to the text; they take room within the limit, and the "
            "share is one of the text's own tokens.": _kept_added,
            "that is the share that is lost.": _kept_lost,
            "that is a number of tokens; asked is a share, from 0 to 1.": _kept_number,
            "a text that is too long is cut, not dropped: its beginning is kept.": (
                _kept_all_or_nothing
            ),
            "a text that just fits the limit no longer fits when the special tokens take their "
            "places.": _kept_just_fits,
            "your fraction is upside down: you divide by what there is room for.": _kept_of_limit,
            "your number of special tokens is fixed at 2: it is an argument.": _kept_two,
        },
    ),
    "hw3.3": Exercise(
        title="premiums of what can be read",
        inputs=_unknown_inputs,
        reference=_readable,
        mistakes={
            "a language with unknown tokens has lost some of its text: its premium means nothing, "
            "so None.": _readable_blind,
            "the languages with unknown tokens are missing: they should stay, with None.": (
                _readable_left_out
            ),
            "a premium of 0 would be a language that costs nothing: None says that there is no "
            "figure.": _readable_zero,
            "you subtract the unknown tokens: then a text seems the cheaper the more of it is "
            "lost.": _readable_subtracted,
            "it is the wrong way round: None is for languages that have unknown tokens.": (
                _readable_inverted
            ),
            "you let a language pass with a few unknown tokens; one is enough for None.": (
                partial(_readable, most=0.5)
            ),
            "you compare with English whatever `base` says.": _readable_english,
            "your fractions are upside down: more tokens than the base, a premium above 1.": (
                _readable_upside_down
            ),
        },
    ),
    "hw3.4": Exercise(
        title="cut at a whole character",
        inputs=_pieces_inputs,
        reference=_cut,
        mistakes={
            "half a character became � at the end: leave it out.": _cut_replaced,
            "half a character at the end can't be decoded, and your function stops there.": (
                _cut_strict
            ),
            "you decode each token alone: a character whose bytes lie in two tokens is lost.": (
                partial(_cut_each, errors="ignore")
            ),
            "you decode each token alone: a character whose bytes lie in two tokens becomes ��.": (
                partial(_cut_each, errors="replace")
            ),
            "you count characters; the limit is one of tokens.": _cut_characters,
            "you count bytes; the limit is one of tokens.": _cut_bytes,
            "you drop the last character always, also where it is whole.": _cut_always_one,
            "nothing is cut off.": _cut_all,
            "each byte became a character of its own: the bytes are UTF-8.": _cut_latin,
            "only the letters of English are left.": _cut_ascii,
        },
    ),
    "hw3.5": exercise("who pays, in your words and figures", _RUBRIC),
}

ASSIGNMENT = Assignment(
    name="hw3",
    notebook="hw3_tokenizer_fairness.ipynb",
    parts=(
        Part("hw3.1", "premiums", 3, EXERCISES["hw3.1"]),
        Part("hw3.2", "kept", 3, EXERCISES["hw3.2"]),
        Part("hw3.3", "readable_premiums", 4, EXERCISES["hw3.3"]),
        Part("hw3.4", "cut", 4, EXERCISES["hw3.4"]),
        Part("hw3.5", "explanation", 3, EXERCISES["hw3.5"], read=3),
    ),
)

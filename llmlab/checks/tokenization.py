"""The exercises of notebook 01: what is right, and what each typical mistake leads to."""

import itertools
import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy

from llmlab.checks import Exercise

Merges = list[tuple[str, str]]

# ---- 01.1: encode a word with learned merges ----------------------------------------------------


def _apply_merges(word: str, merges: Merges) -> list[str]:
    """Byte-pair encoding of one word: the merges in the order in which they were learned."""
    pieces = list(word)
    for pair in merges:
        pieces = _merge(pieces, pair)
    return pieces


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    i = 0
    while i < len(pieces):
        if tuple(pieces[i : i + 2]) == pair:
            merged.append(pieces[i] + pieces[i + 1])
            i += 2
        else:
            merged.append(pieces[i])
            i += 1
    return merged


def _first_place_only(word: str, merges: Merges) -> list[str]:
    pieces = list(word)
    for left, right in merges:
        for i in range(len(pieces) - 1):
            if (pieces[i], pieces[i + 1]) == (left, right):
                pieces[i : i + 2] = [left + right]
                break
    return pieces


def _last_learned_first(word: str, merges: Merges) -> list[str]:
    return _apply_merges(word, merges[::-1])


def _letters_only(word: str, merges: Merges) -> list[str]:
    return _apply_merges(word, [pair for pair in merges if len("".join(pair)) == 2])


def _longest_piece_first(word: str, merges: Merges) -> list[str]:
    vocabulary = {left + right for left, right in merges} | set(word)
    pieces = []
    while word:
        end = next(n for n in range(len(word), 0, -1) if word[:n] in vocabulary)
        pieces.append(word[:end])
        word = word[end:]
    return pieces


def _one_round(word: str, merges: Merges) -> list[str]:
    pieces: list[str] = []
    i = 0
    known = {left + right for left, right in merges if len(left + right) == 2}
    while i < len(word):
        step = 2 if word[i : i + 2] in known else 1
        pieces.append(word[i : i + step])
        i += step
    return pieces


def _never_kept(word: str, merges: Merges) -> list[str]:
    return list(word)


def _first_merge_only(word: str, merges: Merges) -> list[str]:
    return _merge(list(word), merges[0])


def _last_merge_only(word: str, merges: Merges) -> list[str]:
    return _merge(list(word), merges[-1])


def _as_they_come(word: str, merges: Merges) -> list[str]:
    """The leftmost pair that any merge knows, again and again."""
    pieces = list(word)
    i = 0
    while i < len(pieces) - 1:
        if (pieces[i], pieces[i + 1]) in merges:
            pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
            i = 0
        else:
            i += 1
    return pieces


def _spelling(got: Any, expected: Any, arguments: tuple) -> str:
    """The word itself; or letters lost or used twice, as where two pairs share one: aaa."""
    if got == arguments[0]:
        return "the word comes out as it went in, a string. What becomes of what `merge` returns?"
    if not isinstance(got, list | tuple) or not all(isinstance(piece, str) for piece in got):
        return ""
    if "".join(got) == arguments[0]:
        return ""
    return (
        f"glued together your pieces spell {''.join(got)!r}; the word was {arguments[0]!r}. "
        "Where does the search go on after a pair has been joined?"
    )


def _learn(corpus: Counter[str], number: int) -> Merges:
    """The training of the notebook; ties go to the pair that is older in the vocabulary."""
    words = {word: list(word) for word in corpus}
    vocabulary = sorted({letter for word in corpus for letter in word})
    merges: Merges = []
    for _ in range(number):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in words.items():
            for pair in itertools.pairwise(pieces):
                pairs[pair] += corpus[word]
        if not pairs:
            break
        age = {piece: i for i, piece in enumerate(vocabulary)}
        best = min(pairs, key=lambda pair: (-pairs[pair], age[pair[0]], age[pair[1]]))
        merges.append(best)
        vocabulary.append("".join(best))
        words = {word: _merge(pieces, best) for word, pieces in words.items()}
    return merges


# The wrong ways that a random word seldom tells from the right one, turn by turn: every check
# has words for each of them.
_TO_TELL_APART = itertools.cycle(
    [
        (_apply_merges, _first_place_only),
        (_apply_merges, _last_learned_first),
        (_apply_merges, _longest_piece_first),
        (_apply_merges, _letters_only),
        (_apply_merges, _as_they_come),
        (_longest_piece_first, _as_they_come),
        (_letters_only, _one_round),
        (_last_learned_first, _one_round),
        (_letters_only, _first_merge_only),
        (_last_merge_only, _never_kept),
    ]
)


def _word_and_merges(rng: random.Random) -> tuple[str, Merges]:
    """A new word and merges that were learned from other words; short, so that a check shows it."""
    one, other = next(_TO_TELL_APART)
    while True:
        corpus = Counter({_word(rng, 3, 6): rng.randint(1, 9) for _ in range(6)})
        merges = _learn(corpus, rng.choice([3, 4]))
        if len(merges) < 3 or len({left + right for left, right in merges}) < len(merges):
            continue  # one piece learned twice: then the order in which merges act is a convention
        word = _word(rng, 5, 6)
        if one(word, merges) != other(word, merges):
            return word, merges


def _word(rng: random.Random, shortest: int, longest: int) -> str:
    """Few different letters, so that pairs meet often and also overlap, as in aaa."""
    return "".join(rng.choices("aabn", k=rng.randint(shortest, longest)))


# ---- 01.2: WordPiece ----------------------------------------------------------------------------


def _wordpiece(
    word: str, vocabulary: set[str], *, mark: str = "##", shortest: bool = False
) -> list[str]:
    """Longest match first (Schuster & Nakajima, 2012; Wu et al., 2016)."""
    pieces: list[str] = []
    start = 0
    while start < len(word):
        ends = range(start + 1, len(word) + 1)
        for end in ends if shortest else reversed(ends):
            piece = (mark if start else "") + word[start:end]
            if piece in vocabulary:
                pieces.append(piece)
                start = end
                break
        else:
            return ["[UNK]"]
    return pieces


def _without_marks(word: str, vocabulary: set[str]) -> list[str]:
    return [piece.removeprefix("##") for piece in _wordpiece(word, vocabulary)]


def _marks_not_looked_up(word: str, vocabulary: set[str]) -> list[str]:
    return _wordpiece(word, vocabulary, mark="")


def _marks_added_later(word: str, vocabulary: set[str]) -> list[str]:
    pieces = _wordpiece(word, vocabulary, mark="")
    known = pieces != ["[UNK]"]
    return [("##" if i and known else "") + piece for i, piece in enumerate(pieces)]


def _shortest_first(word: str, vocabulary: set[str]) -> list[str]:
    return _wordpiece(word, vocabulary, shortest=True)


def _keeps_the_beginning(word: str, vocabulary: set[str]) -> list[str]:
    pieces: list[str] = []
    start = 0
    while start < len(word):
        mark = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((e for e in ends if mark + word[start:e] in vocabulary), None)
        if end is None:
            return [*pieces, "[UNK]"]
        pieces.append(mark + word[start:end])
        start = end
    return pieces


def _unknown_letters(word: str, vocabulary: set[str]) -> list[str]:
    pieces: list[str] = []
    start = 0
    while start < len(word):
        mark = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((e for e in ends if mark + word[start:e] in vocabulary), None)
        pieces.append("[UNK]" if end is None else mark + word[start:end])
        start = end or start + 1
    return pieces


def _never_one_letter(word: str, vocabulary: set[str]) -> list[str]:
    """range(len(word), start + 1, -1)."""
    return _wordpiece(word, {piece for piece in vocabulary if len(piece.removeprefix("##")) > 1})


def _never_to_the_end(word: str, vocabulary: set[str]) -> list[str]:
    """range(len(word) - 1, start, -1): nothing ever reaches the last letter."""
    return ["[UNK]"]


def _breaks_off(word: str, vocabulary: set[str]) -> list[str]:
    pieces = _keeps_the_beginning(word, vocabulary)
    return pieces[:-1] if pieces[-1] == "[UNK]" else pieces


def _marks_counted(word: str, vocabulary: set[str]) -> list[str]:
    """start += len(piece), where the piece begins with ##."""
    pieces: list[str] = []
    start = 0
    while start < len(word):
        mark = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((e for e in ends if mark + word[start:e] in vocabulary), None)
        if end is None:
            return ["[UNK]"]
        pieces.append(mark + word[start:end])
        start += len(pieces[-1])
    return pieces


# Turn by turn a word that can be cut and one that can't: throws of a coin could leave one of
# the two kinds out, and a wrong answer would pass.
_CAN_BE_CUT = itertools.cycle([True, False])


def _word_and_vocabulary(rng: random.Random) -> tuple[str, set[str]]:
    """A small vocabulary of beginnings and marked continuations, and a word to cut with it."""
    letters = "aeiorst"
    can_be_cut = next(_CAN_BE_CUT)
    while True:
        longer = ["".join(rng.choices(letters, k=rng.randint(2, 4))) for _ in range(12)]
        vocabulary = {*letters, *longer[:8]} | {"##" + piece for piece in [*letters, *longer[4:]]}
        word = "".join(rng.sample(longer, k=3))
        cuts = [
            _wordpiece(word, vocabulary),
            _without_marks(word, vocabulary),
            _marks_not_looked_up(word, vocabulary),
            _marks_added_later(word, vocabulary),
            _shortest_first(word, vocabulary),
        ]
        if len({tuple(cut) for cut in cuts}) == len(cuts):
            break  # the word tells right from wrong
    if not can_be_cut:  # a letter that no piece has, never the first one
        place = rng.randint(2, len(word) - 1)
        word = word[:place] + rng.choice("xyz") + word[place:]
    return word, vocabulary


# ---- 01.3: pad on the left ----------------------------------------------------------------------

Batch = list[list[int]]


class _Given(list):
    """A list that remembers what it held, to see whether it was changed in place."""

    def __init__(self, items: Iterable[int]) -> None:
        super().__init__(items)
        self.original = list(items)


def _left_pad(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    """Equal lengths, padding in front, and the attention mask: 1 = keep."""
    longest = max(len(ids) for ids in batch)
    rows = [[pad_id] * (longest - len(ids)) + list(ids) for ids in batch]
    mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in batch]
    return rows, mask


def _right_pad(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    longest = max(len(ids) for ids in batch)
    rows = [list(ids) + [pad_id] * (longest - len(ids)) for ids in batch]
    return rows, [[1] * len(ids) + [0] * (longest - len(ids)) for ids in batch]


def _one_is_ignore(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    rows, mask = _left_pad(batch, pad_id)
    return rows, [[1 - keep for keep in row] for row in mask]


def _by_the_id(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    rows, _ = _left_pad(batch, pad_id)
    return rows, [[int(number != pad_id) for number in row] for row in rows]


def _mask_on_the_right(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    return _left_pad(batch, pad_id)[0], _right_pad(batch, pad_id)[1]


def _ids_on_the_right(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    return _right_pad(batch, pad_id)[0], _left_pad(batch, pad_id)[1]


def _cut_to_shortest(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    shortest = min(len(ids) for ids in batch)
    return [list(ids[:shortest]) for ids in batch], [[1] * shortest for _ in batch]


def _one_too_many(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    rows, mask = _left_pad(batch, pad_id)
    return [[pad_id, *row] for row in rows], [[0, *row] for row in mask]


def _padded_with_zero(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    return _left_pad(batch, 0)


def _all_to_keep(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    rows, mask = _left_pad(batch, pad_id)
    return rows, [[1 for _ in row] for row in mask]


def _in_place(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    rows, mask = _left_pad(batch, pad_id)
    for ids, row in zip(batch, rows, strict=True):
        ids[:] = row
    return batch, mask


def _in_place_all_to_keep(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    """The mask made from lengths that the padding has already changed."""
    rows, mask = _in_place(batch, pad_id)
    return rows, [[1 for _ in row] for row in mask]


def _longest_by_number(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    """max(batch) compares the rows' first numbers."""
    length = len(max(batch))
    rows = [[pad_id] * (length - len(ids)) + list(ids) for ids in batch]
    return rows, [[0] * (length - len(ids)) + [1] * len(ids) for ids in batch]


def _mask_first(batch: Batch, pad_id: int) -> tuple[Batch, Batch]:
    rows, mask = _left_pad(batch, pad_id)
    return mask, rows


def _changed(rows: Any) -> bool:
    """Whether a list that was handed in has been changed and handed back."""
    return any(isinstance(row, _Given) and row != row.original for row in rows)


def _same_numbers(got: Any, expected: Any) -> bool:
    """Rows of the same numbers, as lists or tensors; True and False count as 1 and 0."""
    try:
        return bool(numpy.array_equal(numpy.asarray(got), numpy.asarray(expected)))
    except ValueError:  # rows of different lengths
        return [list(row) for row in got] == [list(row) for row in expected]


def _same_pair(got: Any, expected: Any) -> bool:
    """Ids and mask agree, and both have left the lists that were handed in alone, or neither."""
    same = len(got) == len(expected) and all(map(_same_numbers, got, expected))
    return same and _changed(got[0]) == _changed(expected[0])


def _which_of_two(got: Any, expected: Any, arguments: tuple) -> str:
    """Whether it is the ids or the mask that went wrong, with the input and what came out."""
    if not isinstance(got, tuple | list) or len(got) != 2:
        return "return two things, separated by a comma: the padded rows and their masks."
    right = []
    for mine, wanted in zip(got, expected, strict=True):
        try:
            right.append(_same_numbers(mine, wanted))
        except (TypeError, ValueError):  # no rows, or rows of something else than numbers
            right.append(False)
    batch, pad_id = arguments
    shown = f"Input: {[list(ids) for ids in batch]} and pad_id {pad_id}; your function gives"
    if right[0]:
        return f"the ids are right, the attention_mask is not. {shown} the mask {got[1]}."
    if right[1]:
        return f"the attention_mask is right, the ids are not. {shown} the ids {got[0]}."
    return f"neither the ids nor the attention_mask are right. {shown} {got[0]} and {got[1]}."


def _batch_and_pad(rng: random.Random) -> tuple[Batch, int]:
    """Texts of different lengths; the padding's id is also a token of some, as with GPT-2."""
    pad_id = rng.randint(1, 9)
    batch: Batch = [
        _Given(rng.randint(10, 99) for _ in range(length)) for length in rng.sample(range(1, 6), 3)
    ]
    chosen = rng.randrange(3)
    batch[chosen] = _Given([*batch[chosen][:-1], pad_id])
    return batch, pad_id


# ---- 01.4: numbers in groups --------------------------------------------------------------------


def _digit_groups(number: str) -> list[str]:
    """Groups of three counted from the right (Singh & Strouse, 2024, on why that side)."""
    first = len(number) % 3
    groups = [number[i : i + 3] for i in range(first, len(number), 3)]
    return [number[:first], *groups] if first else groups


def _from_the_left(number: str) -> list[str]:
    return [number[i : i + 3] for i in range(0, len(number), 3)]


def _groups_backwards(number: str) -> list[str]:
    return _digit_groups(number)[::-1]


def _digits_backwards(number: str) -> list[str]:
    turned = number[::-1]
    return [turned[i : i + 3] for i in range(0, len(turned), 3)][::-1]


def _all_turned(number: str) -> list[str]:
    turned = number[::-1]
    return [turned[i : i + 3] for i in range(0, len(turned), 3)]


def _through_int(number: str) -> list[str]:
    return f"{int(number):,}".split(",")


def _filled_with_zeros(number: str) -> list[str]:
    return _digit_groups(number.zfill(-(-len(number) // 3) * 3))


def _empty_group(number: str) -> list[str]:
    first = len(number) % 3
    return [number[:first], *(number[i : i + 3] for i in range(first, len(number), 3))]


def _slice_to_minus_nothing(number: str) -> list[str]:
    """number[-i - 3 : -i] is empty for i = 0."""
    return [number[-i - 3 : -i] for i in range(0, len(number), 3)][::-1]


def _full_groups_only(number: str) -> list[str]:
    return [number[i : i + 3] for i in range(len(number) % 3, len(number), 3)]


def _rest_forgotten(number: str) -> list[str]:
    """while len(number) > 3, and nothing after the loop."""
    return _digit_groups(number)[1:]


def _as_numbers(number: str) -> list[int]:
    return [int(group) for group in _digit_groups(number)]


# Every length modulo three, with and without a zero in front, one after the other.
_SHAPES = itertools.cycle([(rest, zero) for zero in ("", "0") for rest in range(3)])


def _number(rng: random.Random) -> tuple[str]:
    """Four to nine digits; some begin with a zero, as part numbers and telephone numbers do."""
    rest, zero = next(_SHAPES)
    length = rng.choice([n for n in range(4, 10) if n % 3 == rest])
    return (zero + "".join(rng.choices("123456789", k=length - len(zero))),)


# ---- what `check` reads -------------------------------------------------------------------------

EXERCISES: dict[str, Exercise] = {
    "01.1": Exercise(
        title="encode a word with the merges that were learned",
        inputs=_word_and_merges,
        reference=_apply_merges,
        mistakes={
            "each merge joins its pair in one place only. "
            "What about a word in which that pair stands twice?": _first_place_only,
            "the merges act in the wrong order. Which of them was learned from text in which "
            "the others had not happened yet?": _last_learned_first,
            "this takes the longest known piece, from left to right. That is another "
            "algorithm (WordPiece works so); byte-pair encoding replays its "
            "training.": _longest_piece_first,
            "letters are joined in pairs and then never again. A merge can also join pieces that "
            "earlier merges have made.": _letters_only,
            "the word is gone through once, whatever the merges say. How many passes did the "
            "training make?": _one_round,
            "the letters come out as they went in. `merge` changes nothing in place, it returns "
            "the new pieces: what becomes of them? And it finds a pair only if it is given one: a "
            "tuple of two strings.": _never_kept,
            "only the first merge has happened. Where does your `return` stand: inside the loop or "
            "after it?": _first_merge_only,
            "only the last merge is left. Does each merge begin with the letters again, and not "
            "with what the one before it made?": _last_merge_only,
            "a pair is joined wherever it comes first in the word. Which pair has to wait is "
            "decided by the list of merges, not by its place in the word.": _as_they_come,
        },
        look=_spelling,
    ),
    "01.2": Exercise(
        title="cut a word as WordPiece does",
        inputs=_word_and_vocabulary,
        reference=_wordpiece,
        mistakes={
            "the pieces are right, but nobody can see any more which of them continue a "
            "word.": _without_marks,
            "every piece is treated as if it began a word. How does this vocabulary write a "
            "continuation?": _marks_not_looked_up,
            "continuations carry their mark in the result, but they were looked up without "
            "it.": _marks_added_later,
            "the pieces are known, but longer ones were known too: this takes the first one that "
            "fits.": _shortest_first,
            "a word with a part that fits nowhere keeps its beginning here. WordPiece gives up "
            "on more than the rest.": _keeps_the_beginning,
            "here a single letter becomes unknown and the others stay. For WordPiece the unknown "
            "unit is larger.": _unknown_letters,
            "a piece of a single letter is never tried, so too many words come out unknown. At "
            "which number does your range stop?": _never_one_letter,
            "every word comes out unknown. Either the last letter is never part of a piece that is "
            "tried (at which number does your range begin?), or you give up before the shorter "
            "pieces have had their turn, or you go on after the last letter.": _never_to_the_end,
            "where nothing fits, the pieces break off, and nobody hears of it. What becomes of "
            "such a word?": _breaks_off,
            "letters of the word are missing from your pieces: the two signs of ## are no "
            "letters, and you step over two letters for them.": _marks_counted,
        },
    ),
    "01.3": Exercise(
        title="pad a batch on the left and make its attention mask",
        inputs=_batch_and_pad,
        reference=_left_pad,
        mistakes={
            "the padding follows the text. A model that goes on writing reads its guess at the "
            "last place: what stands there now?": _right_pad,
            "ids right, mask the wrong way round. What does a 1 mean in an "
            "attention_mask?": _one_is_ignore,
            "ids right, but the mask leaves a real token out: the padding's id can also occur in a "
            "text. What else tells you where the padding is?": _by_the_id,
            "ids right, mask padded on the other side.": _mask_on_the_right,
            "mask right, ids padded on the other side.": _ids_on_the_right,
            "tokens are lost: the long texts were cut instead of the short ones being "
            "filled up.": _cut_to_shortest,
            "every row has one place too many. How much padding does the longest text "
            "need?": _one_too_many,
            "mask right, but the ids are filled up with 0. Which id means padding "
            "here?": _padded_with_zero,
            "ids right, but the mask keeps everything. Was it made from the rows before or after "
            "they were filled up?": _all_to_keep,
            "the mask keeps everything: the lists that were handed in were filled up in place, "
            "and then their lengths were all the same.": _in_place_all_to_keep,
            "ids and mask are right, but the lists that were handed in have changed, and whoever "
            "called your function still needs them. Make new lists.": _in_place,
            "the rows still differ in length: `max` of several lists compares the numbers in them, "
            "not how long they are.": _longest_by_number,
            "both are right, but they come in the other order: first the ids, then the "
            "masks.": _mask_first,
        },
        same=_same_pair,
        look=_which_of_two,
    ),
    "01.4": Exercise(
        title="cut a number into groups of three digits, counted from the right",
        inputs=_number,
        reference=_digit_groups,
        mistakes={
            "the groups are counted from the left, so the same group means thousands in one "
            "number and hundreds in another.": _from_the_left,
            "the groups are right, their order is not: glued together they no longer give the "
            "number.": _groups_backwards,
            "inside each group the digits stand backwards.": _digits_backwards,
            "the whole number came out backwards: something was turned round once and not "
            "turned back.": _all_turned,
            "a zero at the front has vanished. Was the text something else than a text on its "
            "way?": _through_int,
            "there are digits that the number does not have.": _filled_with_zeros,
            "for some lengths the first group is empty.": _empty_group,
            "the last three digits are missing, an empty group stands in their place. Where does "
            "a slice end that ends at -0?": _slice_to_minus_nothing,
            "digits at the front that do not fill a group are lost.": _full_groups_only,
            "the first group is lost, whether it is full or not. What is left of the number when "
            "your loop ends?": _rest_forgotten,
            "tokens are strings; these are numbers, and 007 and 7 have become "
            "the same.": _as_numbers,
        },
    ),
}

"""Notebook 01: its exercises name every misconception, and its byte-pair encoding is the real one.

The wrong answers below are written as students write them, without a look at the package's own.
"""

import itertools
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
import tokenizers
import torch
from transformers import PreTrainedTokenizerFast

from llmlab import check
from llmlab.checks import find

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "01_tokenization.ipynb"
SEEDS = range(5)


def outcome(exercise, answer):
    """What the check says, the same for every session's random numbers."""
    results = []
    for seed in SEEDS:
        random.seed(seed)
        results.append(check(exercise, answer))
    statuses = {result.status for result in results}
    assert len(statuses) == 1, f"by luck sometimes {statuses}"
    return results[0].status, {result.message for result in results}


# ---- 01.1 --------------------------------------------------------------------------------------


def merges_replayed(word, merges):
    """Right, and another way: the earliest learned pair that is there, until none is."""
    pieces = list(word)
    rank = {pair: i for i, pair in enumerate(merges)}
    while True:
        there = [p for p in itertools.pairwise(pieces) if p in rank]
        if not there:
            return pieces
        left, right = min(there, key=rank.get)
        i = 0
        while i < len(pieces) - 1:
            if pieces[i] == left and pieces[i + 1] == right:
                pieces[i : i + 2] = [left + right]
            i += 1


def merges_each_once(word, merges):
    """list.index finds the first place, and that is where it stays."""
    pieces = list(word)
    for left, right in merges:
        for i, piece in enumerate(pieces[:-1]):
            if piece == left and pieces[i + 1] == right:
                pieces = [*pieces[:i], left + right, *pieces[i + 2 :]]
                break
    return pieces


def merges_newest_first(word, merges):
    """Long pieces are learned last, so they are tried first."""
    pieces = list(word)
    for left, right in reversed(merges):
        i = 0
        while i < len(pieces) - 1:
            if pieces[i] == left and pieces[i + 1] == right:
                pieces[i : i + 2] = [left + right]
            i += 1
    return pieces


def merges_as_longest_match(word, merges):
    """The vocabulary is there, so take the longest piece from the left."""
    pieces = sorted({a + b for a, b in merges} | set(word), key=len, reverse=True)
    return re.findall("|".join(pieces), word)


def merges_of_letters(word, merges):
    """Only pairs of letters are ever compared."""
    pieces = list(word)
    for left, right in merges:
        if len(left) > 1 or len(right) > 1:
            continue
        i = 0
        while i < len(pieces) - 1:
            if (pieces[i], pieces[i + 1]) == (left, right):
                pieces[i : i + 2] = [left + right]
            i += 1
    return pieces


def merges_in_one_pass(word, merges):
    """One walk along the word, joining any pair that is in the list."""
    result = []
    i = 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) in merges:
            result.append(word[i] + word[i + 1])
            i += 2
        else:
            result.append(word[i])
            i += 1
    return result


def merges_that_lose_letters(word, merges):
    """A for loop over pairs takes shared letters twice and forgets the last."""
    pieces = list(word)
    for pair in merges:
        joined = []
        for left, right in itertools.pairwise(pieces):
            joined.append(left + right if (left, right) == pair else left)
        pieces = joined
    return pieces


def merges_forgotten(word, merges):
    """What merge returns is thrown away."""
    pieces = list(word)
    for pair in merges:
        joined(pieces, pair)
    return pieces


def merges_returned_too_early(word, merges):
    """return inside the loop."""
    pieces = list(word)
    for pair in merges:
        pieces = joined(pieces, pair)
        return pieces


def merges_on_the_letters_each_time(word, merges):
    """Every merge begins with the letters again."""
    for pair in merges:
        pieces = joined(list(word), pair)
    return pieces


def joined(pieces, pair):
    """merge as the notebook has it, a tuple."""
    return tuple(find("01.1").reference(pieces, [pair]))


# ---- 01.2 --------------------------------------------------------------------------------------


def pieces_longest_first(word, vocabulary):
    """Right, by recursion on the rest."""

    def cut(rest, mark):
        if not rest:
            return []
        for size in range(len(rest), 0, -1):
            if mark + rest[:size] in vocabulary:
                following = cut(rest[size:], "##")
                return None if following is None else [mark + rest[:size], *following]
        return None

    return cut(word, "") or ["[UNK]"]


def pieces_unmarked(word, vocabulary):
    """Right pieces, marks thrown away at the end."""
    return [piece.replace("##", "") for piece in pieces_longest_first(word, vocabulary)]


def pieces_as_beginnings(word, vocabulary):
    """The mark is forgotten altogether."""
    pieces = []
    while word:
        size = len(word)
        while size and word[:size] not in vocabulary:
            size -= 1
        if not size:
            return ["[UNK]"]
        pieces.append(word[:size])
        word = word[size:]
    return pieces


def pieces_marked_at_the_end(word, vocabulary):
    """Looked up bare, then the mark is put on."""
    pieces = pieces_as_beginnings(word, vocabulary)
    return pieces[:1] + ["##" + piece for piece in pieces[1:]]


def pieces_shortest_first(word, vocabulary):
    """The inner loop counts up."""
    pieces, start = [], 0
    while start < len(word):
        end = start + 1
        mark = "" if start == 0 else "##"
        while end <= len(word) and mark + word[start:end] not in vocabulary:
            end += 1
        if end > len(word):
            return ["[UNK]"]
        pieces.append(mark + word[start:end])
        start = end
    return pieces


def pieces_and_unknown_rest(word, vocabulary):
    """What was found stays, the rest is unknown."""
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = word[start:end] if start == 0 else "##" + word[start:end]
            if piece in vocabulary:
                pieces.append(piece)
                start = end
                break
        else:
            pieces.append("[UNK]")
            break
    return pieces


def pieces_and_unknown_letters(word, vocabulary):
    """An unknown letter is skipped, the others go on."""
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = word[start:end] if start == 0 else "##" + word[start:end]
            if piece in vocabulary:
                pieces.append(piece)
                start = end
                break
        else:
            pieces.append("[UNK]")
            start += 1
    return pieces


def pieces_from_range(word, vocabulary, first, last):
    """The loop of the notebook's exercise, with other ends of the range."""
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word) + first, start + last, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                pieces.append(piece)
                start = end
                break
        else:
            return ["[UNK]"]
    return pieces


def pieces_of_two_letters_at_least(word, vocabulary):
    """One off at the short end."""
    return pieces_from_range(word, vocabulary, 0, 1)


def pieces_without_the_last_letter(word, vocabulary):
    """One off at the long end."""
    return pieces_from_range(word, vocabulary, -1, 0)


# ---- 01.3 --------------------------------------------------------------------------------------


def padded_on_the_left(batch, pad_id):
    """Right, with tensors."""
    width = max(map(len, batch))
    ids = torch.full((len(batch), width), pad_id)
    keep = torch.zeros(len(batch), width, dtype=torch.long)
    for i, row in enumerate(batch):
        ids[i, width - len(row) :] = torch.tensor(row)
        keep[i, width - len(row) :] = 1
    return ids, keep


def padded_on_the_right(batch, pad_id):
    """pad_sequence's own side."""
    rows = [torch.tensor(row) for row in batch]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    lengths = torch.tensor([len(row) for row in batch])
    return ids, torch.arange(ids.shape[1]) < lengths[:, None]


def padded_as_multihead_attention_wants(batch, pad_id):
    """True = ignore."""
    ids, keep = padded_on_the_left(batch, pad_id)
    return ids, keep == 0


def padded_and_compared(batch, pad_id):
    """The mask from the ids."""
    ids, _ = padded_on_the_left(batch, pad_id)
    return ids, ids != pad_id


def padded_on_two_sides(batch, pad_id):
    """Ids in front, mask behind."""
    return padded_on_the_left(batch, pad_id)[0], padded_on_the_right(batch, pad_id)[1]


def padded_on_two_other_sides(batch, pad_id):
    """Ids behind, mask in front."""
    return padded_on_the_right(batch, pad_id)[0], padded_on_the_left(batch, pad_id)[1]


def padded_by_cutting(batch, pad_id):
    """zip stops at the shortest."""
    columns = list(zip(*batch, strict=False))
    ids = [list(row) for row in zip(*columns, strict=True)]
    return ids, [[1 for _ in row] for row in ids]


def padded_while_not_longer(batch, pad_id):
    """One pad too many: <= for <."""
    width = max(map(len, batch))
    ids, keep = [], []
    for row in batch:
        lack = 0
        while lack + len(row) <= width:
            lack += 1
        ids.append([pad_id] * lack + row)
        keep.append([0] * lack + [1] * len(row))
    return ids, keep


def padded_with_zeros(batch, pad_id):
    """pad_id is never looked at."""
    width = max(map(len, batch))
    return [[0] * (width - len(row)) + row for row in batch], padded_on_the_left(batch, pad_id)[1]


def padded_and_all_kept(batch, pad_id):
    """The mask from rows that are already full."""
    ids, _ = padded_on_the_left(batch, pad_id)
    return ids, torch.ones_like(ids)


def padded_in_place(batch, pad_id):
    """Right numbers, written into the caller's lists."""
    keep = padded_on_the_left(batch, pad_id)[1]
    width = max(map(len, batch))
    for row in batch:
        while len(row) < width:
            row.insert(0, pad_id)
    return batch, keep


def padded_in_place_and_measured(batch, pad_id):
    """The lengths are read after they have changed."""
    ids, _ = padded_in_place(batch, pad_id)
    width = max(map(len, ids))
    return ids, [[0] * (width - len(row)) + [1] * len(row) for row in ids]


# ---- 01.4 --------------------------------------------------------------------------------------


def groups_from_the_right(number):
    """Right, from the end backwards."""
    groups = []
    while number:
        groups.insert(0, number[-3:])
        number = number[:-3]
    return groups


def groups_from_the_left(number):
    return re.findall(r"\d{1,3}", number)


def groups_not_turned_back(number):
    groups = []
    while number:
        groups.append(number[-3:])
        number = number[:-3]
    return groups


def groups_with_digits_turned(number):
    return list(reversed(re.findall(r"\d{1,3}", number[::-1])))


def groups_of_the_turned_number(number):
    return re.findall(r"\d{1,3}", number[::-1])


def groups_by_formatting(number):
    return format(int(number), ",").split(",")


def groups_filled_up(number):
    while len(number) % 3:
        number = "0" + number
    return re.findall(r"\d{3}", number)


def groups_with_an_empty_one(number):
    rest = len(number) % 3
    return [number[:rest], *re.findall("...", number[rest:])]


def groups_by_negative_slices(number):
    groups = []
    for i in range(0, len(number), 3):
        groups.insert(0, number[-i - 3 : -i])
    return groups


def groups_as_integers(number):
    return [int(group) for group in groups_from_the_right(number)]


# ---- all four ----------------------------------------------------------------------------------

RIGHT = {
    "01.1": merges_replayed,
    "01.2": pieces_longest_first,
    "01.3": padded_on_the_left,
    "01.4": groups_from_the_right,
}
# ---- more of them, for all exercises -------------------------------------------------------------


def merges_as_pairs_come(word, merges):
    known = set(merges)
    pieces = list(word)
    while True:
        for i, pair in enumerate(itertools.pairwise(pieces)):
            if pair in known:
                pieces = [*pieces[:i], "".join(pair), *pieces[i + 2 :]]
                break
        else:
            return pieces


def pieces_until_nothing_fits(word, vocabulary):
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = word[start:end] if start == 0 else "##" + word[start:end]
            if piece in vocabulary:
                pieces.append(piece)
                start = end
                break
        else:
            break
    return pieces


def pieces_with_marks_counted(word, vocabulary):
    pieces, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = word[start:end] if start == 0 else "##" + word[start:end]
            if piece in vocabulary:
                pieces.append(piece)
                start += len(piece)
                break
        else:
            return ["[UNK]"]
    return pieces


def padded_to_the_greatest(batch, pad_id):
    width = len(max(batch))
    rows, mask = [], []
    for ids in batch:
        lacking = width - len(ids)
        rows.append([pad_id] * lacking + ids)
        mask.append([0] * lacking + [1] * len(ids))
    return rows, mask


def padded_and_swapped(batch, pad_id):
    width = max(map(len, batch))
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in batch]
    return mask, [[pad_id] * (width - len(ids)) + ids for ids in batch]


def groups_that_are_full(number):
    groups = []
    for _ in range(len(number) // 3):
        groups.insert(0, number[-3:])
        number = number[:-3]
    return groups


def groups_without_the_rest(number):
    groups = []
    while len(number) > 3:
        groups.insert(0, number[-3:])
        number = number[:-3]
    return groups


# Wrong answer -> words that only its own message has.
WRONG = {
    "01.1": {
        merges_each_once: "in one place only",
        merges_newest_first: "wrong order",
        merges_as_longest_match: "longest known piece",
        merges_of_letters: "never again",
        merges_in_one_pass: "gone through once",
        merges_forgotten: "as they went in",
        merges_returned_too_early: "only the first merge",
        merges_on_the_letters_each_time: "only the last merge",
        merges_as_pairs_come: "wherever it comes first",
    },
    "01.2": {
        pieces_unmarked: "nobody can see",
        pieces_as_beginnings: "as if it began a word",
        pieces_marked_at_the_end: "looked up without",
        pieces_shortest_first: "longer ones were known too",
        pieces_and_unknown_rest: "keeps its beginning",
        pieces_and_unknown_letters: "single letter becomes unknown",
        pieces_of_two_letters_at_least: "a single letter is never tried",
        pieces_without_the_last_letter: "last letter is never part",
        pieces_until_nothing_fits: "pieces break off",
        pieces_with_marks_counted: "step over two letters",
    },
    "01.3": {
        padded_on_the_right: "padding follows the text",
        padded_as_multihead_attention_wants: "wrong way round",
        padded_and_compared: "leaves a real token out",
        padded_on_two_sides: "mask padded on the other side",
        padded_on_two_other_sides: "ids padded on the other side",
        padded_by_cutting: "tokens are lost",
        padded_while_not_longer: "one place too many",
        padded_with_zeros: "filled up with 0",
        padded_and_all_kept: "before or after",
        padded_in_place_and_measured: "in place",
        padded_in_place: "whoever called your function",
        padded_to_the_greatest: "still differ in length",
        padded_and_swapped: "in the other order",
    },
    "01.4": {
        groups_from_the_left: "counted from the left",
        groups_not_turned_back: "their order is not",
        groups_with_digits_turned: "inside each group",
        groups_of_the_turned_number: "whole number came out backwards",
        groups_by_formatting: "zero at the front has vanished",
        groups_filled_up: "digits that the number does not have",
        groups_with_an_empty_one: "first group is empty",
        groups_by_negative_slices: "ends at -0",
        groups_as_integers: "tokens are strings",
        groups_that_are_full: "do not fill a group",
        groups_without_the_rest: "first group is lost",
    },
}


@pytest.mark.parametrize("exercise", RIGHT)
def test_a_right_answer_of_another_kind_passes(exercise):
    assert outcome(exercise, RIGHT[exercise])[0] == "passed"
    assert outcome(exercise, find(exercise).reference)[0] == "passed"


WRONG_PAIRS = [(exercise, wrong) for exercise, answers in WRONG.items() for wrong in answers]


@pytest.mark.parametrize(
    ("exercise", "wrong"), WRONG_PAIRS, ids=lambda x: getattr(x, "__name__", x)
)
def test_each_misconception_has_its_own_message(exercise, wrong):
    status, messages = outcome(exercise, wrong)
    assert status == "wrong"
    assert len(messages) == 1  # whatever the random inputs
    assert WRONG[exercise][wrong] in messages.pop()


@pytest.mark.parametrize("exercise", WRONG)
def test_messages_differ_and_none_is_untested(exercise):
    messages = {outcome(exercise, wrong)[1].pop() for wrong in WRONG[exercise]}
    assert len(messages) == len(WRONG[exercise]) >= 3
    assert messages == set(find(exercise).mistakes)


def test_lost_letters_are_shown():
    status, messages = outcome("01.1", merges_that_lose_letters)
    assert status == "wrong"
    assert all("glued together your pieces spell" in message for message in messages)


def ids_wrong(batch, pad_id):
    """Right mask, ids that no named mistake gives."""
    ids, keep = padded_on_the_left(batch, pad_id)
    return ids + 100, keep


def mask_wrong(batch, pad_id):
    """Right ids, a mask that no named mistake gives."""
    ids, keep = padded_on_the_left(batch, pad_id)
    return ids, keep + 100


def test_01_3_says_which_of_the_two_is_wrong():
    for answer, words in [
        (ids_wrong, "the attention_mask is right, the ids are not"),
        (mask_wrong, "the ids are right, the attention_mask is not"),
        (lambda batch, pad_id: (batch, batch), "neither"),
        (lambda batch, pad_id: [[0]], "return two things"),
    ]:
        status, messages = outcome("01.3", answer)
        assert status == "wrong"
        assert all(words in message for message in messages)


def test_the_word_itself_is_not_the_list_of_its_pieces():
    status, messages = outcome("01.1", lambda word, merges: word)
    assert status == "wrong"
    assert all("as it went in, a string" in message for message in messages)


def test_an_unknown_mistake_in_01_1_is_shown_with_its_whole_input():
    status, messages = outcome("01.1", lambda word, merges: [word])
    assert status == "wrong"
    assert not any("…" in message for message in messages)
    for seed in range(100):
        word, merges = find("01.1").inputs(random.Random(seed))
        assert len(word) <= 6
        assert 3 <= len(merges) <= 4


@pytest.mark.parametrize("exercise", RIGHT)
def test_a_copied_answer_does_not_pass(exercise):
    task = find(exercise)
    copied = task.reference(*task.inputs(random.Random(0)))
    assert outcome(exercise, lambda *_: copied)[0] == "wrong"


@pytest.mark.parametrize("exercise", RIGHT)
def test_the_notebook_has_the_stub_and_the_check_calls_it_open(exercise):
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    source = next(
        text
        for cell in cells
        if cell["cell_type"] == "code"
        and f'check("{exercise}"' in (text := "".join(cell["source"]))
    )
    stub = source.split("llmlab.check")[0]
    space: dict = {}
    exec(stub, space)
    name = re.search(r"def (\w+)", stub)[1]
    assert outcome(exercise, space[name])[0] == "open"
    heading = next(
        line
        for cell in cells
        if cell["cell_type"] == "markdown"
        for line in "".join(cell["source"]).splitlines()
        if f"Exercise {exercise} ·" in line
    )
    assert re.search(r"· ★{1,3} · \d+ minutes$", heading)


# ---- the byte-pair encoding of the notebook -----------------------------------------------------


def notebook_functions():
    """count_pairs and merge as they stand in the notebook."""
    space = {"Counter": Counter, "pairwise": itertools.pairwise}
    for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        for name in ("count_pairs", "merge"):
            if cell["cell_type"] == "code" and f"def {name}(" in source:
                exec(re.search(rf"(?ms)^def {name}\(.*?\n(?=\S|\Z)", source + "\n")[0], space)
    return space["count_pairs"], space["merge"]


def trained_by_the_library(corpus, number):
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    letters = len(set("".join(corpus)))
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=letters + number, show_progress=False)
    library.train_from_iterator((" ".join([w] * n) for w, n in corpus.items()), trainer)
    return [tuple(pair) for pair in json.loads(library.to_str())["model"]["merges"]], library


def test_training_by_hand_agrees_with_the_library_on_any_text():
    """Not only on the notebook's five words: with the same rule for ties, on many others."""
    count_pairs, merge = notebook_functions()
    rng = random.Random(1)
    for _ in range(50):
        corpus = {
            "".join(rng.choices("abcd", k=rng.randint(2, 7))): rng.randint(1, 6) for _ in range(8)
        }
        words = {tuple(word): times for word, times in corpus.items()}
        vocabulary, merges = sorted(set("".join(corpus))), []
        while len(merges) < 10 and (pairs := count_pairs(words)):
            age = {piece: i for i, piece in enumerate(vocabulary)}
            best = min(pairs, key=lambda p: (-pairs[p], age[p[0]], age[p[1]]))
            words = {merge(pieces, best): times for pieces, times in words.items()}
            merges.append(best)
            vocabulary.append("".join(best))
        theirs, library = trained_by_the_library(corpus, len(merges))
        if len(set(vocabulary)) < len(vocabulary):
            continue  # one piece learned in two ways: the library counts it once
        assert merges == theirs
        for word in corpus:
            assert find("01.1").reference(word, merges) == library.encode(word).tokens


def test_the_reference_of_01_2_is_the_librarys_wordpiece():
    """On real words and the real BERT vocabulary's rules, not on our own toy alone."""
    reference = find("01.2").reference
    rng = random.Random(2)
    for _ in range(50):
        word, vocabulary = find("01.2").inputs(rng)
        ids = {piece: i for i, piece in enumerate(["[UNK]", *sorted(vocabulary)])}
        library = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token="[UNK]"))
        assert reference(word, vocabulary) == library.encode(word).tokens


def test_the_reference_of_01_3_is_what_a_tokenizer_does():
    """The same rows and mask as transformers makes of the same ids."""
    words = {"[PAD]": 0, "a": 5, "b": 6, "c": 7, "d": 8}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", padding_side="left"
    )
    theirs = tokenizer(["a b c", "d"], padding=True)
    rows, mask = find("01.3").reference([[5, 6, 7], [8]], 0)
    assert rows == theirs["input_ids"] == [[5, 6, 7], [0, 0, 8]]
    assert mask == theirs["attention_mask"]


@pytest.mark.parametrize(
    ("number", "groups"),
    [
        ("1234567", ["1", "234", "567"]),
        ("123456", ["123", "456"]),
        ("0042", ["0", "042"]),
        ("12", ["12"]),
    ],
)
def test_the_reference_of_01_4(number, groups):
    assert find("01.4").reference(number) == groups

"""Answers in words: what the rubrics find, what they can't be talked into, and what each says.

The right text is that of the solved notebook; each wrong one is made from it by a change.
"""

import re

import pytest

from llmlab import check
from llmlab.checks import rubric
from llmlab.checks.rubric import FULL, Rubric, agrees, cites, exercise, mentions, points
from llmlab.grading import hw2, hw3
from llmlab.grading.assignment import find
from tests.tools import homework
from tests.tools.notebooks import code_cells, read

# ---- the mechanism -------------------------------------------------------------------------------

MADE = Rubric(
    task="Say what a cat costs a year, whether more cats cost more, and why one has a cat at all.",
    facts=(
        cites(
            r"\bcats?\b", r"\byear", value=lambda m: [m["cat"]], missing="what costs?",
            confused=lambda measured: [measured["dog"]], wrong="that is the dog's.",
        ),
        points(
            "more", up=r"\brises?\b", down=r"\bfalls?\b", rises=lambda measured: True,
            missing="more or less?", wrong="the other way round.",
        ),
        mentions("purr", "mice", "soft", least=2, missing="why?"),
    ),
    figures=lambda measured: "" if set(measured) == {"cat", "dog"} else "other figures.",
    least=30,
)  # fmt: skip
FIGURES = {"cat": 1240.0, "dog": 1800}
TEXT = """
My table has 1,240 euros for a single cat in one year, most of it for food. When people keep more
of them the sum rises, though not as fast as their number. They are soft animals that purr in the
evening. Nobody needs a better reason than this, and the mice in the cellar agree with me.
"""


def heard(task, answer):
    """What a function that returns this answer is told."""
    return exercise("made", task).look(answer, FULL, ())


def test_a_text_with_all_facts_passes():
    assert MADE.faults((TEXT, FIGURES)) == () == MADE.faults(FULL)
    assert MADE.faults([TEXT, FIGURES]) == (), "a list, as it comes from another process"
    task = exercise("made", MADE)
    assert task.same((TEXT, FIGURES), FULL)
    assert "3 facts" in task.passed and "a person reads" in task.passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (TEXT, "return text, measured"),
        (None, "return text, measured"),
        ((FIGURES, TEXT), "your text in quotes, not a dict"),
        ((TEXT, {"cow": 1}), "other figures"),
        ((TEXT, 7), "figures are not those of the notebook"),
        (("", FIGURES), "too short"),
        ((" ".join(TEXT.split()[:29]), FIGURES), "too short"),
        ((TEXT.replace(".", ","), FIGURES), "in four sentences"),
        ((TEXT * 2, FIGURES), "repeats itself"),
        (("word " * 700, FIGURES), "too short"),
        (("A cat is a cat for me. " * 150, FIGURES), "too long"),
        (("A cat is a cat for me. " * 20, FIGURES), "repeats itself"),
        ((f"{MADE.task} {TEXT}", FIGURES), "task's own words"),
        ((re.sub(r"\w+ \w+ (\w+)", r"1 2 \1", TEXT), FIGURES), "list of numbers"),
        ((TEXT.replace("1,240", "1,340"), FIGURES), "what costs?"),
        ((TEXT.replace("1,240", "1,800"), FIGURES), "that is the dog's."),
        ((TEXT.replace("rises", "is another"), FIGURES), "more or less?"),
        ((TEXT.replace("rises", "falls"), FIGURES), "the other way round."),
        ((TEXT.replace("purr", "sing").replace("mice", "rats"), FIGURES), "why?"),
        ((TEXT.replace("1,240", "some").replace("rises", "goes"), FIGURES), "2 of 3 facts"),
        (NameError("name 'measured' is not defined"), "stopped with NameError: name 'measured'"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(answer, words):
    assert words in heard(MADE, answer)
    assert not isinstance(answer, tuple) or not exercise("made", MADE).same(answer, FULL)


def test_a_number_counts_beside_what_it_is_a_number_of():
    """Numbers at the end, all of them, are no statements."""
    bare = TEXT.replace("1,240 euros for a single cat in one year", "a good deal")
    assert "what costs?" in heard(
        MADE, (f"{bare} Also, I have two of them. 1240 1800 3 4", FIGURES)
    )


@pytest.mark.parametrize(
    ("passage", "value", "holds"),
    [
        ("22.7 times", 22.6875, True), ("23 times", 22.6875, True), ("22 times", 22.6875, False),
        ("22,7 times", 22.6875, True), ("1,024", 1024, True), ("1,02", 1.02, True),
        ("twice", 2.3, True), ("twice", 2.6, False), ("0.5", 0.54, True), ("0.50", 0.54, False),
        ("gpt2 has v4", 2, False), ("v1.5 of 2026", 1.5, False), ("1,024,000 ids", 1024000, True),
    ],
)  # fmt: skip
def test_a_number_agrees_as_far_as_it_is_written_out(passage, value, holds):
    assert agrees(passage, value) is holds


def test_sentences_are_not_cut_at_numbers():
    assert rubric.sentences("It is 4.1 of 7. So?\n\nYes") == ["It is 4.1 of 7.", "So?", "Yes"]


# ---- the homework's texts ------------------------------------------------------------------------


def written(name):
    """The solved notebook's text."""
    source = read(next(homework.HOMEWORK.glob(f"source/{name}/*.ipynb")))
    (cell,) = [c.source for c in code_cells(source) if "return text, measured" in c.source]
    return re.search(r'text = """(.*?)"""', cell, re.S)[1]


def told(number, text, measured):
    """What the check says, or "passed"."""
    result = check(number, lambda: (text, measured))
    return result.status if result else result.message


MEASURED_3 = {
    name: dict(zip(hw3.LANGUAGES, counts, strict=True)) for name, counts in hw3.TOKENS.items()
}
_SAID = ["He looked at the sea and said, he looked.", "of Texas laid ahead. Children diss both a"]
MEASURED_1 = {
    f"{model}, {heat}, {length}": {
        "model": model, "temperature": heat, "max_new_tokens": length, "distinct_2": distinct,
        "repetition": repetition, "perplexity": perplexity, "texts": _SAID,
    }
    for model, heat, length, distinct, repetition, perplexity in [
        ("gpt2-mini", 0.2, 16, 0.65, 0.0, 27.2), ("gpt2-mini", 0.2, 48, 0.48, 0.04, 14.4),
        ("gpt2-mini", 1.5, 16, 0.93, 0.0, 5060.0), ("gpt2-mini", 1.5, 48, 0.97, 0.0, 4770.0),
        ("SmolLM2", 0.2, 16, 0.85, 0.0, 3.44), ("SmolLM2", 0.2, 48, 0.68, 0.16, 3.04),
        ("SmolLM2", 1.5, 16, 0.87, 0.0, 1580.0), ("SmolLM2", 1.5, 48, 0.95, 0.0, 3400.0),
    ]
}  # fmt: skip
CHANGES = {
    "hw1": [
        (r"3\.04", "little", "what does temperature do?"),
        (r"3400", "5060", "what does temperature do?"),  # of the other model
        (r"at temperature 1\.5", "otherwise", "what does temperature do?"),
        (r"0\.48", "less", "what does max_new_tokens do?"),
        (r"(?s)with 16 new tokens to 0.48 with 48 of\s+them", "to 0.48", "what does max_new"),
        (r"27\.2", "more", "what does the model do?"),
        (r"27\.2", "5060", "what does the model do?"),
        ('"', "", "quote a place"),
        (r"(?s)(Texas laid ahead. Children diss|He looked at the sea)", "It was so fine", "quote"),
        (
            r"(?s)The lowest.*expect\.|repeats itself|comes again|no exception",
            "x",
            "why is the text of the lowest perplexity",
        ),
        (r"I propose", "there is", "which setting do you propose?"),
    ],
    "hw2": [
        (
            r"(?s)(270 of them in 30 layers, .*? in 4 layers|, and only 2 of .*?247 of 270)",
            "a few",
            "how many heads or layers",
        ),
        (
            r"(?s)(1 head is a sink, in SmolLM2 192 are|from 0.13 to 0.61)",
            "so",
            "how much goes to the first token",
        ),
        (r"1 head is a sink, in SmolLM2 192 are", "so", "passed"),
        (
            r"(?s)(attention\s+that is not needed: .*?leaves it there|rests on)",
            "seen at",
            "what is the attention to the first token for?",
        ),
        (r"0\.79", "more", "one more kind of head"),
        (r"0\.79", "0.97", "one more kind of head"),
        (r"0\.88", "much", "how well do the best heads copy"),
        (r"6\.65", "more", "what is the mean distance"),
        (
            r"(?s)The\s+distance is made of sinks.*farther\.",
            "So they read more of a text.",
            "what is SmolLM2's distance made of?",
        ),
        (r"(?s)None of this.*", "Such is the power of size.", "besides their size?"),
    ],
    "hw3": [
        (r"22\.7", "several", "which language is dearest"),
        (r"22\.7", "726", "Burmese's number of tokens; asked is how many times"),
        (r"76 tokens in the one and 132 in the other", "few and many tokens", "Serbian in Latin"),
        (r"76 tokens", "66 tokens", "Serbian in Latin"),
        (r"74 percent", "a lot", "passed"),  # both counts stand there
        (r"32 percent fit and of the Burmese one 9 percent", "less fits", "fits into 64 tokens"),
        (r"(?s)all of them are unknown.*?vowels", "they are cheap, which is good", "what do they"),
        (r"(people wait longer|be worse|rarely seen in)", "all go on", "three kinds"),
        (r"(?s)I would propose.*", "My figures say nothing on the quality of answers.", "propose"),
    ],
}
FIGURES_OF = {"hw1": MEASURED_1, "hw2": hw2.FIGURES, "hw3": MEASURED_3}


@pytest.mark.parametrize("name", CHANGES)
def test_the_solved_notebooks_text_passes(name):
    (part,) = [part for part in find(name).parts if part.read]
    assert told(part.number, written(name), FIGURES_OF[name]) == "passed"


@pytest.mark.parametrize(
    ("name", "pattern", "other", "message"),
    [(name, *change) for name, changes in CHANGES.items() for change in changes],
)
def test_each_fact_is_looked_for(name, pattern, other, message):
    """The right text with one statement gone or turned round hears which."""
    (part,) = [part for part in find(name).parts if part.read]
    text, count = re.subn(pattern, other, written(name))
    assert count
    assert message in told(part.number, text, FIGURES_OF[name])


@pytest.mark.parametrize("name", CHANGES)
def test_every_fact_has_a_text_that_lacks_it(name):
    (part,) = [part for part in find(name).parts if part.read]
    assert len([c for c in CHANGES[name] if c[2] != "passed"]) >= len(part.exercise.rubric.facts)


@pytest.mark.parametrize("name", CHANGES)
def test_no_text_is_had_for_nothing(name):
    """Empty, the task, its words in another order, the table itself, nothing but key words."""
    (part,) = [part for part in find(name).parts if part.read]
    task, measured = part.exercise.rubric.task, FIGURES_OF[name]
    for text in ("", task, task + task[::-1], f"{measured} " * 3, " ".join(task.split()[::-1]),
                 "\n".join(f"{k}: {v}." for k, v in measured.items()) * 4):  # fmt: skip
        assert told(part.number, text, measured) != "passed"
    assert told(part.number, written(name), {}) != "passed"
    assert check(part.number, written(name)).status == "wrong"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 1, 2], "3 combinations; at least four"),
        ([0, 0, 1, 1], "2 combinations; at least four"),
        ([0, 1, 2, 3], "rows of both models"),
        ([0, 4, 0, 4], "2 combinations"),
        ([0, 2, 4, 6], "two temperatures at least, and two lengths"),
        ([0, 1, 4, 5], "two temperatures at least, and two lengths"),
    ],
)
def test_hw1_looks_at_the_table_first(rows, message):
    """Too few combinations, or one of the three things left as it is."""
    all_rows = list(MEASURED_1.values())
    measured = {str(i): all_rows[row] for i, row in enumerate(rows)}
    assert message in told("hw1.5", written("hw1"), measured)


@pytest.mark.parametrize("change", [{"distinct_2": 1.2}, {"perplexity": 0.5}, {"texts": [""]}])
def test_hw1_refuses_figures_that_no_text_has(change):
    measured = MEASURED_1 | {"one more": {**MEASURED_1["SmolLM2, 0.2, 16"], **change}}
    assert "not those of the notebook" in told("hw1.5", written("hw1"), measured)


def test_hw3_knows_the_tokenizers_counts():
    """Of the notebook's own texts, counted here."""
    from transformers import AutoTokenizer

    import llmlab

    nb = read(next(homework.HOMEWORK.glob("source/hw3/*.ipynb")))
    places = {"llmlab": llmlab}
    for start in ("from transformers", "article = {"):
        (cell,) = [c.source for c in code_cells(nb) if c.source.startswith(start)]
        exec(cell, places)
    assert list(places["article"]) == hw3.LANGUAGES
    names = ["smollm2-135m", "gpt2-tokenizer", "gpt2-mini", "minilm"]
    for name, counts in zip(names, hw3.TOKENS.values(), strict=True):
        tokenizer = AutoTokenizer.from_pretrained(llmlab.models.path(name))
        texts = places["article"].values()
        assert [len(tokenizer.tokenize(text)) for text in texts] == counts


def test_facts_are_counted_and_a_fault_of_form_counts_none():
    assert hw3._RUBRIC.found(FULL) == len(hw3._RUBRIC.facts)
    assert hw3._RUBRIC.found(("too short", {})) == 0
    assert hw3._RUBRIC.found("no pair") == 0


def test_a_line_may_end_anywhere():
    fact = mentions(r"cut off", r"wait", least=2, missing="what follows?")
    assert fact("Their text is cut\n    off. They wait.", {}) == ""

"""`classify_many` beside transformers' pipeline: `python -m tests.tools.bench_classify`.

The three run in turn in one process on the same texts, each three times; the quickest run counts.
Before that, each has classified some texts, and the labels are compared.
"""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import llmlab
from llmlab import classification, data


def texts(count: int = 400) -> list[str]:
    """Texts of mixed length, 2 to about 120 words: posts, and several joined as in a review.

    Two in three are one of the shipped sample's texts, the others two to six of them.
    """
    rng = random.Random(0)
    posts = data.sentiment_sample()["text"].tolist()
    sizes = [1 if rng.random() < 2 / 3 else rng.randint(2, 6) for _ in range(count)]
    return [" ".join(rng.sample(posts, size)) for size in sizes]


def rows() -> Iterator[tuple[str, str, str]]:
    """What was measured: what, time, peak memory (not measured: the three share a process)."""
    path = llmlab.models.path("minilm-sentiment")
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=torch.float32).eval()
    plain = pipeline("text-classification", model=model, tokenizer=tokenizer)
    mixed = texts()
    words = [len(text.split()) for text in mixed]

    def ours(some: list[str]) -> list[str]:
        return classification.classify_many(model, tokenizer, some)["predicted"].tolist()

    ways: dict[str, Callable[[list[str]], list[str]]] = {
        "transformers' `pipeline`": lambda some: labels(plain(some)),
        "`pipeline(…, batch_size=32)`": lambda some: labels(plain(some, batch_size=32)),
        "`classify_many`": ours,
    }
    for way in ways.values():
        way(mixed[:50])
    seconds = {name: float("inf") for name in ways}
    answers = {}
    for _ in range(3):
        for name, way in ways.items():
            start = time.perf_counter()
            answers[name] = way(mixed)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    first, *rest = answers.values()
    if any(answer != first for answer in rest):
        raise RuntimeError("the three ways don't give the same labels")
    what = f"classifying {len(mixed)} texts of {min(words)} to {max(words)} words"
    for name, taken in seconds.items():
        yield f"{what}, {name}", f"{taken:.2f} s", ""
    one, many, quick = seconds.values()
    yield (
        "`classify_many` is faster than the pipeline, without and with batches of 32, by",
        f"**{one / quick:.1f}** and **{many / quick:.1f} times**",
        "",
    )


def labels(answers: list[dict[str, Any]]) -> list[str]:
    """The labels of a pipeline's answers."""
    return [answer["label"] for answer in answers]


def main() -> None:
    """Print the rows."""
    for row in rows():
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()

"""Stands in the place of `llmlab.checks` inside the sandbox: nothing is checked there."""

from types import SimpleNamespace
from typing import Any


class Result(SimpleNamespace):
    """What `check` returns, with nothing in it."""

    def __repr__(self) -> str:
        return f"{self.exercise} {self.status}"


def check(exercise: str, answer: Any) -> Result:
    """Say nothing. The points are counted outside."""
    return Result(exercise=exercise, status="is tried at the end", message="")


def exercises() -> dict:
    """None are to be seen here."""
    return {}

"""Stands in the place of `llmlab.checks` inside the sandbox: nothing is checked there."""

from types import SimpleNamespace
from typing import Any


def check(exercise: str, answer: Any) -> SimpleNamespace:
    """Say nothing. The points are counted outside."""
    return SimpleNamespace(exercise=exercise, status="not looked at here", message="")


def exercises() -> dict:
    """None are to be seen here."""
    return {}

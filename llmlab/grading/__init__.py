"""Homework of a whole class: run in isolation, counted outside, explained to each student."""

from llmlab.grading.assignment import Assignment, Part
from llmlab.grading.classroom import grade
from llmlab.grading.sandbox import Limits
from llmlab.grading.score import grade_one

__all__ = ["Assignment", "Limits", "Part", "grade", "grade_one"]

"""What a homework asks for: its parts, their functions and points."""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module

from llmlab.checks import Exercise
from llmlab.errors import LabError

_HOMEWORKS = {f"hw{n}": f"llmlab.grading.hw{n}" for n in range(1, 6)}


@dataclass(frozen=True)
class Part:
    """One graded part.

    Attributes:
        number: as in the notebook, such as "hw4.1".
        function: the name of the function that the notebook must define.
        points: given if it agrees with the reference on every input, else none; a text has its
            share for each fact that is found.
        exercise: what is right, on which inputs, and which mistakes are known.
        read: points beyond these that a person gives who reads the answer, a text, and writes
            them into read.csv (`llmlab.grading.pages`).
    """

    number: str
    function: str
    points: int
    exercise: Exercise
    read: int = 0


@dataclass(frozen=True)
class Assignment:
    """A homework.

    Attributes:
        name: such as "hw4".
        notebook: the name of its notebook, without a folder.
        parts: what is graded, in the notebook's order.
    """

    name: str
    notebook: str
    parts: tuple[Part, ...]

    @property
    def points(self) -> int:
        """The points of all parts together that are counted by a machine."""
        return sum(part.points for part in self.parts)

    @property
    def read(self) -> int:
        """The points beyond these that a person gives."""
        return sum(part.read for part in self.parts)


@cache
def find(name: str) -> Assignment:
    """The homework of that name.

    Raises:
        LabError: there is none.
    """
    if name not in _HOMEWORKS:
        near = get_close_matches(name, _HOMEWORKS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise LabError(f"There is no homework {name!r}. {hint}There are: {', '.join(_HOMEWORKS)}.")
    found: Assignment = import_module(_HOMEWORKS[name]).ASSIGNMENT
    return found

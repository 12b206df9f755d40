"""llmlab: what would distract from the lesson, and nothing else.

`import llmlab` is quick: each name below is loaded when it is first used, so that torch is
only imported by the cell that needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module it comes from. A module in its own right maps to itself.
_HOME = {
    "LabError": "llmlab.errors",
    "attention": "llmlab.attention",
    "batches": "llmlab.batches",
    "check": "llmlab.checks",
    "classification": "llmlab.classification",
    "data": "llmlab.data",
    "setup": "llmlab.session",
    "doctor": "llmlab.doctor",
    "fine_tuning": "llmlab.fine_tuning",
    "generation": "llmlab.generation",
    "models": "llmlab.models",
    "plots": "llmlab.plots",
    "views": "llmlab.views",
}

if TYPE_CHECKING:  # for editors and the type checker; nothing is loaded at run time
    from llmlab import (
        attention,
        batches,
        classification,
        data,
        doctor,
        fine_tuning,
        generation,
        models,
        plots,
        views,
    )
    from llmlab.checks import check
    from llmlab.errors import LabError
    from llmlab.session import setup

__all__ = [
    "LabError",
    "attention",
    "batches",
    "check",
    "classification",
    "data",
    "doctor",
    "fine_tuning",
    "generation",
    "models",
    "plots",
    "setup",
    "views",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"llmlab has no {name!r}. It has: {', '.join(__all__)}.")
    module = importlib.import_module(home)
    value = module if home == f"llmlab.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Tab completion offers the public names."""
    return [*__all__, "__version__"]

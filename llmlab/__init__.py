"""llmlab: what would distract from the lesson, and nothing else.

`import llmlab` is quick: each name below is loaded when it is first used, so that torch is
only imported by the cell that needs it.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module it comes from. A module in its own right maps to itself.
_HOME = {
    "LLM": "llmlab.llm",
    "LabError": "llmlab.errors",
    "api_map": "llmlab.course_map",
    "attention": "llmlab.attention",
    "batches": "llmlab.batches",
    "check": "llmlab.checks",
    "classification": "llmlab.classification",
    "data": "llmlab.data",
    "setup": "llmlab.session",
    "doctor": "llmlab.doctor",
    "encoder_decoder": "llmlab.encoder_decoder",
    "fine_tuning": "llmlab.fine_tuning",
    "generation": "llmlab.generation",
    "measure": "llmlab.measure",
    "models": "llmlab.models",
    "plots": "llmlab.plots",
    "progress": "llmlab.checks.progress",
    "views": "llmlab.views",
}

if TYPE_CHECKING:  # for editors and the type checker; nothing is loaded at run time
    from llmlab import (
        attention,
        batches,
        classification,
        data,
        doctor,
        encoder_decoder,
        fine_tuning,
        generation,
        measure,
        models,
        plots,
        views,
    )
    from llmlab.checks import check
    from llmlab.checks.progress import progress
    from llmlab.course_map import api_map
    from llmlab.errors import LabError
    from llmlab.llm import LLM
    from llmlab.session import setup

__all__ = [
    "LLM",
    "LabError",
    "api_map",
    "attention",
    "batches",
    "check",
    "classification",
    "data",
    "doctor",
    "encoder_decoder",
    "fine_tuning",
    "generation",
    "measure",
    "models",
    "plots",
    "progress",
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

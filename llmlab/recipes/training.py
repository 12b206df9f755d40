"""A training loop that can be interrupted at any moment and ends as if it had not been."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm

from llmlab.errors import LabError


def train(
    model: torch.nn.Module,
    loss_at: Callable[[int], torch.Tensor],
    *,
    steps: int,
    learning_rate: float,
    checkpoint: Path,
    warmup: int = 100,
    decay: float = 1.0,
    weight_decay: float = 0.01,
    clip: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    every: int = 100,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
) -> list[float]:
    """Train `model` in place with AdamW (Loshchilov & Hutter 2019). Returns the loss of every step.

    Everything random depends on `seed` and the number of the step alone, never on what ran before:
    therefore a run that is broken off and taken up again ends with the same weights, bit for bit.

    Args:
        model: its parameters that require a gradient are trained.
        loss_at: step -> the loss of that step's batch, a tensor of shape (). It may use torch's
            global random numbers (dropout does): they are seeded for each step.
        steps: how many optimizer steps there are in all.
        learning_rate: the largest one: reached after `warmup` steps, kept, and over the last part
            `decay` of all steps lowered in a straight line to zero.
        betas: how long AdamW remembers slopes, and their squares.
        checkpoint: the file that holds the state after every `every` steps. One that is there when
            training starts is continued; it stays when training is done.
        settings: whatever else the result depends on (data, batch size …), as JSON can write it.

    Raises:
        LabError: the checkpoint comes from a run with other settings.
    """
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    settings = {
        "steps": steps,
        "learning_rate": learning_rate,
        "warmup": warmup,
        "decay": decay,
        "weight_decay": weight_decay,
        "clip": clip,
        "betas": list(betas),
        "seed": seed,
        "parameters": {name: list(p.shape) for name, p in parameters.items()},
        **(settings or {}),
    }
    groups = [  # biases and the gains of norms are not pulled towards zero
        {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters.values() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)
    losses = _load(checkpoint, parameters, optimizer, settings) if checkpoint.exists() else []
    model.train()
    with tqdm(total=steps, initial=len(losses), unit="step", desc="training") as bar:
        for step in range(len(losses), steps):
            torch.manual_seed(seed * 1_000_003 + step)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * schedule(step, steps, warmup, decay)
            loss = loss_at(step)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters.values(), clip)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            if len(losses) % every == 0 or len(losses) == steps:
                _save(checkpoint, parameters, optimizer, settings, losses)
                bar.set_postfix(loss=f"{sum(losses[-every:]) / len(losses[-every:]):.3f}")
            bar.update()
    model.eval()
    return losses


def command_line(
    described: str | None,
    make: Callable[..., dict[str, Any]],
    folder: Path,
    steps: int,
    told: Callable[[dict[str, Any]], str],
) -> None:
    """The command line of a recipe: --out, --steps, --fresh.

    Args:
        described: what the recipe does.
        make: out, steps, fresh -> the figures of the model, which then lies in `out`.
        folder: where it goes by default.
        steps: how many optimizer steps by default.
        told: the figures -> what to print of them.
    """
    parser = argparse.ArgumentParser(description=described)
    parser.add_argument("--out", type=Path, default=folder, help="the folder to write to")
    parser.add_argument("--steps", type=int, default=steps, help="optimizer steps in all")
    parser.add_argument("--fresh", action="store_true", help="do not go on from a checkpoint")
    options = parser.parse_args()
    try:
        figures = make(options.out, options.steps, fresh=options.fresh)
    except LabError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Interrupted. The same command goes on from the last checkpoint.")
    print(told(figures))
    print(f"Written to {options.out}")


def schedule(step: int, steps: int, warmup: int, decay: float) -> float:
    """The part of the largest learning rate that step `step` (from 0) of `steps` takes.

    Up in a straight line over `warmup` steps, flat, down to zero over the last part `decay`.

    >>> [round(schedule(step, 10, warmup=2, decay=0.5), 1) for step in range(10)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    """
    return min(1.0, (step + 1) / max(1, warmup), (steps - step) / max(1, round(decay * steps)))


def shuffled(step: int, items: int, batch: int, seed: int = 0) -> torch.Tensor:
    """Which of `items` examples step `step` takes: `batch` different indices, shape (batch,).

    Each pass through the examples has an order of its own; the few that do not fill a last batch
    wait for the next pass.
    """
    epoch, place = divmod(step, items // batch)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(items, generator=generator)[place * batch : (place + 1) * batch]


def _save(
    path: Path,
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    settings: dict[str, Any],
    losses: list[float],
) -> None:
    """Write the state beside `path` and put it in place in one move: never half a checkpoint."""
    tensors = {f"model.{name}": p.detach() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"{key}.{name}"] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    notes = {"settings": json.dumps(settings), "losses": json.dumps(losses)}
    save_file({name: t.contiguous() for name, t in tensors.items()}, beside, metadata=notes)
    beside.replace(path)


def _load(
    path: Path,
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    settings: dict[str, Any],
) -> list[float]:
    """Put the state in `path` into the parameters and the optimizer; the losses until then."""
    with safe_open(path, framework="pt") as saved:
        notes = saved.metadata()
        was = json.loads(notes["settings"])
        if was != json.loads(json.dumps(settings)):
            other = sorted(k for k in was | settings if was.get(k) != settings.get(k))
            raise LabError(
                f"The checkpoint {path} comes from a run with other settings "
                f"({', '.join(other)}). Finish that run with its settings, or start afresh "
                "with --fresh."
            )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(saved.get_tensor(f"model.{name}"))
                optimizer.state[parameter] = {
                    key: saved.get_tensor(f"{key}.{name}")
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
    return list(json.loads(notes["losses"]))

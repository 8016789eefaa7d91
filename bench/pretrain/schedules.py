"""How learning rate, weight decay and the averaging momentum move over a run (protocol.md 7.1, 7.2).

Steps are counted from 1 for the learning rate and weight decay, and from 0 for the momentum, as in the official code.
"""

from __future__ import annotations

from bench.pretrain.presets import Optimisation
from bench.probing.optim import cosine


def learning_rate(recipe: Optimisation, step: int) -> float:
    """Linear warm-up, then the recipe's schedule: a stretched cosine, or constant with a linear decay at the end."""
    warmup = int(recipe.warmup_epochs * recipe.steps_per_epoch)
    if step < warmup:
        return recipe.start_lr + (recipe.lr - recipe.start_lr) * step / warmup
    if recipe.schedule == "cosine":
        progress = (step - warmup) / max(1, stretched_steps(recipe) - warmup)
        return max(recipe.final_lr, cosine(recipe.lr, recipe.final_lr, min(1.0, progress)))
    decay = int(recipe.decay_epochs * recipe.steps_per_epoch)
    past = max(0, step - (recipe.steps - decay))
    return recipe.lr + (recipe.final_lr - recipe.lr) * past / decay if past else recipe.lr


def weight_decay(recipe: Optimisation, step: int) -> float:
    """A cosine from the first to the last value over the stretched length."""
    return cosine(recipe.weight_decay, recipe.final_weight_decay, min(1.0, step / stretched_steps(recipe)))


def momentum(recipe: Optimisation, step: int) -> float:
    """A line from the first to the last value over the stretched length; `step` counts finished steps."""
    progress = min(1.0, step / stretched_steps(recipe))
    return recipe.ema + (recipe.final_ema - recipe.ema) * progress


def stretched_steps(recipe: Optimisation) -> int:
    """Steps that the cosines are computed for: longer than the run, which therefore stops before their end."""
    return int(recipe.steps * recipe.stretch)

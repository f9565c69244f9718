"""The learning rate of each step: a linear warm-up, then a cosine."""

import math

from .plan import TrainingPlan


def learning_rate(step: int, plan: TrainingPlan) -> float:
    """Rate of step 0 … `plan.steps` − 1: up to `lr` over `warmup` steps, down to `min_lr_ratio · lr` at the last."""
    if step < plan.warmup:
        return plan.lr * (step + 1) / plan.warmup
    remaining = max(1, plan.steps - 1 - plan.warmup)
    part = min(1.0, (step - plan.warmup) / remaining)
    lowest = plan.lr * plan.min_lr_ratio
    return lowest + (plan.lr - lowest) * (1 + math.cos(math.pi * part)) / 2

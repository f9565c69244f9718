"""Muon beside its definition by singular values, and beside torch's own."""

import pytest
import torch
from torch import nn

from bark_engine.training.muon import COEFFICIENTS, ROUNDS, Muon, orthogonal

SHAPES = [(16, 48), (16, 16), (64, 16), (16, 48)]


def by_singular_values(matrix: torch.Tensor) -> torch.Tensor:
    """What the rounds do, said with singular values: the quintic moves them and leaves the vectors alone."""
    left, singular, right = torch.linalg.svd(matrix.double() / matrix.double().norm(), full_matrices=False)
    first, second, third = COEFFICIENTS
    for _ in range(ROUNDS):
        singular = first * singular + second * singular**3 + third * singular**5
    return left @ torch.diag(singular) @ right


@pytest.mark.parametrize("shape", SHAPES)
def test_the_rounds_move_singular_values_only(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bark_engine.training.muon.best_training_dtype", lambda device: "float32")
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)) * 50
    ours = orthogonal(matrices)
    for matrix, update in zip(matrices, ours, strict=True):
        torch.testing.assert_close(update.double(), by_singular_values(matrix), rtol=0, atol=1e-4)


def test_no_gradient_at_all_is_no_step():
    assert torch.equal(orthogonal(torch.zeros(1, 4, 8)), torch.zeros(1, 4, 8))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch's Muon came with 2.9")
@pytest.mark.parametrize(("match_adamw", "torchs"), [(True, "match_rms_adamw"), (False, "original")])
def test_it_goes_where_torchs_goes(match_adamw: bool, torchs: str, monkeypatch: pytest.MonkeyPatch):
    """Within what bfloat16 leaves, in which torch's multiplies: a hundredth of the way after ten steps."""
    monkeypatch.setattr("bark_engine.training.muon.best_training_dtype", lambda device: "float32")
    rng = torch.Generator().manual_seed(2)
    first = [torch.randn(shape, generator=rng) for shape in SHAPES]
    mine, theirs = ([nn.Parameter(weight.clone()) for weight in first] for _ in range(2))
    optimizers = [
        Muon(mine, lr=0.01, weight_decay=0.1, match_adamw=match_adamw),
        torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn=torchs),
    ]
    for _ in range(10):
        for my_weight, their_weight in zip(mine, theirs, strict=True):
            my_weight.grad = torch.randn(my_weight.shape, generator=rng)
            their_weight.grad = my_weight.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for start, my_weight, their_weight in zip(first, mine, theirs, strict=True):
        assert (my_weight - their_weight).norm() < 0.01 * (their_weight - start).norm()


def test_what_is_no_matrix_is_refused():
    with pytest.raises(ValueError, match=r"matrices only; a weight of the shape \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))])

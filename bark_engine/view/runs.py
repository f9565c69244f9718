"""Runs: stretches in which one id repeats itself."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Run(NamedTuple):
    """One id, repeated from position `start` on, `length` times."""

    id: int
    start: int
    length: int


def run_starts(ids: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Where each run of `ids [T]` begins."""
    return np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))


def longest_run(ids: npt.NDArray[np.integer]) -> Run:
    """The longest run of `ids [T]`, the first of several."""
    starts = run_starts(ids)
    lengths = np.diff(starts, append=len(ids))
    number = int(lengths.argmax())
    return Run(int(ids[starts[number]]), int(starts[number]), int(lengths[number]))

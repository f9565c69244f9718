"""What is looked at, in words: lengths, distinct ids, repeats, silence, and what the trace knew."""

import math
from typing import NamedTuple

import numpy as np

from ..audio import Audio
from ..tokens import SemanticTokens, Tokens
from ..trace import Trace
from .runs import longest_run
from .sound import WAVE_RATE, wave_columns
from .timeline import View

SILENCE_DB = -50.0  # below the peak: the hush between words, and the codec's own noise, are quieter than this
SAME_LENGTH = 0.04  # seconds: rounding between 49.9 tokens and 75 frames per second, and not more


class Silence(NamedTuple):
    """Seconds of silence at the beginning and at the end, and the longest inside with where it starts."""

    beginning: float
    end: float
    inside: float
    inside_at: float


def summary(view: View) -> str:
    """Lines of text about everything in the view; what the lines say is also what can be seen."""
    family = f", family {view.family}" if view.family else ""
    lines = [f"{_seconds(view.seconds)}{family}"]
    lines += [_token_line(name, tokens, view) for name, tokens in view.tokens.items() if tokens is not None]
    lines += [_sound_line(view.audio)] if view.audio is not None else []
    lines.append(_silence_line(view))
    lines += _trace_lines(view, view.trace) if view.trace is not None else []
    lines += _misfits(view)
    return "\n".join(line for line in lines if line)


def silence(audio: Audio) -> Silence:
    """Where a sound is more than 50 dB below its peak, to 1/150 s; a sound without a peak is all beginning."""
    columns = wave_columns(audio)
    loudness = np.abs(columns).max(axis=1)
    limit = float(loudness.max()) * 10.0 ** (SILENCE_DB / 20.0)
    loud = np.flatnonzero(loudness >= limit) if limit > 0.0 else np.array([], dtype=np.int64)
    if not loud.size:
        return Silence(audio.seconds, 0.0, 0.0, 0.0)
    gaps = np.diff(loud) - 1
    longest = int(gaps.argmax()) if gaps.size else 0
    inside = int(gaps[longest]) if gaps.size else 0
    at = int(loud[longest]) + 1 if inside else 0
    end = max(0.0, audio.seconds - (int(loud[-1]) + 1) / WAVE_RATE)
    return Silence(int(loud[0]) / WAVE_RATE, end, inside / WAVE_RATE, at / WAVE_RATE)


def _token_line(name: str, tokens: Tokens, view: View) -> str:
    rows = np.atleast_2d(np.asarray(tokens))
    is_semantic = isinstance(tokens, SemanticTokens)
    count = f"{len(tokens):,} tokens" if is_semantic else f"{len(rows)} × {len(tokens):,} frames"
    distinct = [len(np.unique(row)) for row in rows]
    told = f"{distinct[0]} distinct ids" if is_semantic else f"distinct ids {', '.join(map(str, distinct))}"
    return (
        f"{name}: {count}, {_seconds(tokens.seconds)} at {view.rate(name):g} per second; {told}; "
        f"longest repeat {_longest_repeat(rows, view.rate(name))}"
    )


def _longest_repeat(rows: np.ndarray, rate: float) -> str:
    runs = [longest_run(row) for row in rows]
    row = max(range(len(runs)), key=lambda number: runs[number].length)
    run = runs[row]
    if run.length == 1:
        return "none"
    where = f" in codebook {row}" if len(runs) > 1 else ""
    span = f"{run.start / rate:.2f} … {_seconds((run.start + run.length) / rate)}"
    return f"{run.length} × id {run.id}{where}, {span}"


def _sound_line(audio: Audio) -> str:
    peak = float(np.abs(audio.samples).max())
    loudness = f"peak {20.0 * math.log10(peak):.1f} dBFS".replace("-", "−") if peak else "all zero"
    return f"audio: {len(audio.samples):,} samples, {_seconds(audio.seconds)} at {audio.sample_rate:,} Hz; {loudness}"


def _silence_line(view: View) -> str:
    if view.audio is None:
        some = any(tokens is not None for tokens in view.tokens.values())
        return "silence: not measured without audio; the longest repeat stands for it" if some else ""
    if not view.audio.samples.any():
        return "silence: all of it"
    found = silence(view.audio)
    where = f" from {_seconds(found.inside_at)} on" if found.inside else ""
    return (
        f"silence (50 dB below the peak): {_seconds(found.beginning)} at the beginning, {_seconds(found.end)} at the "
        f"end, longest inside {_seconds(found.inside)}{where}"
    )


def _trace_lines(view: View, trace: Trace) -> list[str]:
    lines = []
    if not np.isnan(trace.probability).all():  # else it only carries a tail
        lines.append(
            f"trace ({trace.kind}): mean probability {np.nanmean(trace.probability):.3f}, "
            f"mean entropy {np.nanmean(trace.entropy):.2f} nats"
        )
    if trace.end_probability is not None and len(trace.end_probability):
        lines.append(f"end of speech: probability {trace.end_probability[-1]:.3f} at the last step")
    lines += [
        f"rule {name!r}: would have stopped at step {step}, {_seconds(step / view.rate(trace.kind))}"
        for name, step in trace.stops.items()
    ]
    return [*lines, f"tail: {trace.tail['reason']}"] if trace.tail is not None else lines


def _misfits(view: View) -> list[str]:
    """What does not lie over each other, in words."""
    lines = []
    trace, tokens = view.trace, view.tokens[view.trace.kind] if view.trace is not None else None
    if trace is not None and tokens is not None and tokens.shape != trace.probability.shape:
        cut = trace.tail is not None and len(tokens) == trace.tail["step"]  # by Trim Tail, which shows what it left out
        if not cut:
            lines.append(
                f"The trace is not of these tokens: its shape is {list(trace.probability.shape)}, that of the "
                f"{trace.kind} tokens {list(tokens.shape)}."
            )
    lengths = view.lengths
    if max(lengths.values()) - min(lengths.values()) > SAME_LENGTH:
        told = ", ".join(f"{name} {_seconds(length)}" for name, length in lengths.items())
        lines.append(f"The lengths differ: {told}.")
    return lines


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"

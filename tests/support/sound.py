"""Sound files for tests, through PyAV: read one with its metadata, write a FLAC."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


@dataclass(frozen=True)
class Sound:
    """What a file holds: samples float32 `[C, n]`, rate in Hz, the container's metadata."""

    samples: np.ndarray
    rate: int
    metadata: dict[str, str]


def read_sound(path: Path) -> Sound:
    """Decode the first audio stream of a file."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        metadata = {**stream.metadata, **container.metadata}
        frames = list(container.decode(stream))
        rate, channels = frames[0].sample_rate, frames[0].layout.nb_channels
        parts = []
        for frame in frames:
            part = frame.to_ndarray()
            parts.append(part if frame.format.is_planar else part.reshape(-1, channels).T)
    samples = np.concatenate(parts, axis=1)
    if samples.dtype.kind == "i":
        samples = samples / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    return Sound(samples.astype(np.float32), rate, metadata)


def write_flac(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write float `[C, n]` as 16-bit FLAC."""
    layout = {1: "mono", 2: "stereo"}[samples.shape[0]]
    whole = np.clip(np.rint(samples.T * 32767), -32768, 32767).astype(np.int16)
    with av.open(str(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(whole.reshape(1, -1)), "s16", layout)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        container.mux([*stream.encode(frame), *stream.encode(None)])

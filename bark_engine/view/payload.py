"""What is looked at, as bytes for the browser: one safetensors file that the view on the node is drawn from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from safetensors.numpy import save

from .sound import SPECTROGRAM_RATE, WAVE_RATE, top_hertz, wave_columns
from .summary import summary
from .timeline import View


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """Named arrays and texts on their way into a file."""

    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str]

    @property
    def mark(self) -> str:
        """Equal for equal content, and only then; the bytes are not, because safetensors shuffles its metadata."""
        digest = hashlib.sha256(json.dumps(dict(self.metadata), sort_keys=True).encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:24]

    def to_bytes(self) -> bytes:
        """The safetensors file."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        return save(arrays, metadata=dict(self.metadata))


def make_payload(view: View, sound_file: Mapping[str, str] | None = None) -> Payload:
    """Everything that the browser draws; `sound_file` says where it finds the sound.

    Arrays, only those that are there: `semantic` int32 `[T]`, `coarse` int32 `[2, F]`, `fine` int32 `[8, F]`;
    `trace.probability` and `trace.entropy` float32 in the shape of their tokens, `trace.end_probability` float32
    `[N]`; `wave` float32 `[columns, 2]`; `spectrogram` uint8 `[bands, columns]`. The metadata are texts: rates per
    second, the length in seconds, the summary, and JSON for what has parts.
    """
    arrays: dict[str, np.ndarray] = {
        name: np.asarray(tokens, dtype=np.int32) for name, tokens in view.tokens.items() if tokens is not None
    }
    spec = view.spec
    metadata = {
        "family": view.family,
        "semantic_rate": f"{spec.semantic_rate:g}",
        "frame_rate": f"{spec.frame_rate:g}",
        "semantic_vocab": str(spec.semantic_vocab),
        "codebook_size": str(spec.codebook_size),
        "seconds": repr(view.seconds),
        "summary": summary(view),
    }
    if view.trace is not None:
        for name in ("probability", "entropy", "end_probability"):
            values = getattr(view.trace, name)
            if values is not None:
                arrays[f"trace.{name}"] = np.asarray(values, dtype=np.float32)
        metadata |= {"trace_kind": view.trace.kind, "stops": json.dumps(dict(view.trace.stops))}
        if view.trace.tail is not None:
            metadata["tail"] = json.dumps(dict(view.trace.tail))
    if view.audio is not None:
        arrays |= {"wave": wave_columns(view.audio), "spectrogram": view.spectrogram}
        metadata |= {"wave_rate": str(WAVE_RATE), "spectrogram_rate": str(SPECTROGRAM_RATE)}
        metadata["top_hertz"] = f"{top_hertz(view.audio.sample_rate):g}"
    if sound_file is not None:
        metadata["audio"] = json.dumps(dict(sound_file))
    return Payload(arrays, metadata)

"""Sound files: `save_audio` writes WAV, FLAC, MP3 and Opus, with a workflow inside, complete or not at all.

WAV is put together here, so that a plain file needs nothing but numpy, and so that 24-bit, float and a comment fit
in one small writer (neither `wave` nor scipy has all three). The other formats are encoded by PyAV, which ComfyUI
brings; it is imported when such a file is written. Mono stays mono. Nothing here reads sound files.
"""

import io
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .atomic import replacing
from .audio import Audio, checked_rate, resample
from .errors import BarkFileError, BarkInputError

FloatArray = npt.NDArray[np.float32]

MAX_CHANNELS = 8
_FLAC_METADATA = 2**24 - 1 - 18  # bytes: one block, less what FFmpeg writes of itself and leaves free in it
_BLOCK = 2**16  # samples given to an encoder at a time
_QP2LAMBDA = 118  # FFmpeg's unit of "global_quality" for variable bit rates


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """What one kind of sound file can hold: qualities (the first is the default), channels, sample rates, metadata."""

    name: str
    suffix: str
    qualities: tuple[str, ...]
    max_channels: int = MAX_CHANNELS
    sample_rates: tuple[int, ...] = ()  # ascending, in Hz; empty: any
    max_metadata: int | None = None  # bytes of all keys and texts, each with five more; None: more than anybody has


FORMATS: dict[str, AudioFormat] = {
    "wav": AudioFormat("WAV", ".wav", ("16-bit", "24-bit", "32-bit float")),
    "flac": AudioFormat("FLAC", ".flac", ("16-bit", "24-bit"), max_metadata=_FLAC_METADATA),
    "mp3": AudioFormat(
        "MP3",
        ".mp3",
        ("V0", "V2", "V4", "64k", "96k", "128k", "160k", "192k", "256k", "320k"),  # V: variable bit rate of LAME
        max_channels=2,
        sample_rates=(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    ),
    # Opus itself can hold more channels, but FFmpeg's encoder swaps them for five and seven and crashes for eight.
    "opus": AudioFormat(
        "Opus",
        ".opus",
        ("128k", "32k", "64k", "96k", "192k", "256k"),
        max_channels=2,
        sample_rates=(8_000, 12_000, 16_000, 24_000, 48_000),
    ),
}


def save_audio(
    path: str | os.PathLike[str],
    samples: npt.ArrayLike,
    sample_rate: int,
    file_format: str = "wav",
    *,
    quality: str | None = None,
    metadata: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> None:
    """Write samples `[n]` or `[C, n]` (float, −1 … 1) as a sound file; an older file of that name is replaced last.

    `file_format` is a key of `FORMATS`, `quality` one of its qualities (None: the first). Whole-number samples are
    `rint(x · (2^(bits−1) − 1))`, ties to even, after clamping to −1 … 1; 32-bit float is written as it is. MP3 and
    Opus know few sample rates: others are resampled to `encoded_rate`.

    `metadata` maps keys to texts, in ComfyUI `prompt` and `workflow` to JSON. FLAC, MP3 and Opus hold each under its
    own key, where ComfyUI's front end finds it when the file is dropped on the canvas; a WAV file holds all of them
    as one JSON object in its comment (RIFF INFO ICMT), which ComfyUI does not look for.

    Raises BarkInputError for samples, settings or metadata that the format cannot hold (a FLAC ends at 16 MiB of
    metadata, and none is left out unasked) and for a missing PyAV, BarkFileError when the file cannot be written, or is
    there already and `overwrite` is off. Either way nothing half-written stays and an older file is untouched.
    """
    path, kind = Path(path), _format(file_format)
    checked = check_samples(samples)
    sample_rate = checked_rate(sample_rate)
    channels = checked.shape[0]
    if channels > kind.max_channels:
        raise BarkInputError(
            f"The sound has {channels} channels; {kind.name} is written here with at most {kind.max_channels}. "
            "Choose WAV or FLAC, or mix it down."
        )
    _check_metadata(kind, metadata or {})
    rate = encoded_rate(file_format, sample_rate)
    quality = _quality(file_format, quality, rate)
    if path.exists() and not path.is_file():
        raise BarkFileError(f"{path} is a folder or a device, not a file. Choose another name for the sound.")
    checked = resample_channels(checked, sample_rate, rate)
    if file_format == "wav":
        content = _wav(checked, rate, quality, metadata or {})
    else:
        content = _encode(checked, rate, file_format, quality, metadata or {})
    with replacing(path, "The sound", overwrite) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def encoded_rate(file_format: str, sample_rate: int) -> int:
    """The rate a file of this format will have: the same, or the next higher that it knows, or its highest (Hz)."""
    rates = _format(file_format).sample_rates
    if not rates:
        return sample_rate
    return next((rate for rate in rates if rate >= sample_rate), rates[-1])


def check_samples(samples: npt.ArrayLike) -> FloatArray:
    """Samples `[n]` or `[C, n]` as float32 `[C, n]`; BarkInputError for none, NaN, integers or more than 8 channels."""
    array = np.asarray(samples)
    if array.dtype.kind != "f" or array.ndim not in (1, 2):
        raise BarkInputError(
            f"Sound must be samples [n] or [channels, n] of floating point, −1 … 1; this is {array.dtype} "
            f"{list(array.shape)}."
        )
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite and is refused below
        array = np.atleast_2d(array.astype(np.float32, copy=False))
    if array.size == 0:
        raise BarkInputError("The sound has no samples, so there is nothing to save. Check the node before this one.")
    if array.shape[0] > MAX_CHANNELS:
        raise BarkInputError(
            f"The sound has {array.shape[0]:,} channels; files hold at most {MAX_CHANNELS}. Its shape must be "
            "[channels, samples]; a transposed array looks like this."
        )
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise BarkInputError(
            f"{bad:,} of the sound's samples are not numbers (NaN or infinite), so it cannot be saved. Make it again; "
            "if it was decoded in float16, try float32."
        )
    return array


def resample_channels(samples: npt.ArrayLike, sample_rate: int, new_rate: int) -> FloatArray:
    """Samples `[C, n]` at another rate (Hz), each channel as `audio.resample` does it; may overshoot ±1 slightly."""
    checked = check_samples(samples)
    sample_rate, new_rate = checked_rate(sample_rate), checked_rate(new_rate)
    if new_rate == sample_rate:
        return checked
    return np.stack([resample(Audio(channel, sample_rate), new_rate).samples for channel in checked])


def peak_normalise(samples: npt.ArrayLike, target_dbfs: float = -1.0) -> FloatArray:
    """Samples `[C, n]` scaled so that the loudest of all channels reaches the target; silence stays silence.

    `target_dbfs` is in decibels below full scale, −60 … 0. Raises BarkInputError.
    """
    if not -60.0 <= target_dbfs <= 0.0:
        raise BarkInputError(f"The peak to normalise to must lie in −60 … 0 dBFS; {target_dbfs} does not.")
    checked = check_samples(samples)
    peak = float(np.abs(checked).max())
    if peak == 0.0:
        return checked
    gain = 10.0 ** (target_dbfs / 20.0) / peak
    return (checked.astype(np.float64) * gain).astype(np.float32)  # a quiet sound's gain can exceed float32


def _format(file_format: str) -> AudioFormat:
    if file_format not in FORMATS:
        raise BarkInputError(f"{file_format!r} is no known sound file format. Choose one of: {', '.join(FORMATS)}.")
    return FORMATS[file_format]


def _quality(file_format: str, quality: str | None, rate: int) -> str:
    """The quality to write, refused where the format does not have it or not at this rate."""
    kind = FORMATS[file_format]
    if quality is None:
        return kind.qualities[0]
    if quality not in kind.qualities:
        raise BarkInputError(f"{quality!r} is no quality of {kind.name}. Choose one of: {', '.join(kind.qualities)}.")
    if file_format == "mp3" and quality.endswith("k"):
        # MPEG-1, -2 and -2.5 Layer III: the lower the sample rate, the lower the highest bit rate.
        ceiling = 320 if rate >= 32_000 else 160 if rate >= 16_000 else 64
        if int(quality[:-1]) > ceiling:
            raise BarkInputError(
                f"MP3 at {rate:,} Hz reaches at most {ceiling}k, not {quality}. Choose a bit rate of up to {ceiling}k, "
                "or save at 44,100 Hz."
            )
    return quality


def _check_metadata(kind: AudioFormat, metadata: Mapping[str, str]) -> None:
    """Refuse what does not fit, before FFmpeg does without saying why."""
    if kind.max_metadata is None:
        return
    sizes = {key: len(f"{key}{text}".encode(errors="replace")) + 5 for key, text in metadata.items()}
    if sum(sizes.values()) <= kind.max_metadata:
        return
    others = ", ".join(other.name for other in FORMATS.values() if other.max_metadata is None)
    parts = ", ".join(f"{key} {size / 2**20:.1f} MiB" for key, size in sizes.items())
    raise BarkInputError(
        f"{kind.name} holds at most {kind.max_metadata / 2**20:.0f} MiB of workflow and other metadata; here it is "
        f"{parts}, so nothing was saved. Save as one of {others}, which hold more, take what is large out of the "
        "workflow (pictures, often), or start ComfyUI with --disable-metadata."
    )


def _whole_numbers(samples: FloatArray, bits: int) -> npt.NDArray[np.int32]:
    """Samples as signed whole numbers of `bits` bits: ±1 become ±(2^(bits−1) − 1), ties go to the even number."""
    scale = 2 ** (bits - 1) - 1
    return np.rint(np.clip(samples.astype(np.float64), -1.0, 1.0) * scale).astype(np.int32)


def _wav(samples: FloatArray, rate: int, quality: str, metadata: Mapping[str, str]) -> bytes:
    """A RIFF WAVE file: format, samples, and the metadata behind them, so that plain files have a 44-byte header."""
    channels, frames = samples.shape
    if quality == "32-bit float":
        tag, bits = 3, 32
        data = samples.T.astype("<f4").tobytes()
    else:
        tag, bits = 1, int(quality.removesuffix("-bit"))
        whole = np.ascontiguousarray(_whole_numbers(samples, bits).T, dtype="<i4")
        data = whole.view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()  # little-endian: the low bytes
    frame_bytes = channels * bits // 8
    numbers = (channels, rate, rate * frame_bytes, frame_bytes, bits)
    if channels > 2:  # WAVE_FORMAT_EXTENSIBLE; a mask of 0 leaves open which loudspeaker a channel is for
        guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
        form = struct.pack("<HHIIHH", 0xFFFE, *numbers) + struct.pack("<HHI", 22, bits, 0) + guid
    else:
        form = struct.pack("<HHIIHH", tag, *numbers) + (struct.pack("<H", 0) if tag == 3 else b"")
    chunks = _chunk(b"fmt ", form)
    if tag == 3:
        chunks += _chunk(b"fact", struct.pack("<I", frames))
    size = len(chunks) + len(data)
    if size > 0xFFFFFFFF - 2**26:  # keeps room for the comment
        raise BarkInputError("The sound is larger than the 4 GB that a WAV file can hold. Choose FLAC, or split it.")
    chunks += _chunk(b"data", data)
    if metadata:
        comment = json.dumps(dict(metadata)).encode("ascii") + b"\0"
        chunks += _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", comment))
    return _chunk(b"RIFF", b"WAVE" + chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    """One RIFF chunk: name, length, content, and a zero byte where the length is odd."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _encode(samples: FloatArray, rate: int, file_format: str, quality: str, metadata: Mapping[str, str]) -> bytes:
    """A FLAC, MP3 or Opus file by PyAV. Bit-exact mode keeps random serial numbers out: equal sound, equal file."""
    kind = FORMATS[file_format]
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise BarkInputError(
            f"{kind.name} files are written by PyAV, which cannot be imported ({error}). Install it (pip install av) "
            "or save as WAV, which needs nothing."
        ) from None

    codec, sample_format, options = _encoder(file_format, quality)
    layout = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")[samples.shape[0] - 1]
    data = _in_sample_format(samples, sample_format, quality)
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format=file_format, options={"fflags": "+bitexact"}) as container:
            container.metadata.update(metadata)
            stream: Any = container.add_stream(codec, rate=rate, layout=layout, options=options)
            stream.codec_context.format = sample_format
            for start in range(0, data.shape[1], _BLOCK):
                block = np.ascontiguousarray(data[:, start : start + _BLOCK])
                if not sample_format.endswith("p"):  # packed: channels side by side in one row
                    block = np.ascontiguousarray(block.T).reshape(1, -1)
                frame = av.AudioFrame.from_ndarray(block, format=sample_format, layout=layout)
                frame.sample_rate = rate
                frame.pts = start
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except FFmpegError as error:
        raise BarkFileError(
            f"{kind.name} at {rate:,} Hz with {samples.shape[0]} channel(s) could not be encoded ({error}). "
            "Save at 44,100 or 48,000 Hz, or as WAV."
        ) from error
    return buffer.getvalue()


def _encoder(file_format: str, quality: str) -> tuple[str, str, dict[str, str]]:
    """FFmpeg's name of the encoder, the sample format it reads, and its options for a quality."""
    if file_format == "flac":
        return "flac", "s16" if quality == "16-bit" else "s32", {}
    codec, sample_format = ("libmp3lame", "fltp") if file_format == "mp3" else ("libopus", "flt")
    if quality.startswith("V"):
        return codec, sample_format, {"flags": "+qscale", "global_quality": str(int(quality[1:]) * _QP2LAMBDA)}
    return codec, sample_format, {"b": quality}


def _in_sample_format(samples: FloatArray, sample_format: str, quality: str) -> npt.NDArray[Any]:
    """Samples `[C, n]` as the numbers an encoder reads; FLAC takes its 24 bits from the top of 32."""
    if sample_format == "s16":
        return _whole_numbers(samples, 16).astype(np.int16)
    if sample_format == "s32":
        return _whole_numbers(samples, 24) << 8
    return samples

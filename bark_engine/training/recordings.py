"""Recordings and their texts on the disk: found, read, and judged before anything is made from them."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..audio import Audio
from ..errors import BarkFileError, BarkInputError
from ..keep.riff import open_wav
from ..spec import BarkSpec

METADATA_FILE = "metadata.csv"
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".aiff", ".wma")
FRAME_SECONDS = 0.02  # in which loudness is measured
CLIPPED = 0.999  # from here on, a sample is at the limit of its format


@dataclass(frozen=True, slots=True)
class Recording:
    """A sound file and what is said in it. `name` is its path inside the folder, without the ending."""

    name: str
    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a recording must be like. The longest is that of the models (`BarkSpec.max_seconds`).

    Rates are characters of text per second of sound, for languages written in letters: English has about 15. Levels
    are RMS of 20 ms in dB below full scale. `clipped` is the share of samples at full scale.
    """

    min_seconds: float = 0.5
    min_rate: float = 3.0
    max_rate: float = 30.0
    quietest: float = -45.0  # of the loudest 20 ms: below, nobody speaks
    silence: float = -35.0  # under the loudest 20 ms; a pause is what is below
    max_pause: float = 1.5  # seconds
    clipped: float = 0.001


def find_recordings(folder: Path) -> list[Recording]:
    """The recordings of a folder, in the order of their names.

    With a `metadata.csv` (LJSpeech's form: `name|text` or `name|text as written|text as spoken`, where the last is
    taken), sound files are `name`, `name.wav` or `wavs/name.wav`. Without, every sound file that has a `.txt` of its
    name beside it. Raises BarkFileError for a folder or a text that is missing or cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BarkFileError(f"There is no folder {folder}. Give the folder of the recordings.")
    metadata = folder / METADATA_FILE
    found = _from_metadata(folder, metadata) if metadata.is_file() else _from_text_files(folder)
    if not found:
        raise BarkFileError(
            f"{folder} has no recordings with a text. Put a .txt of the same name beside each sound file, or a "
            f"{METADATA_FILE} with lines of the form name|text."
        )
    return sorted(found, key=lambda recording: recording.name)


def read_recording(path: Path) -> Audio:
    """A WAV file as one channel, the mean of all. Raises BarkInputError, the reason to refuse it, for anything else."""
    if path.suffix.lower() != ".wav":
        raise BarkInputError(f"it is a {path.suffix} file; only WAV is read. Convert it, with ffmpeg for example")
    try:
        wav = open_wav(path)
        return Audio(wav.samples().mean(axis=0), wav.sample_rate)
    except (OSError, BarkFileError) as error:
        raise BarkInputError(f"it cannot be read as WAV ({str(error).removesuffix('.')})") from None


def fault_of(audio: Audio, text: str, spec: BarkSpec, limits: Limits) -> str | None:
    """Why a recording cannot be used, as the end of a sentence; None where nothing is wrong."""
    seconds = audio.seconds
    if seconds < limits.min_seconds:
        return f"it is {seconds:.2f} s long; at least {limits.min_seconds:g} s are needed"
    if seconds > spec.max_seconds:
        return f"it is {seconds:.1f} s long; the models speak {spec.max_seconds:.1f} s at most in one go. Cut it"
    levels = _levels(audio)
    loudest = float(levels.max())
    if loudest < limits.quietest:
        return f"it is silent: its loudest moment has {loudest:.0f} dB, less than {limits.quietest:g} dB"
    pause, at = _longest_pause(levels < loudest + limits.silence)
    if pause > limits.max_pause:
        return f"it has a pause of {pause:.1f} s at {at:.1f} s; {limits.max_pause:g} s are allowed. Cut it there"
    clipped = float(np.mean(np.abs(audio.samples) >= CLIPPED))
    if clipped > limits.clipped:
        return f"it is clipped: {clipped:.1%} of its samples are at full scale, {limits.clipped:.1%} are allowed"
    rate = len("".join(text.split())) / seconds
    if not limits.min_rate <= rate <= limits.max_rate:
        return (
            f"its text does not fit its length: {rate:.1f} characters per second, "
            f"{limits.min_rate:g} … {limits.max_rate:g} are usual. Check the text"
        )
    return None


def _from_metadata(folder: Path, metadata: Path) -> list[Recording]:
    try:
        with metadata.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BarkFileError(f"{metadata} cannot be read as UTF-8 text ({error}). Save it as UTF-8.") from None
    found: dict[str, Recording] = {}
    for number, row in enumerate(rows, start=1):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < 2 or not row[0].strip():
            raise BarkFileError(f"{metadata}, line {number:,} must be name|text; it is {'|'.join(row)[:80]!r}.")
        given = row[0].strip()
        places = (folder / given, folder / f"{given}.wav", folder / "wavs" / f"{given}.wav", folder / "wavs" / given)
        path = next((place for place in places if place.is_file()), places[1])
        name = str(Path(given).with_suffix("")) if Path(given).suffix.lower() in SOUND_SUFFIXES else given
        if name in found:
            raise BarkFileError(f"{metadata}, line {number:,}: {name!r} is there twice. Every name must be its own.")
        text = next((cell.strip() for cell in reversed(row[1:]) if cell.strip()), "")
        found[name] = Recording(Path(name).as_posix(), path, text)
    return list(found.values())


def _from_text_files(folder: Path) -> list[Recording]:
    found = []
    for path in sorted(folder.rglob("*")):
        beside = path.with_suffix(".txt")
        if path.suffix.lower() in SOUND_SUFFIXES and beside.is_file():
            try:
                text = " ".join(beside.read_text(encoding="utf-8").split())
            except (OSError, UnicodeDecodeError) as error:
                raise BarkFileError(f"{beside} cannot be read as UTF-8 text ({error}). Save it as UTF-8.") from None
            found.append(Recording(path.relative_to(folder).with_suffix("").as_posix(), path, text))
    return found


def _levels(audio: Audio) -> npt.NDArray[np.float64]:
    """RMS of every 20 ms in dB below full scale."""
    size = max(1, round(FRAME_SECONDS * audio.sample_rate))
    whole = len(audio.samples) // size * size
    frames = audio.samples[:whole].astype(np.float64).reshape(-1, size)
    return 10 * np.log10(np.maximum(np.mean(frames**2, axis=1), 1e-12))


def _longest_pause(silent: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Length and start, in seconds, of the longest run of silent frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], silent.astype(np.int8), [0]])))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0.0, math.nan
    place = int(np.argmax(ends - starts))
    return float(ends[place] - starts[place]) * FRAME_SECONDS, float(starts[place]) * FRAME_SECONDS

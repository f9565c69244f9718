"""nano's data folders: sentences spoken by espeak-ng, as clips of text and tokens.

Two folders with the same sentences at their start: one with text and semantic tokens for the text stage, which must
learn to read and needs many; one with all tokens for the coarse and fine stages, which needs the codec.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...atomic import replacing
from ...audio import Audio
from ...codec import Codec, encode_audio
from ...errors import BarkInputError
from ...progress import OnStep, silent
from ...text import Tokenizer, count_tokens
from ..clips import CLIPS_FILE, TOKENS_FOLDER
from .family import nano_spec, text_vocabulary
from .phones import semantic_ids
from .sentences import plain, sentences, typeset
from .voices import at_codec_rate, speak, speaker_of

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "nano_sentences.txt"

VALIDATION_EVERY = 47  # one text in so many is never trained on; prime to the voices' pattern, so that all are there


def spoken_sentences(count: int, seed: int) -> list[str]:
    """The corpus: `count` sentences without those of the benchmark."""
    judged = {plain(part) for line in BENCHMARK.read_text(encoding="utf-8").splitlines() for part in line.split("\t")}
    return sentences(count, seed, frozenset(judged))


def write_clips(
    folder: Path, texts: list[str], codec: Codec | None = None, on_step: OnStep | None = None
) -> tuple[int, float]:
    """Speak `texts` into a data folder, with coarse and fine tokens where a codec is given.

    Returns the number of clips and their seconds. Texts with foreign phones, and those longer than the models' limits,
    are left out. Clips that are there already are kept, so a run that was stopped goes on; what it adds sounds a little
    other than in a run that was not (see `Espeak.read`).
    """
    on_step = on_step or silent
    (folder / TOKENS_FOLDER).mkdir(parents=True, exist_ok=True)
    spec = nano_spec()
    tokenizer = Tokenizer(text_vocabulary(), "nano's vocabulary", spec.lower_case)
    lines: list[str] = []
    seconds = 0.0
    for number, text in enumerate(texts):
        on_step(number, len(texts))
        if count_tokens(text, tokenizer) > spec.text_length:
            continue
        path = folder / TOKENS_FOLDER / f"{number:06d}.npz"
        speaker = speaker_of(number)
        if path.is_file():
            with np.load(path, allow_pickle=False) as arrays:
                count = len(arrays["semantic_prompt"])
        else:
            try:
                arrays = _tokens(text, speaker, codec)
            except BarkInputError:  # a phone of another language, in a foreign word
                continue
            count = len(arrays["semantic_prompt"])
            if count <= spec.max_semantic:
                with replacing(path, "The clip") as temporary:
                    np.savez(temporary, family=np.array(spec.family), **arrays)  # type: ignore[arg-type]
        if count <= spec.max_semantic:
            split = "validation" if number % VALIDATION_EVERY == 0 else "train"
            entry = {"name": path.stem, "text": typeset(text, number), "speaker": speaker, "split": split}
            lines.append(json.dumps(entry))
            seconds += count / spec.semantic_rate
    with replacing(folder / CLIPS_FILE, "The list of clips") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines), seconds


def _tokens(text: str, speaker: str, codec: Codec | None) -> dict[str, np.ndarray]:
    reading = speak(text, speaker)
    semantic = semantic_ids(reading)
    arrays = {"semantic_prompt": semantic.astype(np.int16)}
    if codec is not None:
        spec = nano_spec()
        samples = at_codec_rate(reading)
        length = spec.frames_for(len(semantic)) * spec.hop_length
        padded = np.pad(samples, (0, max(0, length - len(samples))))[:length]
        codes = np.asarray(encode_audio(codec, Audio(padded, spec.sample_rate), spec))
        arrays |= {
            "coarse_prompt": codes[: spec.coarse_codebooks].astype(np.int16),
            "fine_prompt": codes.astype(np.int16),
        }
    return arrays


def audio_clips(texts: list[str], on_step: OnStep | None = None) -> Iterator[np.ndarray]:
    """The sound of `texts` at 24 kHz, float32 `[n]` each: what the codec is trained on."""
    on_step = on_step or silent
    for number, text in enumerate(texts):
        on_step(number, len(texts))
        yield at_codec_rate(speak(text, speaker_of(number)))

"""nano, the small models that come with the pack: the files, and that the words of a text come out."""

import json

import numpy as np
import pytest
from nano_speaks import MEGABYTES, Sentence, read_sentences
from readers import at_judge_rate
from recogniser import Recogniser
from speech_judge import median_pitch, word_accuracy

from bark_engine import Audio, Bark, SpeakerPrompt
from bark_engine.library.places import nano_folder
from bark_engine.library.speakers import NANO_SPEAKERS, find_speaker
from bark_engine.spec import BarkSpec
from bark_engine.training.nano.family import nano_spec, text_vocabulary
from bark_engine.training.nano.phones import semantic_vocabulary

HEARD = (0, 1, 10, 13, 25, 49)  # of the hundred sentences of the benchmark, none of which nano was trained on


@pytest.fixture(scope="module")
def bark() -> Bark:
    return Bark.load()


@pytest.fixture(scope="module")
def sentences() -> list[Sentence]:
    every = read_sentences()
    return [every[index] for index in HEARD]


@pytest.fixture(scope="module")
def readings(bark: Bark, sentences: list[Sentence]) -> list[Audio]:
    return [bark.say(sentence.text, seed=1).audio for sentence in sentences]


def test_the_files_are_small_and_what_the_training_says_they_are() -> None:
    folder = nano_folder()
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MEGABYTES * 1e6
    assert BarkSpec.from_json((folder / "spec.json").read_text(encoding="utf-8"), "spec.json") == nano_spec()
    assert (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1] == text_vocabulary()
    names = json.loads((folder / "semantic_tokens.json").read_text(encoding="utf-8"))
    assert names == semantic_vocabulary()
    assert len(names) == nano_spec().semantic_vocab
    assert "espeak-ng" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_words_come_out(readings: list[Audio], sentences: list[Sentence]) -> None:
    """Heard by a recogniser that knows only the words of these six sentences, in any order."""
    recogniser = Recogniser([sentence.words for sentence in sentences])
    heard = [recogniser.alike(recogniser.hear(at_judge_rate(audio))) for audio in readings]
    said = [recogniser.alike(sentence.words) for sentence in sentences]
    assert word_accuracy(zip(said, heard, strict=True)) > 0.5
    shifted = said[1:] + said[:1]
    assert word_accuracy(zip(shifted, heard, strict=True)) < 0.2, "the recogniser would hear anything"


def test_it_stops_by_itself_and_uses_the_range(readings: list[Audio], sentences: list[Sentence]) -> None:
    for audio, sentence in zip(readings, sentences, strict=True):
        assert 0.17 < audio.seconds / len(sentence.words) < 0.6, sentence.text  # 100 … 350 words a minute
        assert 0.1 < np.abs(audio.samples).max() <= 1.0


def test_the_two_voices_come_with_it_and_differ(bark: Bark) -> None:
    pitch = {}
    for name in NANO_SPEAKERS:
        speaker = find_speaker(name, folders=[])
        assert (speaker.name, speaker.family) == (name, "nano")
        assert speaker == SpeakerPrompt.load(nano_folder() / "speakers" / f"{name.removeprefix('nano/')}.npz")
        audio = bark.say("Nobody told me that the kitchen was still wet.", speaker=speaker, seed=1).audio
        pitch[name] = median_pitch(at_judge_rate(audio))
    assert pitch["nano/high"] - pitch["nano/low"] > 60


def test_it_reads_what_people_paste(bark: Bark) -> None:
    """Printed quotes and dashes are in its vocabulary."""
    ids = bark.tokenizer.encode("“Don’t” – she said…")
    assert bark.tokenizer.encode("[UNK]")[0] not in ids

"""The judge of nano: each score against a slow twin or a sound made to be known, and each impostor caught by its goal.

Sentences here are rows of vowels, harmonics of a pitch under two resonances, so that neither espeak-ng nor
pocketsphinx is needed; what needs them is at the end.
"""

import math
import shutil
import struct
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import nano_speaks
import numpy as np
import pytest
import readers
import recogniser
import spectrograms
from hypothesis import given, settings
from hypothesis import strategies as st
from nano_speaks import Reference, Sentence, named_speakers, plan_takes, read_sentences
from readers import ReaderPlan, Take
from speech_judge import (
    HOP,
    RATE,
    Ending,
    Floats,
    align,
    choose,
    edits,
    ending,
    features,
    log_mel,
    median_pitch,
    nearest_lengths,
    sounding,
    spoken,
    word_accuracy,
)

from bark_engine.audio import Audio
from bark_engine.errors import BarkError, BarkInputError

VOWELS = {"a": (730, 1_090), "e": (530, 1_840), "i": (270, 2_290), "o": (570, 840), "u": (300, 870)}  # Hz
WORDS = ("aeia", "iuo", "oeu", "uai", "eoi", "auo", "ieae", "ouia", "eiu", "aoe", "uie", "oaiu")


def vowels(letters: str, pitch: float = 110.0, seconds: float = 0.12) -> Floats:
    """Vowels one after the other, with a gap for each space."""
    time = np.arange(round(seconds * RATE)) / RATE
    pieces = []
    for letter in letters:
        harmonics = np.arange(1, int(5_000 / pitch)) * pitch
        resonances = VOWELS.get(letter, (500, 1_500))
        weights = sum(1 / (1 + ((harmonics - centre) / 80) ** 2) for centre in resonances)
        tone = (weights[:, None] * np.sin(2 * np.pi * harmonics[:, None] * time)).sum(axis=0)
        pieces.append(0 * tone if letter == " " else 0.1 * tone / np.sqrt((tone**2).mean()))
    return np.concatenate(pieces)


def noise(samples: int, level: float = 0.1) -> Floats:
    return level * np.random.default_rng(7).standard_normal(samples)


def slow_dtw(ours: Floats, theirs: Floats, width: float) -> Floats:
    """`align` as the textbook has it: one cell at a time, `width` frames around the straight line."""
    n, m = len(ours), len(theirs)
    best = np.full((n, m), np.inf)
    for i in range(n):
        for j in range(m):
            cost = float(np.linalg.norm(ours[i] - theirs[j])) if abs(i * m / n - j) <= width else math.inf
            ways = [2 * cost] if i == j == 0 else []
            if i:
                ways.append(best[i - 1, j] + cost)
            if j:
                ways.append(best[i, j - 1] + cost)
            if i and j:
                ways.append(best[i - 1, j - 1] + 2 * cost)
            best[i, j] = min(ways)
    return best[:, -1] / (np.arange(1, n + 1) + m)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (2, 3), (9, 9), (40, 31), (23, 60)])
@pytest.mark.parametrize("band", [None, 0.2])
def test_alignment_equals_its_slow_twin(shape: tuple[int, int], band: float | None):
    rng = np.random.default_rng(shape[0])
    ours, theirs = rng.standard_normal((shape[0], 3)), rng.standard_normal((shape[1], 3))
    width = math.inf if band is None else max(25, band * max(shape))
    np.testing.assert_allclose(align(ours, theirs, band), slow_dtw(ours, theirs, width), rtol=1e-6)


def test_the_band_keeps_paths_near_the_straight_line():
    rng = np.random.default_rng(0)
    ours, theirs = rng.standard_normal((150, 3)), rng.standard_normal((150, 3))
    theirs[60:] = ours[:90]  # the best path leaves the band
    np.testing.assert_allclose(align(ours, theirs, 0.1), slow_dtw(ours, theirs, 25), rtol=1e-6)
    assert align(ours, theirs, 0.1)[-1] > align(ours, theirs, None)[-1]


def test_the_open_end_is_where_the_text_ends():
    theirs = np.random.default_rng(0).standard_normal((50, 4))
    ours = np.concatenate([theirs.repeat(2, axis=0), np.random.default_rng(1).standard_normal((30, 4))])
    assert align(ours, theirs, None).argmin() == 99


def test_a_tone_lies_in_its_mel_band():
    tone = np.sin(2 * np.pi * 1_000 * np.arange(RATE) / RATE)
    spectrum = log_mel(tone)
    assert len(spectrum) == 1 + (RATE - 1) // HOP
    mel = [math.log10(1 + hertz / 700) for hertz in (80, 1_000, 7_600)]
    middle = spectrum[10:-10]
    assert (middle.argmax(axis=1) + 1 == round((mel[1] - mel[0]) / (mel[2] - mel[0]) * 41)).all()
    assert np.ptp(spectrum) == pytest.approx(40)
    assert features(tone).mean(axis=0) == pytest.approx(np.zeros(16), abs=1e-6)


def test_only_what_is_loud_enough_sounds():
    speech = np.concatenate([np.zeros(RATE), vowels("aei"), noise(RATE, 1e-3), vowels("o"), np.zeros(RATE)])
    assert len(spoken(speech)) == pytest.approx(len(vowels("aeio")) + RATE, abs=2 * HOP)
    assert sounding(speech).sum() * HOP == pytest.approx(len(vowels("aeio")), abs=5 * HOP)
    assert not sounding(np.zeros(RATE)).any()
    assert len(spoken(1e-4 * speech)) == 0


@pytest.mark.parametrize("hertz", [75, 90, 120, 180, 250, 330])
def test_pitch_of_known_voices(hertz: float):
    assert median_pitch(vowels("aeiou", hertz, 0.3)) == pytest.approx(hertz, rel=0.03)
    assert median_pitch(vowels("aeiou", hertz, 0.3) + noise(24_000, 0.02)) == pytest.approx(hertz, rel=0.03)


def test_noise_and_silence_have_no_pitch():
    assert math.isnan(median_pitch(noise(RATE)))
    assert math.isnan(median_pitch(np.zeros(RATE)))


def test_a_sentence_is_known_at_another_pitch_and_pace_and_in_noise():
    readings = {i: features(spoken(vowels(word))) for i, word in enumerate(WORDS)}
    for index, word in enumerate(WORDS):
        candidates = [index, *(i for i in readings if i != index)]
        for sound in (
            vowels(word, 200.0, 0.14),
            vowels(word, 90.0, 0.1),
            vowels(word) + noise(len(vowels(word)), 3e-3),
        ):
            found = choose(np.concatenate([np.zeros(4_000), 0.3 * sound]), candidates, readings)
            assert found.chosen == index
            assert found.margin > 0
        lost = choose(vowels(word), [candidates[1], index], readings)
        assert lost.chosen == index
        assert lost.margin < 0


def test_nothing_is_chosen_in_silence_or_far_from_every_length():
    readings = {0: features(vowels("aei" * 9)), 1: features(vowels("iou" * 9))}
    assert choose(np.zeros(RATE), [0, 1], readings).chosen is None
    assert choose(vowels("a", seconds=0.05), [0, 1], readings).chosen is None


def test_endings():
    reading = vowels("aeiou" * 3)
    assert ending(reading, reading) == Ending(pytest.approx(1), 0)
    assert ending(np.concatenate([np.zeros(RATE), reading, noise(RATE, 1e-3)]), reading).good  # hiss is no babble
    babbling = ending(np.concatenate([reading, vowels("uauaua")]), reading)
    assert babbling.babble_seconds == pytest.approx(6 * 0.12, abs=0.1)
    assert not babbling.good
    late = np.concatenate([reading, np.zeros(RATE // 2), vowels("uaua")])
    assert ending(late, reading).babble_seconds == pytest.approx(4 * 0.12, abs=0.1)
    assert ending(reading[: len(reading) // 2], reading).length_ratio == pytest.approx(0.5, abs=0.03)
    assert not ending(reading[: len(reading) // 2], reading).good
    assert not ending(np.zeros(RATE), reading).good


@pytest.mark.parametrize(
    ("ratio", "babble", "good"),
    [(1.0, 0.4, True), (1.0, 0.42, False), (0.71, 0.0, True), (0.69, 0.0, False), (1.31, 0.0, False)],
)
def test_limits_of_an_ending(ratio: float, babble: float, good: bool):
    assert Ending(ratio, babble).good is good


def slow_edits(said: Sequence[str], heard: Sequence[str]) -> int:
    if not said or not heard:
        return len(said) + len(heard)
    return min(
        slow_edits(said[1:], heard) + 1,
        slow_edits(said, heard[1:]) + 1,
        slow_edits(said[1:], heard[1:]) + (said[0] != heard[0]),
    )


@settings(max_examples=60, deadline=None)
@given(st.text("ab", max_size=5), st.text("abc", max_size=5))
def test_edits_equal_their_slow_twin(said: str, heard: str):
    assert edits(said, heard) == slow_edits(said, heard)


def test_word_accuracy_counts_words_not_sentences():
    pairs = [("abcd", "abd"), ("ef", "efghi")]
    assert word_accuracy(pairs) == pytest.approx(1 - 4 / 6)
    assert word_accuracy([(["a"], ["b", "c", "d"])]) == -2


def test_candidates_are_the_nearest_in_length():
    assert nearest_lengths([5, 1, 9, 5, 6, 4.5], 0, 4) == [0, 3, 5, 4]
    assert nearest_lengths([5, 1, 9, 5, 6, 4.5], 3, 2) == [3, 0]


def test_words_that_sound_alike_count_as_one():
    sounds = {"ate": ["EY T"], "eight": ["EY T"], "hour": ["AW ER", "AW R"], "our": ["AW ER", "AA R"], "are": ["AA R"]}
    alike = recogniser._sound_alikes(sounds)
    assert alike == {"ate": "ate", "eight": "ate", "hour": "are", "our": "are", "are": "are"}


def test_pictures_hold_both_spectrograms(tmp_path: Path):
    long, short = vowels("aeiou"), vowels("ai")
    spectrograms.compare(tmp_path / "a.png", "1. A title?", ("ours", long), ("espeak-ng", short))
    data = (tmp_path / "a.png").read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    size = struct.unpack(">I", data[33:37])[0]
    assert data[37:41] == b"IDAT"
    rows = np.frombuffer(zlib.decompress(data[41 : 41 + size]), np.uint8).reshape(height, 1 + 3 * width)
    assert (rows[:, 0] == 0).all()
    pixels = rows[:, 1:].reshape(height, width, 3)
    for top, sound in ((spectrograms.TOP, long), (height - spectrograms.BOTTOM - 240, short)):
        picture = spectrograms.spectrogram(sound)
        area = pixels[top : top + picture.shape[0], spectrograms.LEFT : spectrograms.LEFT + picture.shape[1]]
        np.testing.assert_array_equal(area, picture)
    assert (pixels[4:18, spectrograms.LEFT :] == spectrograms.INK).all(axis=2).sum() > 100  # the title


class StubRecogniser:
    """Hears the sentence whose vowels are nearest, as if it were a perfect dictation."""

    def __init__(self, sentences: Sequence[Sequence[str]]) -> None:
        self.sentences = sentences
        self.readings = {i: features(spoken(vowels(" ".join(words)))) for i, words in enumerate(sentences)}

    def hear(self, sound: Floats) -> list[str]:
        found = choose(sound, range(len(self.sentences)), self.readings).chosen
        return [] if found is None else list(self.sentences[found])

    def alike(self, words: Sequence[str]) -> list[str]:
        return list(words)


def say(text: str, speaker: str) -> Floats:
    return vowels(text, {"": 120.0, "low": 90.0, "high": 200.0}[speaker], 0.11)


@cache
def vowel_reference() -> Reference:
    """Twenty sentences of two words, as espeak-ng would read them if it were ours."""
    texts = [f"{a} {b}" for a, b in zip("aeiouaeiouaeiouaeiou", WORDS + WORDS[3:11], strict=True)]
    sentences = [Sentence(text, tuple(text.split())) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nano_speaks, "CANDIDATES", 8)  # quicker, and more than luck can pass
        patch.setattr(nano_speaks, "espeak", lambda text: Audio(vowels(text, seconds=0.1), RATE))
        return Reference.read(sentences)


def missed(impostor: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Which goals a reader of vowel sentences misses, by their letter."""
    reference = vowel_reference()
    texts = [sentence.text for sentence in reference.sentences]

    def read(text: str, speaker: str, seed: int) -> Audio:
        good, other = say(text, speaker), say(texts[texts.index(text) - 3], speaker)
        sounds = {
            "none": good,
            "noise": noise(len(good)),
            "silence": 0 * good,
            "shuffled": other,
            "babble": np.concatenate([good, other]),
            "half": good[: len(good) // 2],
            "one voice": say(text, ""),
            "one seed": good if seed < 3 else other,
            "one reading": good if seed == 0 else np.zeros(0, np.float32),
        }
        return Audio(sounds[impostor], RATE)

    monkeypatch.setattr(ReaderPlan, "make", lambda plan: read)
    recordings = nano_speaks.record_all(ReaderPlan(), plan_takes(reference.sentences, quick=True), jobs=1)
    goals, figures = nano_speaks.judge(
        reference, recordings, StubRecogniser([sentence.words for sentence in reference.sentences])
    )
    nano_speaks.show(goals, figures)
    return {goal.name[1] for goal in goals if not goal.passed}


@pytest.mark.parametrize(
    ("impostor", "letters"),
    [
        ("none", ""),
        ("noise", "abde"),
        ("silence", "abcde"),
        ("shuffled", "abde"),
        ("babble", "c"),
        ("half", "bc"),
        ("one voice", "d"),
        ("one seed", "e"),
        ("one reading", "be"),
    ],
)
def test_each_impostor_misses_its_goals(impostor: str, letters: str, monkeypatch: pytest.MonkeyPatch):
    found = missed(impostor, monkeypatch)
    assert set(letters) <= found
    if impostor in ("none", "one voice", "one seed", "one reading"):
        assert found == set(letters)


def test_a_refusal_is_a_silent_recording(monkeypatch: pytest.MonkeyPatch):
    def refuse(text: str, speaker: str, seed: int) -> Audio:
        raise BarkError("No token was made.")

    monkeypatch.setattr(ReaderPlan, "make", lambda plan: refuse)
    (recording,) = readers.record(ReaderPlan(), [Take(0, "Hello.")], jobs=1)
    assert recording.refusal == "No token was made."
    assert len(spoken(recording.sound)) == 0


def test_takes_cover_the_list():
    sentences = [Sentence(str(i), (str(i),)) for i in range(100)]
    takes = plan_takes(sentences, quick=False)
    assert [take.index for take in takes["sentences"]] == list(range(100))
    assert [(take.index, take.seed) for take in takes["again"]] == [(i, seed) for seed in (1, 2) for i in range(100)]
    assert {take.speaker for part in ("sentences", "again", "seeds") for take in takes[part]} == {""}
    for speaker in ("low", "high"):
        assert len({take.index for take in takes[speaker]}) == len(takes[speaker]) == 20
        assert {take.speaker for take in takes[speaker]} == {speaker}
    assert [take.seed for take in takes["seeds"]] == list(range(20))
    assert {part: len(made) for part, made in plan_takes(sentences, quick=True).items()} == {
        "sentences": 20,
        "again": 40,
        "low": 5,
        "high": 5,
        "seeds": 5,
    }


def test_speakers_are_two_files(tmp_path: Path):
    low, high = tmp_path / "l.npz", tmp_path / "h.npz"
    low.touch()
    with pytest.raises(BarkInputError, match="does not exist"):
        named_speakers([f"low={low}", f"high={high}"])
    high.touch()
    assert named_speakers([f"high={high}", f"low={low}"]) == {"low": low, "high": high}
    for wrong in ([f"low={low}"], [f"low={low}", f"low={high}"], [f"low={low}", f"deep={high}"]):
        with pytest.raises(BarkInputError, match="low=FILE high=FILE"):
            named_speakers(wrong)


def test_the_list_of_sentences():
    sentences = read_sentences()
    assert len({sentence.text for sentence in sentences}) == len(sentences) == 100
    for sentence in sentences:
        assert 4 <= len(sentence.text.split()) <= 20
        assert all(word.strip("'") and word.replace("'", "").isalpha() for word in sentence.words), sentence
        digits = any(letter.isdigit() for letter in sentence.text)
        assert not digits or len(sentence.words) >= len(sentence.text.split())


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_reads_another_voice_and_other_pitches():
    sentences = read_sentences()[:12]
    longest = max(read_sentences(), key=lambda sentence: len(sentence.text))
    assert len(spoken(readers.at_judge_rate(readers.espeak(longest.text)))) < 12 * RATE
    reference = Reference.read(sentences)
    plan = ReaderPlan(instead="espeak", sentences=tuple(sentence.text for sentence in sentences))
    for recording in readers.record(plan, [Take(i, sentences[i].text, "high") for i in (0, 5, 11)], jobs=1):
        row = reference.judge(recording)
        assert row["right"]
        assert row["ends_well"]
    pitches = [median_pitch(readers.at_judge_rate(readers.espeak("We go along.", pitch=p))) for p in (10, 50, 90)]
    assert pitches == sorted(pitches)
    assert pitches[2] > 1.5 * pitches[0]


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_the_recogniser_hears_words_of_the_list_only():
    pytest.importorskip("pocketsphinx")
    sentences = read_sentences()
    words = recogniser.Recogniser([sentence.words for sentence in sentences])  # can pronounce them all
    sound = readers.at_judge_rate(readers.espeak(sentences[0].text))
    heard = words.hear(sound)
    assert words.hear(sound) == heard
    assert set(heard) <= {word for sentence in sentences for word in sentence.words}
    assert word_accuracy([(sentences[0].words, heard)]) > 0.3
    assert words.hear(np.zeros(RATE)) == []

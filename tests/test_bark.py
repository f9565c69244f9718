"""The facade: the contracts that scripts rely on, and the refusals at its door."""

import pickle

import numpy as np
import pytest
import torch

from bark_engine import (
    Audio,
    Bark,
    BarkError,
    BarkFileError,
    BarkInputError,
    CoarseSampling,
    CoarseTokens,
    FineSampling,
    FineTokens,
    IncompleteModelsError,
    SemanticSampling,
    SemanticTokens,
    SpeakerPrompt,
)
from bark_engine import spec as spec_module
from bark_engine import tokens as tokens_module


@pytest.fixture(scope="module")
def bark():
    return Bark.load()


@pytest.fixture(scope="module")
def speech(bark):
    return bark.say("Hello! Nice to meet you.", seed=5)


def test_say_is_the_four_stages_in_a_row(bark, speech):
    semantic = bark.text_to_semantic("Hello! Nice to meet you.", seed=5)
    coarse = bark.semantic_to_coarse(semantic, seed=5)
    fine = bark.coarse_to_fine(coarse, seed=5)
    audio = bark.decode(fine)
    assert (speech.semantic, speech.coarse, speech.fine) == (semantic, coarse, fine)
    assert np.array_equal(speech.audio.samples, audio.samples)
    assert speech.seed == 5


def test_shapes_and_rates(bark, speech):
    spec = bark.spec
    frames = int(len(speech.semantic) * 75 / 49.9 * 2) // 2
    assert speech.coarse.codes.shape == (2, frames)
    assert speech.fine.codes.shape == (8, frames)
    assert np.array_equal(speech.fine.codes[:2], speech.coarse.codes)
    assert speech.audio.samples.shape == (320 * frames,)
    assert speech.audio.samples.dtype == np.float32
    assert speech.audio.sample_rate == 24_000
    assert np.abs(speech.audio.samples).max() <= 1.0
    assert spec.max_seconds == pytest.approx(12.42, abs=0.01)


def test_a_seed_gives_the_same_again_and_another_seed_something_else(bark, speech):
    assert bark.say("Hello! Nice to meet you.", seed=5).fine == speech.fine
    assert bark.say("Hello! Nice to meet you.", seed=6).fine != speech.fine


def test_the_global_random_state_is_neither_read_nor_moved(bark, speech):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert bark.say("Hello! Nice to meet you.", seed=5).fine == speech.fine
    assert torch.equal(torch.get_rng_state(), state)


def test_a_take_becomes_a_voice(bark, speech):
    voice = speech.as_speaker("mine")
    assert (voice.semantic, voice.coarse, voice.fine) == (speech.semantic, speech.coarse, speech.fine)
    assert (voice.name, voice.family) == ("mine", "nano")
    continued = bark.say("And on.", speaker=voice, seed=5)
    assert continued.fine != bark.say("And on.", seed=5).fine


def test_encode_gives_frames_for_any_rate(bark):
    tone = np.sin(np.arange(44_100) / 44_100 * 2 * np.pi * 440).astype(np.float32) * 0.3
    fine = bark.encode(Audio(tone, 44_100))
    assert fine.codes.shape == (8, 75)
    assert fine.family == "nano"
    with pytest.raises(BarkInputError, match=r"10\.0 ms long; encoding needs at least 13\.3 ms"):
        bark.encode(Audio(np.zeros(240), 24_000))


def test_say_counts_to_a_thousand_once_and_never_back(bark):
    seen = []
    bark.say("Hello.", on_step=lambda done, total: seen.append((done, total)))
    assert {total for _, total in seen} == {1000}
    counts = [done for done, _ in seen]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 1000


def test_on_step_may_raise_in_every_stage_and_the_next_run_is_good(bark, speech):
    class StopError(Exception):
        pass

    for limit in (3, 400, 900):

        def stop(done, total, limit=limit):
            if done >= limit:
                raise StopError

        with pytest.raises(StopError):
            bark.say("Hello! Nice to meet you.", seed=5, on_step=stop)
    assert bark.say("Hello! Nice to meet you.", seed=5).fine == speech.fine


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda b: b.text_to_semantic(""), "empty"),
        (
            lambda b: b.text_to_semantic("hi", sampling=CoarseSampling()),
            r"takes SemanticSampling\(temperature.*CoarseS",
        ),
        (lambda b: b.semantic_to_coarse([1, 2]), "needs SemanticTokens, but was given list"),
        (lambda b: b.coarse_to_fine(SemanticTokens([1, 2], "nano")), "needs CoarseTokens, but was given SemanticTok"),
        (lambda b: b.decode(CoarseTokens(np.zeros((2, 4), int), "nano")), "needs FineTokens, but was given Coarse"),
        (lambda b: b.say("hi", seed=-1), "seed must be a whole number of 0"),
        (lambda b: b.coarse_to_fine(CoarseTokens(np.zeros((2, 4), int), "nano"), seed=1.5), "seed must be a whole"),
        (lambda b: SemanticSampling(early_stop="no"), "early_stop must be True or False; 'no' was given"),
        (lambda b: SemanticTokens([1], family=None), "family must be a name such as 'suno', not None"),
        (lambda b: FineTokens(np.zeros((8, 4), int), family=["suno"]), "family must be a name"),
        (lambda b: b.say("hi", speaker="en_speaker_6"), r"SpeakerPrompt or None, not str"),
        (lambda b: b.say("hi", fine=SemanticSampling()), r"takes FineSampling\(temperature, pad\)"),
    ],
)
def test_refused_at_the_door(bark, call, sentence):
    with pytest.raises(BarkInputError, match=sentence):
        call(bark)


def test_tokens_of_another_family_are_refused_with_a_sentence(bark):
    suno_semantic = SemanticTokens([1, 2, 3])
    suno_coarse = CoarseTokens(np.zeros((2, 6), int))
    suno_fine = FineTokens(np.zeros((8, 6), int))
    voice = SpeakerPrompt([1, 2, 3, 4], np.zeros((2, 6), int), np.zeros((8, 6), int), name="amy")
    for call in (
        lambda: bark.semantic_to_coarse(suno_semantic),
        lambda: bark.coarse_to_fine(suno_coarse),
        lambda: bark.decode(suno_fine),
        lambda: bark.text_to_semantic("hi", speaker=voice),
    ):
        with pytest.raises(BarkInputError, match=r"family 'suno'.*models are 'nano'"):
            call()


@pytest.mark.parametrize(("part", "most"), [("semantic", 203), ("coarse", 1_023), ("fine", 1_023)])
def test_a_voice_made_before_its_family_was_known_is_looked_at_when_it_speaks(bark, monkeypatch, part, most):
    """Semantic ids are the ones that nobody could judge then; the codes are looked at in the same way."""
    arrays = {"semantic": np.zeros(4, int), "coarse": np.zeros((2, 6), int), "fine": np.zeros((8, 6), int)}
    with monkeypatch.context() as before:
        before.delitem(spec_module._families, "nano")
        before.setattr(tokens_module, "_check_range", lambda *_: None)
        arrays[part][..., -1] = most + 1
        voice = SpeakerPrompt(**arrays, name="old", family="nano")
    tokens = SemanticTokens([1, 2], "nano"), CoarseTokens(np.zeros((2, 4), int), "nano")
    for call in (
        lambda: bark.say("Hi.", speaker=voice),
        lambda: bark.text_to_semantic("Hi.", speaker=voice),
        lambda: bark.semantic_to_coarse(tokens[0], speaker=voice),
        lambda: bark.coarse_to_fine(tokens[1], speaker=voice),
    ):
        with pytest.raises(
            BarkInputError, match=f"The {part} tokens of the speaker prompt 'old' must lie in 0 … {most:,}"
        ):
            call()


def test_the_parts_of_a_voice_made_before_its_family_was_known_must_be_one_stretch(bark, monkeypatch):
    with monkeypatch.context() as before:
        before.delitem(spec_module._families, "nano")
        voice = SpeakerPrompt(np.zeros(4, int), np.zeros((2, 60), int), np.zeros((8, 60), int), family="nano")
    with pytest.raises(BarkInputError, match="60 frames for 4 tokens"):
        bark.say("Hi.", speaker=voice)


def test_the_seed_of_a_speech_is_a_plain_number(bark):
    speech = bark.say("Hi.", seed=np.int64(7), semantic=SemanticSampling(max_seconds=0.1))
    assert (type(speech.seed), speech.seed) == (int, 7)


def test_greedy_fine_takes_no_chance(bark, speech):
    greedy = FineSampling(temperature=None)
    first = bark.coarse_to_fine(speech.coarse, sampling=greedy, seed=1)
    assert first == bark.coarse_to_fine(speech.coarse, sampling=greedy, seed=2)
    assert first == bark.coarse_to_fine(speech.coarse, sampling=FineSampling(temperature=0.0), seed=3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_precisions_run_the_whole_path(dtype):
    speech = Bark.load("nano", dtype=dtype).say("Hello.", seed=1)
    assert np.isfinite(speech.audio.samples).all()
    assert speech.audio.samples.std() > 0.01


def test_errors_show_a_short_module_wherever_the_engine_was_loaded_from():
    """ComfyUI writes `module.Class: sentence`; the pack's own module name there is its whole path."""
    assert {error.__module__ for error in (BarkError, BarkInputError, BarkFileError)} == {"bark_engine"}


def test_every_error_comes_through_another_process():
    """Which pickles it, by the name of its module: see errors.py."""
    kinds = [BarkError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {BarkInputError, IncompleteModelsError} < set(kinds)
    for kind in kinds:
        again = pickle.loads(pickle.dumps(kind("A sentence.")))
        assert (type(again), str(again)) == (kind, "A sentence.")
    error = IncompleteModelsError("A sentence.", ["text large", "vocabulary"])
    assert pickle.loads(pickle.dumps(error)).parts == error.parts == {"text large", "vocabulary"}

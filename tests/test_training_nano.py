"""The steps that make nano, as far as they need neither espeak-ng nor hours."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from bark_engine.codec import Codec, CodecShape
from bark_engine.errors import BarkFileError, BarkInputError
from bark_engine.spec import BarkSpec
from bark_engine.text import Tokenizer, text_to_ids
from bark_engine.training.clips import Clip
from bark_engine.training.layouts import semantic_example
from bark_engine.training.nano import by_heart, codec_training, decoder_training, sentences
from bark_engine.training.nano.__main__ import main
from bark_engine.training.nano.codec_run import CodecPlan
from bark_engine.training.nano.codec_training import (
    SpectralLoss,
    as_kernels,
    as_matrices,
    build_codec,
    folded,
    mel_filters,
    train_codec,
)
from bark_engine.training.nano.decoder_training import DecoderPlan, Spoken, train_decoder
from bark_engine.training.nano.espeak import Reading
from bark_engine.training.nano.family import nano_spec, text_vocabulary
from bark_engine.training.nano.phones import PARTS, PHONES, phone_number, semantic_ids, semantic_vocabulary
from bark_engine.training.networks import network_shape, new_network
from bark_engine.training.objectives import collate, head_logits
from bark_engine.transformer import CausalTransformer

SMALL = CodecShape(filters=2, dimension=8, lstm_layers=1, codebook_size=32)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> CodecShape:
    """A codec and batches that take milliseconds."""
    monkeypatch.setattr(codec_training, "SHAPE", SMALL)
    monkeypatch.setattr(codec_training, "CLIPS", 2)
    monkeypatch.setattr(codec_training, "CLIP_FRAMES", 20)
    monkeypatch.setattr(codec_training, "UNQUANTIZED_STEPS", 3)
    monkeypatch.setattr(decoder_training, "PIECES", 2)
    monkeypatch.setattr(decoder_training, "PIECE_FRAMES", 10)
    monkeypatch.setattr(decoder_training, "WARM_UP_FRAMES", 2)
    return SMALL


def buzz(seconds: float, pitch: float) -> np.ndarray:
    time = np.arange(round(24_000 * seconds)) / 24_000
    return (0.1 * sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 9))).astype(np.float32)


CLIPS = [buzz(1.0, pitch) for pitch in (90, 120, 200)]


# -- phones --------------------------------------------------------------------------------------------------------


def test_semantic_tokens_are_the_phones_at_their_times() -> None:
    """At 1 kHz: a pause, then h for 60 ms, aI for 100 ms, and a pause: three tokens, five, and the rest."""
    reading = Reading(np.zeros(240, np.float32), 1_000, ((20, "h"), (80, "aI"), (180, "_:")))
    names = [semantic_vocabulary()[token] for token in semantic_ids(reading)]
    assert names == ["_/1", "h/0", "h/1", "h/2", "aI/0", "aI/0", "aI/1", "aI/2", "aI/2", "_/0", "_/1", "_/2"]


def test_neighbouring_pauses_are_one() -> None:
    reading = Reading(np.zeros(180, np.float32), 1_000, ((0, "t"), (60, "_"), (100, "_:")))
    names = [semantic_vocabulary()[token] for token in semantic_ids(reading)]
    assert names[3:] == ["_/0", "_/0", "_/1", "_/1", "_/2", "_/2"]


def test_a_phone_of_another_language_is_refused() -> None:
    assert phone_number("_|") == 0
    assert phone_number(";") == PHONES.index("j")
    with pytest.raises(BarkInputError, match="not in nano's list"):
        phone_number("R2")


def test_the_family_has_room_for_its_tokens() -> None:
    spec, vocabulary = nano_spec(), text_vocabulary()
    assert spec.semantic_vocab == PARTS * len(PHONES)
    assert spec.text_pad - spec.text_offset == len(vocabulary) == len(set(vocabulary))
    assert spec.max_seconds > 12


# -- texts ---------------------------------------------------------------------------------------------------------


def test_texts_are_joined_up_to_a_length() -> None:
    some = ["one two three four five", "six seven.", "eight nine ten eleven twelve thirteen fourteen", "a b", "c d"]
    lengths = set()
    for seed in range(50):
        text = sentences._join(some, 0, random.Random(seed))
        assert text.startswith("one two three four five.")
        assert len(text.split()) <= sentences.MAX_WORDS
        lengths.add(len(text.split()))
    assert len(lengths) > 1


def test_one_text_in_four_is_printed_and_read_alike() -> None:
    text = "It's late... don't - go."
    assert sentences.typeset(text, 1) == text
    assert sentences.typeset(text, 4) == "It’s late… don’t — go."
    assert sentences.typeset(text, 16) == "“It’s late… don’t — go.”"


# -- words that are learned by heart -------------------------------------------------------------------------------


def test_a_word_is_misread_where_another_phone_is_likelier() -> None:
    """n u:, as "knew" is said; a pause and how long the phone before lasts are no competitors."""
    k, n, u = (PARTS * phone_number(name) for name in ("k", "n", "u:"))
    targets = np.array([1, n, n + 2, u, u + 2, 2, nano_spec().end_token])  # between two pauses
    odds = np.zeros((len(targets), nano_spec().end_token + 1))
    odds[1, [n, k, 0]] = 0.06, 0.02, 0.9
    odds[3, [u, u + 1]] = 0.04, 0.04  # its parts count together
    odds[3, [k, n + 1, 1]] = 0.07, 0.5, 0.3
    assert not by_heart._surprised(odds, targets)
    odds[1, k] = 0.07
    assert by_heart._surprised(odds, targets)


def test_words_with_foreign_phones_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    spec, vocabulary = nano_spec(()), text_vocabulary(())
    said = {"Say knew again.": "n", "Say Bach again.": "R2"}
    monkeypatch.setattr(by_heart, "speak", lambda text, _: Reading(np.zeros(200), 1_000, ((0, "_"), (60, said[text]))))
    network = small_text_network(spec)
    with torch.no_grad():
        network.lm_head.weight.zero_()  # all phones are equally likely, so the first in the list is expected
    tokenizer = Tokenizer(vocabulary, "letters", lower_case=True)
    assert by_heart.misread(["Bach", "knew"], network, tokenizer, spec) == ["knew"]


def test_a_word_that_begins_commoner_words_is_not_kept_whole() -> None:
    often = {
        "song": 5.0,
        "son": 4.0,
        "sons": 3.0,
        "knew": 2.0,
        "honey": 1.5,
        "honeycomb": 1.0,
        "don't": 0.5,
        "the": 9.0,
    }
    found = ["son", "knew", "honey", "don't", "the"]
    assert by_heart.kept_whole(found, often, ["the"]) == ["knew", "honey"]
    assert by_heart.kept_whole([*found, "song"], often, ["the"]) == ["song", "son", "knew", "honey"]


def test_a_grown_network_reads_letters_as_before() -> None:
    words = ["knew", "honey"]
    letters, whole = nano_spec(()), nano_spec(words)
    before = small_text_network(letters)
    after = by_heart.grown(before, words)

    def answers(network: CausalTransformer, text: str, spec: BarkSpec, vocabulary: list[str]) -> torch.Tensor:
        ids = text_to_ids(text, Tokenizer(vocabulary, "nano's", lower_case=True), spec)
        nothing = np.zeros((0, 0), dtype=np.int64)
        clip = Clip("", text, "", "train", np.array([5, 6, 7]), nothing, nothing)
        ((_, logits),) = head_logits(network, collate([semantic_example(clip, None, ids, spec)], spec))
        return logits

    with torch.no_grad():
        same = [
            answers(network, "A new one.", spec, text_vocabulary(known))
            for network, spec, known in ((before, letters, ()), (after, whole, words))
        ]
        assert torch.equal(*same)
        other = answers(after, "A honey one.", whole, text_vocabulary(words))
    assert not torch.allclose(other, same[0], atol=1e-3)
    row = after.transformer.wte.weight[whole.text_offset + text_vocabulary(words).index("honey")]
    vocabulary = text_vocabulary(())
    pieces = [letters.text_offset + vocabulary.index(piece) for piece in ("h", "##o", "##n", "##e", "##y")]
    assert torch.allclose(row, before.transformer.wte.weight[pieces].mean(dim=0))


def small_text_network(spec: BarkSpec) -> CausalTransformer:
    network = new_network("semantic", network_shape("semantic", spec, layers=1, heads=1, width=16), spec, seed=0)
    assert isinstance(network, CausalTransformer)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(10)  # so that the text is seen in the answers
    return network


# -- the codec -----------------------------------------------------------------------------------------------------


def test_mel_filters_are_triangles_with_area_one() -> None:
    filters = mel_filters(512, 20, 24_000)
    assert torch.allclose(filters.sum(dim=0), torch.ones(20))
    assert (filters >= 0).all()
    peaks = filters.argmax(dim=0)
    assert (peaks.diff() > 0).all()
    for band, peak in enumerate(peaks.tolist()):
        assert (filters[: peak + 1, band].diff() >= 0).all()
        assert (filters[peak:, band].diff() <= 0).all()


def test_the_spectral_loss_is_zero_for_equal_sound_and_grows_with_the_difference() -> None:
    loss = SpectralLoss()
    wave = torch.from_numpy(np.stack(CLIPS[:1])) * 8
    noise = torch.randn(wave.shape, generator=torch.Generator().manual_seed(0))
    distances = [loss(wave + amount * noise, wave).item() for amount in (0.0, 0.01, 0.1, 1.0)]
    assert distances[0] == 0
    assert distances == sorted(distances)


@pytest.mark.usefixtures("small")
def test_every_layer_of_a_new_codec_puts_out_about_one() -> None:
    waves = torch.from_numpy(np.stack(CLIPS))[:, None] * 8
    torch.manual_seed(0)
    codec = build_codec(waves)
    outputs: list[float] = []
    for layer in codec.encoder.modules():
        if isinstance(layer, torch.nn.Conv1d):
            layer.register_forward_hook(lambda _, __, out: outputs.append(out.std().item()))
    with torch.no_grad():
        codec.encoder(waves)
    assert len(outputs) > 10
    assert all(0.8 < deviation < 1.25 for deviation in outputs)


@pytest.mark.usefixtures("small")
def test_kernels_as_matrices_compute_the_same_and_come_back() -> None:
    torch.manual_seed(0)
    codec = Codec(SMALL)
    wave = torch.from_numpy(CLIPS[0])[None, None]
    with torch.no_grad():
        before, names = codec.decoder(codec.encoder(wave)), set(codec.state_dict())
        as_matrices(codec)
        assert torch.equal(codec.decoder(codec.encoder(wave)), before)
        plain = Codec(SMALL)
        as_kernels(codec)
        plain.load_state_dict(codec.state_dict())
        assert torch.equal(plain.decoder(plain.encoder(wave)), before)
    assert set(codec.state_dict()) == names


@pytest.mark.usefixtures("small")
def test_folding_puts_the_gain_inside() -> None:
    waves = torch.from_numpy(np.stack(CLIPS))[:, None]
    torch.manual_seed(0)
    codec = build_codec(waves * codec_training.GAIN)
    with torch.no_grad():
        loud = codec.decoder(codec.encoder(waves * codec_training.GAIN))
        plain = Codec(SMALL)
        plain.load_state_dict(folded(codec))
        assert torch.allclose(plain.decoder(plain.encoder(waves)) * codec_training.GAIN, loud, atol=1e-4)


@pytest.mark.usefixtures("small")
def test_a_codec_training_that_was_stopped_equals_one_that_was_not(tmp_path: Path) -> None:
    plan = CodecPlan(steps=6, save_every=2)
    whole = train_codec(CLIPS, CLIPS[:1], tmp_path / "whole", plan).state_dict()

    def kill(_: str) -> None:
        raise KeyboardInterrupt

    for _ in range(2):  # after two steps, and after four
        with pytest.raises(KeyboardInterrupt):
            train_codec(CLIPS, CLIPS[:1], tmp_path / "stopped", plan, kill)
    stopped = train_codec(CLIPS, CLIPS[:1], tmp_path / "stopped", plan).state_dict()
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)


@pytest.mark.usefixtures("small")
def test_a_codec_training_leaves_the_random_numbers_of_the_process_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train_codec(CLIPS, CLIPS[:1], tmp_path, CodecPlan(steps=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("small")
def test_the_decoder_alone_is_trained_further_and_learns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = build_codec(torch.from_numpy(np.stack(CLIPS))[:, None] * codec_training.GAIN)
    for layer in first.quantizer.vq.layers:
        layer._codebook.embed.normal_()
        layer._codebook.inited.fill_(1)
    weights = {name: weight.clone() for name, weight in folded(first).items()}

    def trained(folder: Path, steps: int) -> dict[str, torch.Tensor]:
        codec = Codec(SMALL)
        codec.load_state_dict(weights)
        clips = [Spoken(clip, codes_of(codec, clip), codes_of(codec, clip)) for clip in CLIPS]
        plan = DecoderPlan(steps=steps, rate=0.02, save_every=20)
        return train_decoder(codec, clips, clips[:1], folder, plan).state_dict()

    after = trained(tmp_path / "a", 40)
    assert after.keys() == weights.keys()
    for name, weight in after.items():
        assert torch.equal(weight, weights[name]) == (not name.startswith("decoder.")), name
    lines = (tmp_path / "a" / "log.jsonl").read_text().splitlines()
    first_loss, last_loss = (float(line.split('"validation": ')[1].split(",")[0]) for line in lines)
    assert last_loss < first_loss


def codes_of(codec: Codec, clip: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return codec.encode(torch.from_numpy(clip)[None, None])[0].numpy()


# -- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("words", "Run the training of the semantic stage on letters first"),
        ("sound", "Run the step codec first"),
        ("decoder", "There is no"),
        ("export", "no weights yet"),
    ],
)
def test_a_step_that_comes_too_early_is_refused_in_one_line(
    step: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ["--output", str(tmp_path / "out")] if step == "export" else []
    assert main([step, "--work", str(tmp_path / "work"), *extra]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_export_says_which_trainings_are_missing(tmp_path: Path) -> None:
    from bark_engine.training.nano.export import export

    with pytest.raises(BarkFileError, match="text, coarse, fine, codec"):
        export(tmp_path, tmp_path / "out")

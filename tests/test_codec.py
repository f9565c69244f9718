"""EnCodec through our modules: equal to encodec's own model, and importable where torchaudio is not."""

import copy
import pickle
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bark_engine.audio import Audio, resample
from bark_engine.codec import PIECE, Codec, CodecShape, decode_fine, encode_audio
from bark_engine.errors import BarkInputError
from bark_engine.spec import SUNO
from bark_engine.tokens import CoarseTokens, FineTokens
from support.suno_reference import load_encodec
from support.tiny_models import one_thread

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parent.parent


@cache
def pair() -> tuple[Any, Codec]:
    """encodec's own 24 kHz model at full size with random weights, and ours with the same ones."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        theirs = load_encodec().EncodecModel.encodec_model_24khz(pretrained=False).eval()
        theirs.set_target_bandwidth(6.0)  # 8 codebooks
        for layer in theirs.quantizer.vq.layers:
            layer._codebook.embed.normal_(std=0.02)
            layer._codebook.inited.fill_(1)
        for name, weight in theirs.named_parameters():
            if name.endswith("weight_g"):
                weight *= torch.rand_like(weight) + 0.5  # weight norm folded over the wrong dimension would show
    state = theirs.state_dict()
    ours = Codec(CodecShape()).eval()
    folded = {}
    for name in ours.state_dict():
        if name in state:
            folded[name] = state[name]
        else:
            # The folding written out: each slice along the first dimension has length g.
            g, v = state[f"{name}_g"], state[f"{name}_v"]
            folded[name] = torch.stack([g[row] * v[row] / v[row].norm() for row in range(len(v))])
    ours.load_state_dict(folded)
    return theirs, ours


CODES = np.random.default_rng(0).integers(0, 1_024, (8, 90))


def waveform(samples: int) -> np.ndarray:
    rng = np.random.default_rng(samples)
    return (0.3 * np.sin(np.arange(samples) * 0.05) + 0.1 * rng.standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 2, 7, 90])
def test_decoding_equals_encodec(frames: int) -> None:
    theirs, ours = pair()
    fine = FineTokens(CODES[:, :frames])
    with torch.inference_mode():
        reference = theirs.decode([(torch.tensor(fine.codes)[None], None)])[0, 0].numpy()
    audio = decode_fine(ours, fine, SUNO)
    assert audio.sample_rate == 24_000
    assert audio.samples.shape == (320 * frames,)
    assert np.abs(reference).max() > 1e-3
    np.testing.assert_allclose(audio.samples, reference.clip(-1, 1), atol=1e-5)


@pytest.mark.parametrize("samples", [320, 321, 24_000, 30_011])
def test_encoding_equals_encodec(samples: int) -> None:
    theirs, ours = pair()
    audio = Audio(waveform(samples))
    with torch.inference_mode():
        reference = theirs.encode(torch.tensor(audio.samples)[None, None])[0][0][0].numpy()
    fine = encode_audio(ours, audio, SUNO)
    assert fine.frames == -(-samples // 320)
    assert len(np.unique(reference)) > min(5, fine.frames)
    np.testing.assert_array_equal(fine.codes, reference)


def test_each_codebook_counts() -> None:
    ours = pair()[1]
    whole = decode_fine(ours, FineTokens(CODES), SUNO).samples
    for row in range(8):
        changed = CODES.copy()
        changed[row, 45] = (changed[row, 45] + 1) % 1_024
        other = decode_fine(ours, FineTokens(changed), SUNO).samples
        assert not np.allclose(other, whole, atol=1e-6)
        np.testing.assert_allclose(other[: 45 * 320], whole[: 45 * 320], atol=1e-6)  # causal


def test_loud_sound_is_clipped() -> None:
    ours = Codec(CodecShape(filters=4, dimension=8, codebooks=8)).eval()
    with torch.no_grad():
        for name, weight in ours.named_parameters():
            if name.endswith("bias"):
                weight.fill_(3.0)
    samples = decode_fine(ours, FineTokens(CODES), SUNO).samples
    assert np.abs(samples).max() == 1.0


def test_what_cannot_be_decoded_or_encoded() -> None:
    ours = pair()[1]
    with pytest.raises(BarkInputError, match="Decoding needs FineTokens, but was given CoarseTokens"):
        decode_fine(ours, CoarseTokens(CODES[:2]), SUNO)  # type: ignore[arg-type]
    with pytest.raises(BarkInputError, match="Fine tokens were made by models of the family 'other'"):
        decode_fine(ours, FineTokens(CODES, family="other"), SUNO)
    with pytest.raises(BarkInputError, match=r"is 13\.3 ms long; encoding needs at least 13\.3 ms"):
        encode_audio(ours, Audio(waveform(319)), SUNO)
    with pytest.raises(BarkInputError, match="ms long; encoding needs at least"):
        encode_audio(ours, Audio(waveform(100), 48_000), SUNO)
    with pytest.raises(BarkInputError, match="Encoding needs Audio, but was given ndarray"):
        encode_audio(ours, waveform(1_000), SUNO)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_encoding_at_any_rate(rate: int) -> None:
    """One frame per 1/75 s whatever the rate was."""
    fine = encode_audio(pair()[1], Audio(waveform(rate), rate), SUNO)
    assert fine.frames == 75


@pytest.mark.parametrize(("calls", "resampled"), [(1, False), (2, True)])
def test_encoding_can_be_stopped_before_and_after_resampling(
    calls: int, resampled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which can take as long as what comes after it."""
    done: list[str] = []
    ours = Codec(CodecShape(filters=4, dimension=8, codebooks=8)).eval()

    def noted(audio: Audio, rate: int) -> Audio:
        done.append("resampled")
        return resample(audio, rate)

    def stop(number: int, total: int) -> None:
        done.append(f"{number} of {total}")
        if sum("of" in what for what in done) == calls:
            raise KeyboardInterrupt

    monkeypatch.setattr("bark_engine.codec.resample", noted)
    monkeypatch.setattr(ours, "encode", lambda *_: done.append("encoded"))
    with pytest.raises(KeyboardInterrupt):
        encode_audio(ours, Audio(waveform(16_000), 16_000), SUNO, stop)
    assert done == ["0 of 1", *(["resampled", "0 of 1"] if resampled else [])]


def test_what_bark_says_at_once_is_one_piece() -> None:
    """A longer sound can be stopped between pieces; one of Bark's own has no seams."""
    assert SUNO.frames_for(SUNO.max_semantic) <= PIECE <= 16 * SUNO.frame_rate


@pytest.mark.parametrize("rate", [11_025, 16_000, 44_100, 48_000])
def test_resampling_keeps_a_tone(rate: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    there = resample(Audio(tone, rate), 24_000)
    expected = np.sin(2 * np.pi * 440 * np.arange(24_000) / 24_000)
    assert there.sample_rate == 24_000
    assert len(there.samples) == 24_000
    np.testing.assert_allclose(there.samples[500:-500], expected[500:-500], atol=2e-3)


def test_resampling_to_the_same_rate_is_the_same_object() -> None:
    audio = Audio(waveform(50))
    assert resample(audio, 24_000) is audio


@pytest.mark.parametrize(
    ("samples", "rate", "sentence"),
    [
        (np.zeros(0), 24_000, r"at least one sample, \[n\]; this has shape \[0\]"),
        (np.zeros((2, 5)), 24_000, r"one channel.*\[2, 5\]"),
        (np.array([0.0, np.nan]), 24_000, "NaN or infinite"),
        (np.array([0.0, -np.inf]), 24_000, "NaN or infinite"),
        (np.zeros(5), 0, r"1 … 768,000 Hz; 0 is not"),
        (np.zeros(5), -24_000, r"1 … 768,000 Hz; -24000 is not"),
        (np.zeros(5), 10**7, r"1 … 768,000 Hz; 10000000 is not"),
        (np.zeros(5), None, r"1 … 768,000 Hz; None is not"),
        (np.zeros(5), "24000", r"1 … 768,000 Hz; '24000' is not"),
        (np.zeros(5, np.int16), 24_000, "floating point in −1 … 1, not int16"),
        (np.zeros(5, complex), 24_000, "floating point in −1 … 1, not complex128"),
        ("abc", 24_000, "floating point in −1 … 1, not <U3"),
        ([[0.0], [0.0, 1.0]], 24_000, "an array of samples"),
        (np.array([1e300]), 24_000, "NaN or infinite"),
        (torch.zeros(5, dtype=torch.int16), 24_000, "floating point in −1 … 1, not int16"),
        (torch.zeros(5, dtype=torch.bool), 24_000, "floating point in −1 … 1, not bool"),
        (torch.zeros(5, dtype=torch.complex64), 24_000, "floating point in −1 … 1, not complex64"),
    ],
)
def test_audio_that_is_none(samples: Any, rate: Any, sentence: str) -> None:
    with pytest.raises(BarkInputError, match=sentence):
        Audio(samples, rate)


def test_audio_is_a_read_only_copy() -> None:
    source = np.zeros(24_000)
    audio = Audio(source)
    source[:] = 1
    assert audio.samples.dtype == np.float32
    assert not audio.samples.any()
    assert audio.seconds == 1.0
    with pytest.raises(ValueError, match="read-only"):
        audio.samples[0] = 1


# -- the import guard ----------------------------------------------------------------------------------------------

DECODE = """
    import numpy as np
    from bark_engine.codec import Codec, CodecShape, decode_fine
    from bark_engine.tokens import FineTokens
    from bark_engine.spec import SUNO
    codec = Codec(CodecShape(filters=4, dimension=8, codebooks=8)).eval()
    audio = decode_fine(codec, FineTokens(np.ones((8, 5), int)), SUNO)
    assert audio.samples.shape == (1600,)
"""


def in_a_fresh_process(before: str, after: str) -> None:
    code = "\n".join(
        textwrap.dedent(part) for part in (f"import sys\nsys.path.append({str(ROOT)!r})", before, DECODE, after)
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("problem", ["ImportError", "OSError", "RuntimeError"])
def test_decoding_where_torchaudio_cannot_be_imported(problem: str) -> None:
    """Missing, or built for another torch: it raises OSError or RuntimeError then. It is not even asked for."""
    in_a_fresh_process(
        f"""
        class Broken:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "torchaudio":
                    raise {problem}("libcudart.so.12: cannot open shared object file")
        sys.meta_path.insert(0, Broken())
        """,
        """
        assert not [name for name in sys.modules if name.partition(".")[0] in ("torchaudio", "encodec")]
        try:
            import encodec  # the package itself still fails here, as it should: nothing was put in its place
        except Exception as error:
            assert "libcudart" in str(error)
        else:
            raise AssertionError("a fake torchaudio was left behind")
        """,
    )


def test_modules_of_other_packs_are_left_alone() -> None:
    in_a_fresh_process(
        """
        import types
        theirs = sys.modules["torchaudio"] = types.ModuleType("torchaudio")
        theirs.__version__ = "2.9.9"
        contents = dict(vars(theirs))
        import encodec
        """,
        """
        assert sys.modules["torchaudio"] is theirs
        assert dict(vars(theirs)) == contents
        assert sys.modules["encodec"] is encodec
        assert codec.decoder.__class__ is not encodec.modules.SEANetDecoder  # ours were imported beside theirs
        """,
    )


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_a_copy_of_audio_is_read_only_too(again: Any) -> None:
    audio = Audio(torch.tensor([0.25, -0.5], requires_grad=True), 44_100)  # type: ignore[arg-type]
    twin = again(audio)
    assert (twin.samples.tolist(), twin.sample_rate) == ([0.25, -0.5], 44_100)
    assert not twin.samples.flags.writeable


@pytest.mark.parametrize("frames", [10, 30, 31, 47])
def test_a_long_sound_in_pieces_is_the_whole_one(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against encodec's own model, which takes it whole: lengths of one piece, of several, and with a short rest."""
    theirs, ours = pair()
    codes = torch.from_numpy(CODES[None, :, :frames])
    sound = torch.from_numpy(waveform(frames * 320 - 123))[None, None]
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr("bark_engine.codec.PIECE", 10)
    with torch.inference_mode():
        whole = theirs.decoder(theirs.quantizer.decode(codes.transpose(0, 1)))
        pieces = ours.decode(codes, lambda done, total: steps.append((done, total)))
        assert torch.allclose(pieces, whole, atol=1e-5 * float(whole.abs().max()), rtol=0)
        latent = theirs.encoder(sound)
        wanted = theirs.quantizer.vq.encode(latent, n_q=8).transpose(0, 1)
        assert torch.equal(ours.encode(sound), wanted)
    assert steps == [(n, steps[-1][1]) for n in range(steps[-1][1] + 1)]

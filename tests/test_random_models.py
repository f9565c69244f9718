"""The random model set: Suno's own formats, quick to make, reproducible, and speech of a sensible length."""

import threading

import numpy as np
import pytest
import torch

from bark_engine import random_models
from bark_engine.checkpoint import describe, load_stage
from bark_engine.coarse import generate_coarse
from bark_engine.codec import decode_fine
from bark_engine.errors import BarkFileError
from bark_engine.fine import generate_fine
from bark_engine.random_models import FILES, random_spec, write_random_models
from bark_engine.sampling import CoarseSampling, FineSampling, SemanticSampling
from bark_engine.semantic import generate_semantic
from bark_engine.spec import BarkSpec, register_family
from bark_engine.text import BUNDLED_VOCABULARY, Tokenizer
from support.suno_reference import load_suno
from support.tiny_models import one_thread

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

NETWORK_FILES = {"text": "text.pt", "coarse": "coarse.pt", "fine": "fine.pt", "codec": "encodec.th"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "random"
    write_random_models(folder)
    return folder


@pytest.fixture(scope="module")
def stages(folder):
    return {stage: load_stage(describe(folder / name)[0]) for stage, name in NETWORK_FILES.items()}


@pytest.fixture(scope="module")
def spec():
    return register_family(random_spec())


def test_files(folder, spec):
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12_000_000
    for stage, name in NETWORK_FILES.items():
        (found,) = describe(folder / name)
        assert (found.stage, found.layout) == (stage, "encodec" if stage == "codec" else "suno")
    (text,) = describe(folder / "text.pt")
    assert text.shape.input_vocab == spec.semantic_infer + 1
    assert text.shape.output_vocab == spec.text_offset
    assert BarkSpec.from_json((folder / "spec.json").read_text(), "spec.json") == spec
    assert (folder / "vocab.txt").read_bytes() == BUNDLED_VOCABULARY.read_bytes()


def test_spec_fits_the_vocabulary(spec):
    assert spec.family == "random"
    assert spec.text_pad - spec.text_offset == Tokenizer.load(BUNDLED_VOCABULARY).size


def test_suno_itself_can_load_them(folder):
    """Suno's own classes take the state dicts strictly: the format is theirs, heads and prefixes too."""
    suno = load_suno()
    for name in ("text", "coarse", "fine"):
        checkpoint = torch.load(folder / f"{name}.pt", weights_only=False)
        kind = suno.model_fine if name == "fine" else suno.model
        config = kind.FineGPTConfig if name == "fine" else kind.GPTConfig
        network = (kind.FineGPT if name == "fine" else kind.GPT)(config(**checkpoint["model_args"]))
        network.load_state_dict({k.removeprefix("_orig_mod."): v for k, v in checkpoint["model"].items()}, strict=True)
        assert all(k.startswith("_orig_mod.") for k in checkpoint["model"])
        assert checkpoint["best_val_loss"].item() > 0


def test_reproducible_and_private(folder, tmp_path):
    before = torch.get_rng_state()
    write_random_models(tmp_path / "again")
    write_random_models(tmp_path / "other", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for name in NETWORK_FILES.values():
        first, again, other = (
            load_stage(describe(f / name)[0]).state_dict() for f in (folder, tmp_path / "again", tmp_path / "other")
        )
        assert all(torch.equal(tensor, again[key]) for key, tensor in first.items())
        assert not all(torch.equal(tensor, other[key]) for key, tensor in first.items())


def test_speech_lasts_two_to_four_seconds(stages, spec):
    """Over texts of 1 to 200 tokens; the middle half within 2 to 4 s, all between 1 and 6 s."""
    seconds = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        ids = rng.integers(0, spec.text_pad - spec.text_offset, size=1 + 18 * seed) + spec.text_offset
        tokens = generate_semantic(stages["text"], ids, spec, speaker=None, sampling=SemanticSampling(), seed=seed)
        seconds.append(tokens.seconds)
        assert len(set(np.asarray(tokens).tolist())) > len(tokens) / 2  # varied
    low, high = np.quantile(seconds, [0.25, 0.75])
    assert 2 < low < high < 4
    assert 1 < min(seconds) < max(seconds) < 6


@pytest.mark.parametrize("temperature", [0.2, 1.0, 1.5, None])
def test_speech_ends_by_itself_at_other_temperatures(stages, spec, temperature):
    sampling = SemanticSampling(temperature=temperature)
    ids = np.arange(20) + spec.text_offset
    tokens = generate_semantic(stages["text"], ids, spec, speaker=None, sampling=sampling, seed=0)
    assert 50 < len(tokens) < 500


def test_it_sounds_like_noise_neither_silent_nor_clipped(stages, spec):
    ids = np.arange(20) + spec.text_offset
    semantic = generate_semantic(stages["text"], ids, spec, speaker=None, sampling=SemanticSampling(), seed=0)
    coarse = generate_coarse(stages["coarse"], semantic, spec, speaker=None, sampling=CoarseSampling(), seed=0)
    fine = generate_fine(stages["fine"], coarse, spec, speaker=None, sampling=FineSampling(), seed=0)
    assert all(len(np.unique(row)) > fine.frames / 4 for row in np.asarray(fine))
    samples = decode_fine(stages["codec"], fine, spec).samples.astype(np.float64)
    assert 0.05 < np.sqrt(np.mean(samples**2)) < 0.2
    assert np.abs(samples).max() < 0.99
    assert abs(samples.mean()) < 0.05
    seconds = np.split(samples[: len(samples) // 10 * 10], 10)
    assert min(np.sqrt(np.mean(part**2)) for part in seconds) > 0.02  # in every tenth of it


def test_processes_that_race_all_succeed(tmp_path):
    errors = []

    def make():
        try:
            write_random_models(tmp_path / "random")
        except Exception as error:  # noqa: BLE001 (collected for the main thread)
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [path.name for path in tmp_path.iterdir()] == ["random"]
    assert {path.name for path in (tmp_path / "random").iterdir()} == set(FILES)


def test_a_complete_folder_is_left_as_it_is(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_random_models(folder, seed=5)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "random").mkdir()
    (tmp_path / "random" / "thesis.txt").write_text("mine")
    with pytest.raises(BarkFileError, match="choose a new folder"):
        write_random_models(tmp_path / "random")
    assert [path.name for path in tmp_path.rglob("*")] == ["random", "thesis.txt"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(random_models.torch, "save", full)
    with pytest.raises(BarkFileError, match="Free some space"):
        write_random_models(tmp_path / "random")
    assert list(tmp_path.iterdir()) == []

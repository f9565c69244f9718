"""From a described file to a module: in the precision asked for, and nothing but the wanted weights is read."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bark_engine.checkpoint import describe, load_stage
from bark_engine.errors import BarkFileError, BarkInputError
from bark_engine.precision import is_narrowed
from support import checkpoint_files as files
from support.checkpoint_files import checkpoint, safetensors, text_state

__all__ = ["checkpoint", "safetensors", "text_state"]  # fixtures


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("wanted", [None, torch.float32, torch.float16, torch.bfloat16])
def test_precisions(tmp_path, text_state, stored, wanted):
    save_file({name: tensor.to(stored) for name, tensor in text_state.items()}, tmp_path / "x.safetensors")
    (stage,) = describe(tmp_path / "x.safetensors")
    assert (stage.dtype, stage.stored_bytes) == (stored, stage.parameters * stored.itemsize)
    expected = wanted or (torch.float32 if stored == torch.float64 else stored)
    state = load_stage(stage, wanted).state_dict()
    for name, tensor in text_state.items():
        kept = expected if wanted is None or ".attn." in name or ".mlp." in name else torch.float32
        assert torch.equal(state[name], tensor.to(stored).to(kept)), name


def test_modules_come_ready_to_run(checkpoint):
    before = torch.get_rng_state()
    module = load_stage(describe(checkpoint)[0])
    assert torch.equal(torch.get_rng_state(), before)
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    assert {p.device.type for p in module.parameters()} == {"cpu"}
    cache = module.new_cache(4)
    assert torch.isfinite(module(module.embed(torch.tensor([[1, 2]])), cache)).all()


@pytest.mark.parametrize("dtype", [torch.int16, torch.float64, torch.complex64])
def test_other_precisions_are_refused(checkpoint, dtype):
    with pytest.raises(BarkInputError, match="float32, float16, bfloat16, int8"):
        load_stage(describe(checkpoint)[0], dtype)


def test_file_that_changed_since_it_was_described(tmp_path, checkpoint):
    (stage,) = describe(checkpoint)
    files.suno_checkpoint_of(checkpoint, files.suno_gpt(140, 110, layers=1))
    with pytest.raises(BarkFileError, match="has changed"):
        load_stage(stage)


def test_progress_may_stop_the_loading(checkpoint):
    class StopHereError(Exception):
        pass

    seen = []

    def on_step(done, total):
        seen.append((done, total))
        if done == 3:
            raise StopHereError

    with pytest.raises(StopHereError):
        load_stage(describe(checkpoint)[0], on_step=on_step)
    assert [done for done, _ in seen] == [0, 1, 2, 3]


def mapped_bytes(path):
    """How much of a file's mappings is in memory, and how many there are; from Linux's own accounting."""
    resident, mappings, ours = 0, 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ")[0]:
            ours = line.endswith(str(path))
            mappings += ours
        elif ours and line.startswith("Rss:"):
            resident += 1024 * int(line.split()[1])
    return resident, mappings


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="counts mapped pages as Linux does")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_optimizer_state_is_never_read(tmp_path, dtype):
    suno = files.suno_gpt(4000, 3000, width=128)
    path = files.suno_checkpoint_of(tmp_path / "large.pt", suno)
    weights, size = 4 * sum(p.numel() for p in suno.parameters()), path.stat().st_size
    assert size > 2.9 * weights
    (stage,) = describe(path)
    assert mapped_bytes(path) == (0, 0)
    module = load_stage(stage, dtype)
    resident, mappings = mapped_bytes(path)
    assert mappings
    assert resident <= size // 20  # looked at one by one, each part of the file let go again until it is used
    for weight in module.parameters():
        weight.sum()
    resident, _ = mapped_bytes(path)
    kept = sum(
        w.numel() * 4 for name, w in module.named_parameters() if dtype == torch.float32 or not is_narrowed(name)
    )
    assert kept <= resident <= kept + size // 20  # float32 weights are the mapping itself: no copy
    loaded = module.state_dict()
    for name, weight in suno.named_parameters():
        assert torch.equal(loaded[name], weight.to(loaded[name].dtype)), name


def test_safetensors_loaded_here_are_what_the_library_loads(safetensors):
    theirs = load_file(safetensors)
    for name, tensor in load_stage(describe(safetensors)[0]).state_dict().items():
        assert torch.equal(tensor, theirs[name])


def test_safetensors_whose_header_is_as_long_as_a_pickle_begins(tmp_path, safetensors):
    """Header lengths that end in the byte 80 are one in 32; the first of them were taken for pickles."""
    whole = safetensors.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, numbers = whole[8 : 8 + length], whole[8 + length :]
    longer = next(n for n in range(length, length + 300, 8) if n % 256 == 0x80)
    path = tmp_path / "padded.safetensors"
    path.write_bytes(longer.to_bytes(8, "little") + header.ljust(longer) + numbers)
    assert path.read_bytes().startswith(b"\x80")
    ours = load_stage(describe(path)[0]).state_dict()
    for name, tensor in load_stage(describe(safetensors)[0]).state_dict().items():
        assert torch.equal(ours[name], tensor)

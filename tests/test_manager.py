"""One copy of each stage for all who ask; moved only when there is no room; out of memory is survived once."""

import errno
import gc
import os
import threading
import weakref

import pytest
import torch
from torch import nn

from bark_engine import Bark, BarkInputError, BarkMemoryError, ModelManager
from bark_engine import manager as manager_module
from bark_engine.checkpoint import reading
from bark_engine.library.model_sets import find_model_set
from bark_engine.memory import is_out_of_memory
from bark_engine.placement import LocalPlacement, check_device, module_bytes


@pytest.fixture
def reads(monkeypatch):
    """The stages that were read from disk, in order."""
    seen: list[str] = []
    real = manager_module.load_stage

    def counting(file, dtype=None):
        seen.append(file.stage)
        return real(file, dtype)

    monkeypatch.setattr(manager_module, "load_stage", counting)
    return seen


@pytest.fixture
def manager():
    return ModelManager()


def test_nothing_is_read_before_a_stage_runs(manager, reads):
    bark = Bark.load("nano", manager=manager)
    assert reads == []
    assert manager.loaded() == []
    bark.text_to_semantic("Hello.")
    assert reads == ["text"]


def test_two_barks_with_one_setting_share_one_copy(manager, reads):
    first, second = Bark.load("nano", manager=manager), Bark.load("nano", manager=manager)
    assert first.text_to_semantic("Hello.") == second.text_to_semantic("Hello.")
    assert reads == ["text"]
    assert [key.stage for key in manager.loaded()] == ["text"]


def test_another_precision_is_another_copy(manager, reads):
    full, half = Bark.load("nano", manager=manager), Bark.load("nano", dtype="bfloat16", manager=manager)
    full.text_to_semantic("Hello.")
    half.text_to_semantic("Hello.")
    assert reads == ["text", "text"]
    assert {key.dtype for key in manager.loaded()} == {torch.float32, torch.bfloat16}


def test_threads_that_ask_together_get_one_copy(manager, reads):
    barks = [Bark.load("nano", manager=manager) for _ in range(8)]
    start, results = threading.Barrier(8), [None] * 8

    def work(index):
        start.wait()
        results[index] = barks[index].text_to_semantic("Hello.", seed=3)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reads == ["text"]
    assert all(result == results[0] for result in results)


def test_a_stage_is_freed_when_nobody_holds_it(manager, reads):
    bark = Bark.load("nano", manager=manager)
    bark.text_to_semantic("Hello.")
    assert len(manager.loaded()) == 1
    assert len(manager.placement._stages) == 1
    del bark
    gc.collect()
    assert manager.loaded() == []
    assert manager.placement._stages == []


def test_unload_lets_go_and_the_next_use_reads_again(manager, reads):
    bark = Bark.load("nano", manager=manager)
    before = bark.text_to_semantic("Hello.")
    bark.unload()
    assert manager.loaded() == []
    assert bark.text_to_semantic("Hello.") == before
    assert reads == ["text", "text"]


def test_weights_read_in_inference_mode_are_ordinary_weights(manager):
    """ComfyUI runs its nodes in inference mode; what is made there cannot be changed outside of it."""
    bark = Bark.load("nano", dtype="bfloat16", manager=manager)
    with torch.inference_mode():
        bark.text_to_semantic("Hello.")
    weights = bark._stage("text").run(lambda module, frugal: list(module.parameters()))
    assert weights
    assert not any(weight.is_inference() for weight in weights)


def test_the_codec_is_always_float32(manager):
    bark = Bark.load("nano", dtype="bfloat16", manager=manager)
    bark.decode(bark.say("Hello.").fine)
    assert {key.stage: key.dtype for key in manager.loaded()}["codec"] is torch.float32


class FakeStage(nn.Module):
    """Four bytes a weight, and a diary of its moves instead of moving."""

    def __init__(self, name: str, weights: int, diary: list[str]):
        super().__init__()
        self.name, self.diary = name, diary
        self.weight = nn.Parameter(torch.zeros(weights))

    def to(self, device):
        self.diary.append(f"{self.name} to {torch.device(device).type}")
        return self


@pytest.fixture
def small_gpu():
    """A placement on a pretended GPU of 1,000 bytes, and the diary of moves."""
    diary: list[str] = []
    sizes = {"a": 400, "b": 400, "c": 400, "big": 2000}

    def free(device):
        there = {line.split()[0] for line in diary if line.endswith("cuda")}
        for line in diary:  # replay: what went there and came back is free again
            name, _, where = line.split()
            there.add(name) if where == "cuda" else there.discard(name)
        return 1000 - sum(sizes[name] for name in there)

    placement = LocalPlacement(free=free)
    gpu = torch.device("cuda")
    stages = {name: placement.place(FakeStage(name, size // 4, diary), gpu) for name, size in sizes.items()}
    return stages, diary, placement


def run(stage, working_bytes=0):
    with stage.running(working_bytes):
        pass


def test_a_stage_stays_while_there_is_room(small_gpu):
    stages, diary, _ = small_gpu
    run(stages["a"])
    run(stages["b"])
    run(stages["a"])
    assert diary == ["a to cuda", "b to cuda"]


def test_the_least_recently_used_leaves_when_there_is_no_room(small_gpu):
    stages, diary, _ = small_gpu
    for name in ("a", "b", "a", "c"):
        run(stages[name])
    assert diary == ["a to cuda", "b to cuda", "b to cpu", "c to cuda"]


def test_working_memory_counts_as_well(small_gpu):
    stages, diary, _ = small_gpu
    run(stages["a"])
    run(stages["b"], working_bytes=300)
    assert diary == ["a to cuda", "a to cpu", "b to cuda"]


def test_a_running_stage_is_never_moved(small_gpu):
    stages, diary, placement = small_gpu
    with stages["a"].running(0):
        run(stages["big"])
        placement.make_room()
    assert "a to cpu" not in diary
    placement.make_room()
    assert "a to cpu" in diary


def test_module_bytes_counts_parameters_and_buffers():
    module = nn.Linear(3, 5)
    module.register_buffer("mask", torch.zeros(7, dtype=torch.bool))
    assert module_bytes(module) == 4 * (15 + 5) + 7


def text_stage(manager):
    bark = Bark.load("nano", manager=manager)
    return bark, bark._stage("text")


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"),
        RuntimeError("Could not allocate tensor with 9 bytes. There is not enough GPU video memory available!"),
        RuntimeError("unable to mmap 9 bytes from file <text.pt>: Cannot allocate memory (12)"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        OSError("The paging file is too small for this operation to complete. (os error 1455)"),
    ],
    ids=lambda failure: str(failure)[:24] or "MemoryError",
)
def test_out_of_memory_is_tried_once_more_in_the_frugal_form(manager, failure):
    _bark, stage = text_stage(manager)
    tries = []

    def job(module, frugal):
        tries.append(frugal)
        if not frugal:
            raise failure
        return "done"

    assert stage.run(job) == "done"
    assert tries == [False, True]


def test_a_file_whose_name_speaks_of_memory_is_no_lack_of_it():
    assert not is_out_of_memory(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "out of memory.pt"))


def refusing_to_map(monkeypatch, times):
    """Make the system refuse so many mappings of a file; returns how many are left to refuse."""
    real, left = reading.safe_open, [times]

    def refuse(*arguments, **options):
        if left[0]:
            left[0] -= 1
            raise OSError("Cannot allocate memory (os error 12)")  # as safetensors words it
        return real(*arguments, **options)

    monkeypatch.setattr(reading, "safe_open", refuse)
    return left


def test_a_mapping_that_was_refused_is_tried_once_more(manager, monkeypatch):
    _bark, stage = text_stage(manager)
    left = refusing_to_map(monkeypatch, 1)
    assert stage.run(lambda module, frugal: frugal) is True
    assert left == [0]


def test_a_mapping_that_is_refused_again_is_a_sentence(manager, monkeypatch):
    _bark, stage = text_stage(manager)
    refusing_to_map(monkeypatch, 2)
    with pytest.raises(BarkMemoryError, match=r"Memory ran out while .*text.* was opened .*Close other programs"):
        stage.run(lambda module, frugal: frugal)


def test_out_of_memory_twice_is_a_sentence(manager):
    _bark, stage = text_stage(manager)

    def job(module, frugal):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    with pytest.raises(BarkMemoryError, match=r"text stage does not fit into the memory of cpu.* smaller models"):
        stage.run(job)


def test_the_codec_has_one_size_so_the_sound_must_be_shorter(manager):
    def job(module, frugal):
        raise MemoryError

    with pytest.raises(BarkMemoryError, match=r"codec stage does not fit .* Use a shorter sound\.$"):
        Bark.load("nano", manager=manager)._stage("codec").run(job)


def test_who_keeps_the_error_keeps_no_tensors(manager):
    """`say_many` hands it out for each text, and the next ones need the memory."""
    _bark, stage = text_stage(manager)
    held = []

    def job(module, frugal):
        tensor = torch.zeros(9)
        held.append(weakref.ref(tensor))
        raise MemoryError

    with pytest.raises(BarkMemoryError) as caught:
        stage.run(job)
    gc.collect()
    assert caught.value.__context__ is None
    assert [tensor() for tensor in held] == [None, None]


def test_other_errors_pass_and_nothing_is_tried_again(manager):
    _bark, stage = text_stage(manager)
    tries = []

    def job(module, frugal):
        tries.append(frugal)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        stage.run(job)
    assert tries == [False]


def test_the_frugal_form_gives_the_same_tokens(manager, monkeypatch):
    bark = Bark.load("nano", manager=manager)
    semantic = bark.text_to_semantic("Hello.", seed=2)
    coarse = bark.semantic_to_coarse(semantic, seed=2)
    failed = []

    def first_try_fails(stage_name):
        stage = bark._stage(stage_name)
        real = stage.run

        def run(job, working_bytes=0):
            def wrapped(module, frugal):
                if not frugal:
                    failed.append(stage_name)
                    raise MemoryError
                return job(module, frugal)

            return real(wrapped, working_bytes)

        monkeypatch.setattr(stage, "run", run)

    first_try_fails("text")
    first_try_fails("coarse")
    assert bark.text_to_semantic("Hello.", seed=2) == semantic
    assert bark.semantic_to_coarse(semantic, seed=2) == coarse
    assert failed == ["text", "coarse"]


def test_device_and_precision_names(manager):
    models, cpu = find_model_set("nano"), torch.device("cpu")
    assert manager.dtype("auto", cpu, models.text) is torch.float32
    assert manager.dtype("float16", cpu, models.text) is torch.float16
    assert manager.dtype("float16", cpu, models.codec) is torch.float32
    with pytest.raises(BarkInputError, match=r"float64.*Allowed: auto, float32, float16, bfloat16, int8"):
        manager.dtype("float64", cpu, models.codec)
    with pytest.raises(BarkInputError, match=r"'tpu' is unknown.*auto, cuda, mps, cpu"):
        check_device("tpu")
    assert check_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(BarkInputError, match=r"'cuda' is not available here\. Available: .*cpu"):
        Bark.load("nano", device="cuda")


def test_one_device_has_one_answer_whatever_it_is_called(monkeypatch):
    """Stages are shared by device; with two answers for one card there would be two copies on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert {check_device(name) for name in ("auto", "cuda", "cuda:1")} == {torch.device("cuda", 1)}
    assert check_device("cuda:0") == torch.device("cuda", 0)
    assert check_device("cpu:0") == check_device("cpu") == torch.device("cpu")


def test_arguments_are_checked_before_anything_is_read(manager, reads):
    bark = Bark.load("nano", manager=manager)
    for call in (lambda: bark.say("Hello.", seed=-1), lambda: bark.text_to_semantic("Hello.", seed=2**64)):
        with pytest.raises(BarkInputError, match="seed"):
            call()
    assert reads == []

"""Whole trainings of tiny networks: they learn, they repeat themselves, and a kill costs nothing but time."""

import copy
import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bark_engine import CoarseSampling, FineSampling, SemanticSampling
from bark_engine.__main__ import main
from bark_engine.coarse import generate_coarse
from bark_engine.errors import BarkError, BarkFileError, BarkInputError, BarkMemoryError
from bark_engine.fine import generate_fine
from bark_engine.semantic import generate_semantic
from bark_engine.text import BUNDLED_VOCABULARY, text_to_ids
from bark_engine.tokens import CoarseTokens, SemanticTokens
from bark_engine.training.batches import BatchStream, ExampleSource, cut_evenly
from bark_engine.training.clips import Clip, ClipFolder
from bark_engine.training.layouts import semantic_example
from bark_engine.training.loop import Report, Result, Trainer
from bark_engine.training.lora import TARGETS, LoraPlan, adapter_of, add_lora, fingerprint, merge
from bark_engine.training.networks import network_shape, new_network, read_network, stage_in
from bark_engine.training.objectives import Network, collate
from bark_engine.training.optimizers import Optimizer
from bark_engine.training.plan import TrainingPlan
from bark_engine.training.schedule import learning_rate
from bark_engine.training.state import RunFolder, keep_stage
from support.clips import SMALL, VOCABULARY, make_clip, write_clips

ROOT = Path(__file__).resolve().parent.parent


def eight_clips(folder: Path, shortest: int = 10) -> list[Clip]:
    rng = np.random.default_rng(5)
    clips = [make_clip(SMALL, shortest + number, rng, f"clip {number}") for number in range(8)]
    write_clips(folder, clips, SMALL.family)
    return clips


def train(
    network: Network, data: Path, run: Path, plan: TrainingPlan, **options: object
) -> tuple[Result, list[Report]]:
    folder = ClipFolder.open(data, SMALL, plan.stage)
    source = ExampleSource(folder, SMALL, plan.history, VOCABULARY)
    trainer = Trainer(network, source, RunFolder(run, plan), keep_stage(network, plan.stage, SMALL, None))
    reports: list[Report] = []
    return trainer.train(reports.append, **options), reports  # type: ignore[arg-type]


def wrong_tokens(stage: str, network: Network, clips: list[Clip]) -> int:
    """How many tokens of the clips greedy sampling does not return, with the stage function itself."""
    network.eval()
    wrong = 0
    for clip in clips:
        if stage == "semantic":
            made = generate_semantic(
                network,  # type: ignore[arg-type]
                text_to_ids(clip.text, VOCABULARY, SMALL),
                SMALL,
                speaker=None,
                sampling=SemanticSampling(temperature=None),
                seed=0,
            ).ids
            wanted = clip.semantic
        elif stage == "coarse":
            semantic = SemanticTokens(clip.semantic, SMALL.family)  # type: ignore[arg-type]
            made = generate_coarse(
                network,  # type: ignore[arg-type]
                semantic,
                SMALL,
                speaker=None,
                sampling=CoarseSampling(temperature=None),
                seed=0,
            ).codes
            wanted = clip.coarse
        else:
            coarse = CoarseTokens(clip.coarse, SMALL.family)  # type: ignore[arg-type]
            made = generate_fine(
                network,  # type: ignore[arg-type]
                coarse,
                SMALL,
                speaker=None,
                sampling=FineSampling(temperature=None),
                seed=0,
            ).codes
            wanted = clip.fine
        wrong += wanted.size if made.shape != wanted.shape else int((made != wanted).sum())
    return wrong


OVERFIT = {
    "semantic": TrainingPlan("semantic", steps=180, batch_positions=260, lr=3e-3, warmup=10, weight_decay=0.0),
    "coarse": TrainingPlan("coarse", steps=160, batch_positions=400, lr=3e-3, warmup=10, weight_decay=0.0),
    "fine": TrainingPlan("fine", steps=260, batch_positions=200, lr=3e-3, warmup=10, weight_decay=0.0),
}


@pytest.mark.parametrize(
    ("stage", "shortest", "optimizer"),
    [("semantic", 8, "adamw"), ("coarse", 8, "adamw"), ("fine", 3, "adamw"), ("semantic", 8, "muon")],
)
def test_eight_clips_are_learned_until_greedy_sampling_returns_them(
    stage: str, shortest: int, optimizer: str, tmp_path: Path
):
    clips = eight_clips(tmp_path / "data", shortest)
    network = new_network(stage, network_shape(stage, SMALL, 2, 2, 64), SMALL, seed=1)
    assert wrong_tokens(stage, network, clips) > 50
    plan = dataclasses.replace(OVERFIT[stage], optimizer=optimizer)
    result, _ = train(network, tmp_path / "data", tmp_path / "run", plan)
    assert result.reason == "finished"
    assert wrong_tokens(stage, network, clips) == 0


@pytest.mark.parametrize(
    ("stage", "width", "steps", "shortest"), [("semantic", 64, 150, 10), ("coarse", 64, 130, 5), ("fine", 128, 260, 3)]
)
def test_a_lora_of_rank_8_on_a_frozen_network_learns_them_too(
    stage: str, width: int, steps: int, shortest: int, tmp_path: Path
):
    clips = eight_clips(tmp_path / "data", shortest)
    base = new_network(stage, network_shape(stage, SMALL, 2, 2, width), SMALL, seed=1)
    with torch.no_grad():
        for name, weight in base.named_parameters():
            weight.mul_(1.0 if ".ln_" in name else 5.0)  # as active as the layers of a trained network
    network = copy.deepcopy(base)
    lora = LoraPlan(rank=8, alpha=16.0, targets=TARGETS)
    add_lora(network, lora, seed=2)
    train(network, tmp_path / "data", tmp_path / "run", dataclasses.replace(OVERFIT[stage], lr=1e-2, steps=steps))
    adapter = adapter_of(network, stage, lora, fingerprint(network), {})
    assert wrong_tokens(stage, base, clips) > 20
    merged = merge(base, adapter, stage)  # the frozen network, whose weights nobody has touched
    assert wrong_tokens(stage, base, clips) == 0
    merged.remove()
    assert wrong_tokens(stage, base, clips) > 20


SHORT = TrainingPlan(
    "semantic", steps=12, batch_positions=120, warmup=3, lr=3e-3, validate_every=4, save_every=3, log_every=2
)


def mixed_data(folder: Path) -> Path:
    """Clips of two speakers and of the voice without a prompt, some of them for validation."""
    rng = np.random.default_rng(7)
    speakers = ("", "ann", "bob")
    clips = [
        make_clip(SMALL, int(rng.integers(5, 30)), rng, f"c{n}", speakers[n % 3], "train" if n % 5 else "validation")
        for n in range(30)
    ]
    # Few different tokens: that much can be learned about clips that were never seen.
    clips = [dataclasses.replace(clip, semantic=clip.semantic % 10) for clip in clips]
    return write_clips(folder, clips, SMALL.family)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "state" / "latest.pt", weights_only=True)["weights"]


def figures_of(run: Path) -> list[dict[str, float]]:
    """The log without what a clock has measured."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "targets_per_second")} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert figures_of(one) == figures_of(other)


@pytest.mark.parametrize("stage", ["semantic", "coarse", "fine"])
def test_the_same_seed_gives_the_same_run_and_another_another(stage: str, tmp_path: Path):
    data = mixed_data(tmp_path / "data")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        network = new_network(stage, network_shape(stage, SMALL, 1, 2, 16), SMALL, seed)
        train(network, data, tmp_path / name, dataclasses.replace(SHORT, stage=stage, seed=seed))
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert figures_of(tmp_path / "a") != figures_of(tmp_path / "c")


KILLED = """
import os, signal, sys
sys.path[:0] = [{root!r}, {tests!r}]
import torch
from safetensors.torch import load_file
from support import clips
import bark_engine.training.muon
from bark_engine.__main__ import main

calls = 0
original = {target}

def step(*arguments, **named):
    global calls
    calls += 1
    if calls == {call}:
        {before}
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **named)

{target} = step
main({arguments!r})
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="the system has no SIGKILL")
@pytest.mark.parametrize(
    ("optimizer", "target", "call", "before"),
    [
        # weights are changed, the step is not over
        ("adamw", "torch.optim.AdamW.step", 8, "original(*arguments, **named)"),
        ("muon", "bark_engine.training.muon.Muon.step", 8, "original(*arguments, **named)"),
        ("adamw", "torch.save", 2, "arguments[1].write_bytes(b'half a state')"),  # in the middle of writing
    ],
)
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    optimizer: str, target: str, call: int, before: str, tmp_path: Path
):
    data = mixed_data(tmp_path / "data")
    (tmp_path / "spec.json").write_text(SMALL.to_json())
    options = {
        "--data": data,
        "--spec": tmp_path / "spec.json",
        "--vocabulary": BUNDLED_VOCABULARY,
        "--layers": 1,
        "--heads": 2,
        "--width": 16,
        "--steps": SHORT.steps,
        "--batch-positions": SHORT.batch_positions,
        "--accumulate": 2,
        "--optimizer": optimizer,
        "--validate-every": SHORT.validate_every,
        "--save-every": SHORT.save_every,
        "--log-every": SHORT.log_every,
        "--device": "cpu",
        "--dtype": "float32",
    }
    words = ["train", "semantic", *(str(word) for pair in options.items() for word in pair)]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    script = KILLED.format(
        root=str(ROOT),
        tests=str(ROOT / "tests"),
        target=target,
        call=call,
        before=before,
        arguments=[*words, "--output", str(killed)],
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert figures_of(killed)[-1]["step"] < SHORT.steps
    assert main([*words, "--output", str(killed)]) == 0
    assert main([*words, "--output", str(whole)]) == 0
    assert_same_run(killed, whole)
    best = [load_file(run / "best" / "text.safetensors") for run in (killed, whole)]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[1])


def test_the_state_of_one_optimizer_is_not_taken_for_the_others(tmp_path: Path):
    data = mixed_data(tmp_path / "data")
    run = RunFolder(tmp_path / "a", SHORT)
    network = new_network("semantic", network_shape("semantic", SMALL, 1, 2, 16), SMALL, 0)
    train(network, data, run.path, SHORT)
    with pytest.raises(BarkFileError, match="another optimizer"):
        run.restore(network, Optimizer(network, "muon", 0.1))
    with pytest.raises(BarkInputError, match="optimizer was 'adamw', is 'muon'"):
        train(network, data, run.path, dataclasses.replace(SHORT, optimizer="muon"))


@pytest.mark.parametrize(
    ("where", "failure", "error", "words"),
    [
        (Optimizer, torch.OutOfMemoryError("CUDA out of memory"), BarkMemoryError, "the state itself is whole"),
        (torch, OSError(5, "Input/output error"), BarkFileError, r"cannot be read \(Input/output error\)\. Check the"),
        (torch, RuntimeError("failed finding central directory"), BarkFileError, "Delete the folder"),
    ],
    ids=["memory", "disk", "damage"],
)
def test_only_a_state_that_cannot_be_used_may_be_deleted(
    where: object, failure: Exception, error: type, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = mixed_data(tmp_path / "data")
    network = new_network("semantic", network_shape("semantic", SMALL, 1, 2, 16), SMALL, 0)
    train(network, data, tmp_path / "run", dataclasses.replace(SHORT, steps=1))

    def fail(*arguments: object, **options: object) -> None:
        raise failure

    monkeypatch.setattr(where, "load" if where is torch else "load_state_dict", fail)
    with pytest.raises(error, match=words) as caught:
        train(network, data, tmp_path / "run", SHORT)
    assert str(tmp_path / "run" / "state" / "latest.pt") in str(caught.value)
    assert ("Delete" in str(caught.value)) == (words == "Delete the folder")


def test_a_run_in_bfloat16_repeats_itself_and_trains_float32_weights(tmp_path: Path):
    data = mixed_data(tmp_path / "data")
    for name, dtype in (("a", "bfloat16"), ("b", "bfloat16"), ("c", "float32")):
        network = new_network("semantic", network_shape("semantic", SMALL, 1, 2, 16), SMALL, 0)
        train(network, data, tmp_path / name, dataclasses.replace(SHORT, dtype=dtype))
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert figures_of(tmp_path / "a") != figures_of(tmp_path / "c")
    assert {weight.dtype for weight in weights_of(tmp_path / "a").values()} == {torch.float32}
    losses = [figures_of(tmp_path / name)[-1]["validation_loss"] for name in ("a", "c")]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] < figures_of(tmp_path / "a")[0]["validation_loss"]


def test_a_lora_that_was_validated_in_bfloat16_loses_nothing_when_merged(tmp_path: Path):
    data = mixed_data(tmp_path / "data")
    base = new_network("semantic", network_shape("semantic", SMALL, 1, 2, 16), SMALL, 0)
    network, lora, plan = copy.deepcopy(base), LoraPlan(rank=4), dataclasses.replace(SHORT, dtype="bfloat16", lr=3e-2)
    add_lora(network, lora, seed=2)
    train(network, data, tmp_path / "run", plan)
    merge(base, adapter_of(network, "semantic", lora, fingerprint(base), {}), "semantic")
    source = ExampleSource(ClipFolder.open(data, SMALL, "semantic"), SMALL, plan.history, VOCABULARY)
    batches = [collate(source.validation(plan.validation_clips), SMALL)]
    run = RunFolder(tmp_path / "run", plan)
    validated, merged = (
        Trainer(one, source, run, keep_stage(one, "semantic", SMALL, None)).validation_loss(batches)
        for one in (network, base)
    )
    assert merged == validated


def test_muon_moves_the_matrices_of_the_layers_and_adamw_the_rest():
    network = new_network("semantic", network_shape("semantic", SMALL, 1, 2, 16), SMALL, 0)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    for weight in network.parameters():
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    Optimizer(network, "muon", weight_decay=0.0).step(lr=0.01)
    for name, weight in network.state_dict().items():
        moved = (weight - before[name]).flatten()
        matrix = ".h." in name and weight.ndim == 2
        # AdamW's first step is ±lr everywhere. Muon's singular values lie around 1 (0.7 … 1.2 after its five rounds).
        assert (moved.abs().std() < 1e-4) == (not matrix), name
        if matrix:
            singular = torch.linalg.svdvals(weight - before[name]) / (0.01 * 0.2 * max(weight.shape) ** 0.5)
            assert 0.5 < singular.min() <= singular.max() < 1.4, name
    assert all(weight.grad is None for weight in network.parameters())


def test_a_run_that_is_stopped_goes_on(tmp_path: Path):
    data = mixed_data(tmp_path / "data")
    network = new_network("semantic", network_shape("semantic", SMALL, 1, 2, 16), SMALL, 0)
    answers = iter([False] * 5 + [True])
    result, _ = train(network, data, tmp_path / "a", SHORT, should_stop=lambda: next(answers))
    assert (result.reason, result.step) == ("stopped", 5)
    network = new_network("semantic", network_shape("semantic", SMALL, 1, 2, 16), SMALL, seed=99)  # will be overwritten
    result, reports = train(network, data, tmp_path / "a", SHORT)
    assert (result.reason, reports[0].step) == ("finished", 6)
    network = new_network("semantic", network_shape("semantic", SMALL, 1, 2, 16), SMALL, 0)
    train(network, data, tmp_path / "b", SHORT)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    result, reports = train(network, data, tmp_path / "b", SHORT)
    assert (result.reason, result.step, reports) == ("finished", 12, [])


def test_the_best_weights_are_kept_and_patience_ends_a_run(tmp_path: Path):
    data = mixed_data(tmp_path / "data")
    network = new_network("semantic", network_shape("semantic", SMALL, 1, 2, 16), SMALL, 0)
    # Nothing more can be learned about the tokens of another clip: the validation loss soon rises.
    plan = dataclasses.replace(SHORT, steps=400, lr=2e-2, validate_every=10, patience=3)
    result, reports = train(network, data, tmp_path / "run", plan)
    assert result.reason == "patience"
    assert result.step == result.best_step + 30 < 400
    assert result.best_step > 0
    assert result.best_loss == min(r.validation_loss for r in reports if r.validation_loss is not None)
    kept = stage_in(tmp_path / "run" / "best" / "text.safetensors", "semantic")
    folder = ClipFolder.open(data, SMALL, "semantic")
    source = ExampleSource(folder, SMALL, plan.history, VOCABULARY)
    best = read_network(kept, "semantic", SMALL)
    trainer = Trainer(best, source, RunFolder(tmp_path / "run", plan), keep_stage(best, "semantic", SMALL, None))
    measured = trainer.validation_loss([collate(source.validation(plan.validation_clips), SMALL)])
    assert measured == pytest.approx(result.best_loss, rel=1e-5)


def test_the_folder_of_another_run_is_refused(tmp_path: Path):
    data = mixed_data(tmp_path / "data")
    network = new_network("semantic", network_shape("semantic", SMALL, 1, 2, 16), SMALL, 0)
    train(network, data, tmp_path / "run", dataclasses.replace(SHORT, steps=1))
    with pytest.raises(BarkInputError, match=r"lr was 0\.003, is 0\.001"):
        train(network, data, tmp_path / "run", dataclasses.replace(SHORT, lr=1e-3))


def test_a_loss_that_is_no_number_ends_the_run_with_a_sentence(tmp_path: Path):
    data = mixed_data(tmp_path / "data")
    network = new_network("semantic", network_shape("semantic", SMALL, 1, 2, 16), SMALL, 0)
    with torch.no_grad():
        network.get_parameter("transformer.ln_f.weight").fill_(torch.nan)
    with pytest.raises(BarkError, match="not a number at step 1"):
        train(network, data, tmp_path / "run", dataclasses.replace(SHORT, validation_clips=0))


def test_an_epoch_has_every_clip_once_and_batches_are_of_similar_length(tmp_path: Path):
    rng = np.random.default_rng(0)
    clips = [make_clip(SMALL, int(rng.integers(5, 32)), rng, f"c{n}") for n in range(50)]
    source = ExampleSource(
        ClipFolder.open(write_clips(tmp_path / "data", clips, SMALL.family), SMALL, "semantic"), SMALL, 0.5, VOCABULARY
    )
    stream = BatchStream(source, range(50), batch_positions=150, seed=3)
    seen = [tuple(example.targets.tolist()) for number in range(40) for example in stream.batch(number)]
    assert len(set(seen)) == 50
    assert max(seen.count(one) for one in set(seen)) - min(seen.count(one) for one in set(seen)) <= 1
    for number in range(16):
        lengths = [example.length for example in stream.batch(number)]
        assert 75 < sum(lengths) < 300
    again = BatchStream(source, range(50), batch_positions=150, seed=3)
    for number in (17, 3):  # in any order
        ours, theirs = stream.batch(number), again.batch(number)
        assert [one.ids.tolist() for one in ours] == [one.ids.tolist() for one in theirs]  # type: ignore[union-attr]


def test_pieces_are_never_empty(tmp_path: Path):
    rng = np.random.default_rng(0)
    text_ids = np.full(1, SMALL.text_offset)
    for lengths in ([1] * 8, [30] + [1] * 7, [1] * 7 + [30], [30, 30, 1, 1, 1, 1, 1, 1, 1, 1]):
        examples = [semantic_example(make_clip(SMALL, n, rng), None, text_ids, SMALL) for n in lengths]
        pieces = cut_evenly(list(examples), 8)
        assert all(pieces)
        assert [example for piece in pieces for example in piece] == examples


def test_the_learning_rate_rises_falls_and_ends_where_it_should():
    plan = TrainingPlan("fine", steps=101, warmup=10, lr=1.0, min_lr_ratio=0.1)
    rates = [learning_rate(step, plan) for step in range(101)]
    assert rates[:10] == pytest.approx(np.linspace(0.1, 1.0, 10))
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert (rates[10], rates[55], rates[100]) == pytest.approx((1.0, 0.55, 0.1))


@pytest.mark.parametrize(
    ("field", "value"), [("steps", 0), ("lr", 0.0), ("lr", float("nan")), ("history", 1.1), ("stage", "text")]
)
def test_impossible_settings_are_refused(field: str, value: object):
    with pytest.raises(BarkInputError, match=field):
        TrainingPlan(**{"stage": "fine", field: value})  # type: ignore[arg-type]

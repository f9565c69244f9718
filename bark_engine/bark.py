"""The facade that ties the stages together: `Bark`."""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from .audio import Audio
from .coarse import generate_coarse
from .codec import decode_fine, encode_audio, require_audio
from .errors import BarkError, BarkInputError
from .estimate import Estimate, Speed, estimate, measure_speed, working_bytes
from .fine import generate_fine
from .graphs import bucket
from .library.model_sets import DEFAULT_MODELS, ModelSet, find_model_set
from .manager import ManagedStage, ModelManager, shared_manager
from .many import Request, checked_batch_size, most_rows, rows_that_fit, say_many
from .progress import OnStep, along
from .sampling import CoarseSampling, FineSampling, SemanticSampling, check_seed, require_sampling
from .semantic import generate_semantic
from .speaker import SpeakerPrompt, check_stretch, require_speaker
from .spec import BarkSpec
from .speech import Speech
from .text import Tokenizer, text_to_ids
from .tokens import KINDS, CoarseTokens, FineTokens, SemanticTokens, require_family, require_type
from .trace import TraceRecorder

log = logging.getLogger(__name__)

T = TypeVar("T")


class Bark:
    """A set of Bark models, and the stages as methods. Make one with `Bark.load`; it can be shared by threads.

    Every method takes tokens and gives tokens; nothing is kept between calls but the loaded weights, which live in
    the manager. `on_step(done, total)` is called before each token or pass and may raise to stop the method. A
    `TraceRecorder` given as `trace` notes how likely each token was (see trace.py).
    """

    def __init__(
        self,
        models: ModelSet,
        device: str = "auto",
        dtype: str = "auto",
        manager: ModelManager | None = None,
        graphs: bool = False,
    ):
        log.info("Bark models %s: %s; vocabulary %s", models.name, models.origin, models.vocabulary)
        self.models = models
        self.manager = manager or shared_manager()
        self.device = self.manager.device(device)
        self.graphs = graphs
        self.wanted_dtype = dtype
        self._stages: dict[tuple[str, torch.dtype], ManagedStage] = {}
        for file in (models.text, models.coarse, models.fine, models.codec):
            self._stage(file.stage)  # which refuses what is not to be had
        self._tokenizer: Tokenizer | None = None
        self._tokenizer_lock = threading.Lock()

    @classmethod
    def load(
        cls,
        models: str | os.PathLike[str] = DEFAULT_MODELS,
        *,
        text: str | os.PathLike[str] | None = None,
        coarse: str | os.PathLike[str] | None = None,
        fine: str | os.PathLike[str] | None = None,
        codec: str | os.PathLike[str] | None = None,
        device: str = "auto",
        dtype: str = "auto",
        folders: Sequence[str | os.PathLike[str]] = (),
        manager: ModelManager | None = None,
        graphs: bool = False,
    ) -> "Bark":
        """Find a set of models; weights are read when a stage first runs.

        models: "nano", "small", "large", the name of another set, or the path of a folder or file.
        text, coarse, fine, codec: another set's name or a path for one stage, to mix sizes.
        device: "auto", "cuda", "cuda:N", "mps" (where the codec stays on the CPU) or "cpu". dtype: "auto", "float32",
        "float16", "bfloat16" or "int8", for the weights of attention and MLP; all else is float32 (see precision.py).
        folders: searched before the places of `library/model_sets.py`. graphs: CUDA graphs, one replay per token of the
        text and coarse stages (graphs.py). Never run on a card by us so far; off until measured. On other devices the
        same operations are called one by one, which proves them and gains nothing.

        Raises BarkFileError that lists what is missing and where it was looked for; BarkInputError for a device or
        precision that is not to be had.
        """
        stages = {"text": text, "coarse": coarse, "fine": fine, "codec": codec}
        found = find_model_set(
            _name_or_path(models),
            stages={stage: _name_or_path(wanted) for stage, wanted in stages.items() if wanted is not None},
            folders=[Path(folder) for folder in folders],
            allow_paths=True,
        )
        return cls(found, device, dtype, manager, graphs)

    @property
    def spec(self) -> BarkSpec:
        """The numbers of this family of models."""
        return self.models.spec

    @property
    def tokenizer(self) -> Tokenizer:
        """The text tokenizer that belongs to the models, read on first use."""
        with self._tokenizer_lock:
            if self._tokenizer is None:
                self._tokenizer = Tokenizer.load(self.models.vocabulary, self.spec.lower_case)
            return self._tokenizer

    def text_to_semantic(
        self,
        text: str,
        speaker: SpeakerPrompt | None = None,
        sampling: SemanticSampling = SemanticSampling(),
        seed: int = 0,
        on_step: OnStep | None = None,
        trace: TraceRecorder | None = None,
    ) -> SemanticTokens:
        """What is said and how: text of at most 256 text tokens → semantic tokens `[T]`, 49.9 per second.

        Raises BarkInputError for text that is empty or too long, BarkError when no token was made.
        """
        require_sampling(sampling, SemanticSampling)
        check_seed(seed)
        self.check_speaker(speaker)
        ids = text_to_ids(text, self.tokenizer, self.spec)

        def job(network: Any, frugal: bool) -> SemanticTokens:
            return generate_semantic(
                network,
                ids,
                self.spec,
                speaker=speaker,
                sampling=sampling,
                seed=seed,
                on_step=on_step,
                frugal=frugal,
                trace=trace,
                graphs=self.graphs,
            )

        return self.run_stage("text", job)

    def semantic_to_coarse(
        self,
        semantic: SemanticTokens,
        speaker: SpeakerPrompt | None = None,
        sampling: CoarseSampling = CoarseSampling(),
        seed: int = 0,
        on_step: OnStep | None = None,
        trace: TraceRecorder | None = None,
    ) -> CoarseTokens:
        """The rough sound: semantic tokens `[T]` → coarse tokens `[2, F]`, 75 frames per second.

        Raises BarkInputError for tokens of another family.
        """
        require_sampling(sampling, CoarseSampling)
        check_seed(seed)
        require_type(semantic, SemanticTokens, "Semantic to Coarse")
        require_family(semantic, self.spec, "Semantic tokens")
        self.check_speaker(speaker)

        def job(network: Any, frugal: bool) -> CoarseTokens:
            return generate_coarse(
                network,
                semantic,
                self.spec,
                speaker=speaker,
                sampling=sampling,
                seed=seed,
                on_step=on_step,
                frugal=frugal,
                trace=trace,
                graphs=self.graphs,
            )

        return self.run_stage("coarse", job)

    def coarse_to_fine(
        self,
        coarse: CoarseTokens,
        speaker: SpeakerPrompt | None = None,
        sampling: FineSampling = FineSampling(),
        seed: int = 0,
        on_step: OnStep | None = None,
        trace: TraceRecorder | None = None,
    ) -> FineTokens:
        """The whole sound: coarse tokens `[2, F]` → fine tokens `[8, F]`.

        Raises BarkInputError for tokens of another family.
        """
        require_sampling(sampling, FineSampling)
        check_seed(seed)
        require_type(coarse, CoarseTokens, "Coarse to Fine")
        require_family(coarse, self.spec, "Coarse tokens")
        self.check_speaker(speaker)

        def job(network: Any, frugal: bool) -> FineTokens:
            return generate_fine(
                network, coarse, self.spec, speaker=speaker, sampling=sampling, seed=seed, on_step=on_step, trace=trace
            )

        return self.run_stage("fine", job)

    def decode(self, fine: FineTokens, on_step: OnStep | None = None) -> Audio:
        """Fine tokens `[8, F]` → Audio of 320 · F samples at 24 kHz.

        Raises BarkInputError for tokens of another family.
        """
        require_type(fine, FineTokens, "Decoding")
        seconds = fine.frames / self.spec.frame_rate
        return self.run_stage("codec", lambda codec, _: decode_fine(codec, fine, self.spec, on_step), seconds=seconds)

    def encode(self, audio: Audio, on_step: OnStep | None = None) -> FineTokens:
        """Audio of any rate → fine tokens `[8, F]` of the same sound, resampled to 24 kHz first.

        Raises BarkInputError for audio shorter than one frame (1/75 s).
        """
        require_audio(audio)
        return self.run_stage(
            "codec", lambda codec, _: encode_audio(codec, audio, self.spec, on_step), seconds=audio.seconds
        )

    def say(
        self,
        text: str,
        speaker: SpeakerPrompt | None = None,
        seed: int = 0,
        semantic: SemanticSampling = SemanticSampling(),
        coarse: CoarseSampling = CoarseSampling(),
        fine: FineSampling = FineSampling(),
        on_step: OnStep | None = None,
    ) -> Speech:
        """Text → Speech: all stages in a row, each with the same seed. `on_step` sees one count, 0 … 1,000, for all.

        Raises what the stages raise; arguments are checked before the first stage runs.
        """
        Request(text, speaker, seed, semantic, coarse, fine).check()
        self.check_speaker(speaker)
        report = _whole_progress(on_step)
        semantic_tokens = self.text_to_semantic(text, speaker, semantic, seed, report("text"))
        coarse_tokens = self.semantic_to_coarse(semantic_tokens, speaker, coarse, seed, report("coarse"))
        fine_tokens = self.coarse_to_fine(coarse_tokens, speaker, fine, seed, report("fine"))
        audio = self.decode(fine_tokens, report("codec"))
        return Speech(audio, semantic_tokens, coarse_tokens, fine_tokens, int(seed))

    def say_many(
        self, requests: Iterable[Request], batch_size: int | None = None, on_step: OnStep | None = None
    ) -> Iterator[tuple[int, Speech | BarkError]]:
        """Speak many texts in batches; yields `(index, Speech)` as they finish, in no particular order.

        requests: any number of `Request(text, speaker, seed, semantic, coarse, fine)`. batch_size: how many rows share
        a step; None chooses what fits into a quarter of the memory that could be had, 16 at most (32 on CUDA).
        `on_step` counts 1,000 for each request, and may raise to stop: what it raises ends the iteration and reaches
        the caller as it is, but for StopIteration, which would look like the end and becomes a BarkError.

        Each request gets the tokens that `say` would give it alone, in float32 unless two logits are equal to within
        rounding. One that cannot be spoken yields its BarkError in place of the Speech, and the others go on. Raises
        BarkInputError for an impossible batch size.
        """
        return say_many(self, requests, batch_size, on_step)

    def estimate(
        self,
        requests: Sequence[Request],
        dtype: str | None = None,
        device: str | None = None,
        batch_size: int | None = None,
    ) -> Estimate:
        """What these requests would take in a precision on a device (by default this Bark's): peak bytes, seconds.

        Nothing is loaded and nothing runs. Memory is flat in the number of requests and the length of their texts but
        for the codec; batch_size as in `say_many`, 1 for a single request. Seconds are None until `measure_speed` ran
        once on this machine for such models. Raises BarkInputError for a device or precision that is not to be had.
        """
        batch_size = checked_batch_size(batch_size)
        where, wanted = self.device if device is None else self.manager.device(device), dtype or self.wanted_dtype
        rows = min(batch_size or most_rows(where), max(1, len(requests)))
        size = rows if batch_size else rows_that_fit(self, rows, where, wanted)
        return estimate(self, requests, rows, size, wanted, where)

    def measure_speed(self) -> Speed:
        """Time a few steps of every stage and keep the result for `estimate`, in the user's cache folder.

        Takes some seconds, and loads all stages. Do it while the machine does nothing else. Raises BarkFileError where
        the result cannot be kept.
        """
        return measure_speed(self)

    def unload(self) -> None:
        """Let go of all weights in the manager that this Bark shares; the next use reads them again."""
        self.manager.unload()

    def check_speaker(self, speaker: SpeakerPrompt | None) -> None:
        """Refuse a speaker prompt of another family, with ids that these models lack or parts of unequal length.

        Raises BarkInputError.
        """
        require_speaker(speaker)
        if speaker is not None and speaker.family != self.spec.family:
            raise BarkInputError(
                f"The speaker prompt {speaker.name!r} belongs to models of the family {speaker.family!r}, but these "
                f"models are {self.spec.family!r}. Use a speaker prompt that was made with these models."
            )
        if speaker is not None:  # made, maybe, before the numbers of its family were known
            for kind, tokens in zip(KINDS, (speaker.semantic, speaker.coarse, speaker.fine), strict=True):
                require_family(tokens, self.spec, f"The {kind} tokens of the speaker prompt {speaker.name!r}")
            check_stretch(speaker, self.spec)

    def check_request(self, request: Request) -> npt.NDArray[np.int64]:
        """The model ids of a request's text; refuses (BarkInputError) what can be known to fail before a stage runs."""
        request.check()
        self.check_speaker(request.speaker)
        return text_to_ids(request.text, self.tokenizer, self.spec)

    def run_stage(
        self,
        stage: str,
        job: Callable[[Any, bool], T],
        rows: int = 1,
        size: int | None = None,
        seconds: float = 0.0,
    ) -> T:
        """Call `job(network, frugal)` with a stage on its device and room to work there.

        `rows` of a batch decide the precision, and `size` of them (None: all) share a step, which decides the room; for
        the codec it is `seconds` of sound. `frugal` is True for a second try after memory ran out; see
        `ManagedStage.run`.
        """
        managed, file = self._stage(stage, rows), getattr(self.models, stage)
        size = size or rows
        caches = bucket(size) if self.graphs else size
        return managed.run(job, working_bytes(file, self.spec, managed.key.dtype, self.device, size, caches, seconds))

    def dtype_of(self, stage: str, rows: int = 1) -> torch.dtype:
        """The precision of attention and MLP in a stage that so many sequences go through at once."""
        return self.manager.dtype(self.wanted_dtype, self.device, getattr(self.models, stage), rows)

    def device_of(self, stage: str) -> torch.device:
        """Where a stage runs: this Bark's device, and the codec on the CPU where that is MPS.

        Before macOS 15.1 MPS refuses convolutions of more than 65,536 samples (pytorch issue 152278), 2.7 s of sound.
        """
        return torch.device("cpu") if stage == "codec" and self.device.type == "mps" else self.device

    def _stage(self, stage: str, rows: int = 1) -> ManagedStage:
        """The managed stage, held from now on, so that its weights stay."""
        key = stage, self.dtype_of(stage, rows)
        if key not in self._stages:
            self._stages[key] = self.manager.stage(getattr(self.models, stage), key[1], self.device_of(stage))
        return self._stages[key]


def _name_or_path(models: str | os.PathLike[str]) -> str | Path:
    return models if isinstance(models, str) else Path(models)


def _whole_progress(on_step: OnStep | None) -> Callable[[str], OnStep | None]:
    """Turns the stages' own counts into one count of 1,000 for the whole path."""
    if on_step is None:
        return lambda stage: None

    def for_stage(stage: str) -> OnStep:
        return lambda done, total: on_step(round(1000 * along(stage, done / total)), 1000)

    return for_stage

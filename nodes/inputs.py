"""Inputs that several nodes share, each described once. Defaults are those of the engine's sampling types."""

from comfy_api.latest import io

from ..bark_engine import CoarseSampling, SemanticSampling
from .sockets import BarkModels, BarkSpeaker

MAX_SEED = 2**53 - 1  # the largest whole number that a browser keeps exactly
MAX_TEMPERATURE = 5.0
MAX_SECONDS = 36_000.0  # ten hours: a bound for the widgets


def models_input() -> io.Input:
    """The set of models."""
    return BarkModels.Input(
        "models",
        display_name="models",
        tooltip="From Load Bark Models. A stage's weights are read when it first runs.",
    )


def text_input(more: str = "") -> io.Input:
    """What to say; `more` is a further sentence of the tooltip."""
    return io.String.Input(
        "text",
        multiline=True,
        default="Hello! Nice to meet you.",
        display_name="text",
        tooltip="What to say, at most 256 text tokens (about 13 s of speech), with nano 160 (12 s). Suno's models "
        "perform tags such as [laughs], [sighs] and ♪, and tell the language from the words; nano reads English only."
        + _further(more),
    )


def check_text(text: str | None) -> bool | str:
    """For `validate_inputs`: a sentence for a text that is typed in and empty; a linked one is not known yet."""
    return "The text is empty. Type what Bark should say." if text is not None and not text.strip() else True


def speaker_input(more: str = "") -> io.Input:
    """A voice to continue, or none; `more` is a further sentence of the tooltip."""
    return BarkSpeaker.Input(
        "speaker",
        display_name="speaker",
        optional=True,
        tooltip="The voice to continue, from Load Speaker Prompt or Make Speaker Prompt. "
        "Without one Suno's models make up a voice, another one for each seed; nano has one." + _further(more),
    )


def temperature_input(default: float | None, name: str = "temperature", of: str = "") -> io.Input:
    """How freely a stage chooses."""
    return io.Float.Input(
        name,
        default=default or 0.0,
        min=0.0,
        max=MAX_TEMPERATURE,
        step=0.05,
        display_name=name.replace("_", " "),
        tooltip=f"How freely {of or 'the stage'} chooses. More: more varied and riskier; less: safer and flatter; "
        "0: always the likeliest token.",
    )


def range_inputs(what: str, more: str = "") -> list[io.Input]:
    """Start and end of a range in seconds; `more` is a further sentence of the end's tooltip."""
    begins = f"Where the {what} begins, in seconds. Inspect Tokens gives it for a selection."
    ends = f"Where the {what} ends, in seconds. 0: at the end." + _further(more)
    return [seconds_input("start", begins), seconds_input("end", ends)]


def seconds_input(name: str, tooltip: str) -> io.Input:
    """A moment in a clip, in hundredths of a second."""
    return io.Float.Input(name, default=0.0, min=0.0, max=MAX_SECONDS, step=0.01, display_name=name, tooltip=tooltip)


def top_k_input() -> io.Input:
    """Keep the k likeliest tokens."""
    return io.Int.Input(
        "top_k",
        default=0,
        min=0,
        max=10_000,
        display_name="top k",
        tooltip="Choose only among this many likeliest tokens. Fewer: safer; 0: off, choose among all.",
    )


def top_p_input() -> io.Input:
    """Keep the likeliest tokens up to a probability."""
    return io.Float.Input(
        "top_p",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.01,
        display_name="top p",
        tooltip="Choose only among the likeliest tokens that together have this probability, counted before the "
        "temperature acts. Less: safer; 1: off.",
    )


def seed_input(
    more: str = "Each stage has its own, so one stage can be tried again while the others stay.",
) -> io.Input:
    """Where chance starts; `more` is the tooltip's last sentence."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=MAX_SEED,
        control_after_generate=True,
        display_name="seed",
        tooltip="The same seed with the same inputs gives the same tokens." + _further(more),
    )


def semantic_sampling(
    temperature: float, top_k: int, top_p: float, min_eos_p: float, max_seconds: float, early_stop: bool
) -> SemanticSampling:
    """The widgets of Text to Semantic as the engine's type; 0 and 1 mean off where the tooltips say so."""
    return SemanticSampling(
        temperature, top_k or None, _off_at_one(top_p), min_eos_p or None, max_seconds or None, early_stop
    )


def coarse_sampling(temperature: float, top_k: int, top_p: float, max_history: int, window: int) -> CoarseSampling:
    """The widgets of Semantic to Coarse as the engine's type; 0 and 1 mean off where the tooltips say so."""
    return CoarseSampling(temperature, top_k or None, _off_at_one(top_p), max_history, window)


def _further(sentence: str) -> str:
    return f" {sentence}" if sentence else ""


def _off_at_one(top_p: float) -> float | None:
    return None if top_p >= 1.0 else top_p

"""Keeping tokens: in a file of their own, inside a sound file, and back.

    from bark_engine.keep import Take, load_tokens, save_tokens
    save_tokens("hello.safetensors", Take.of(bark.say("Hello.")))
    fine = load_tokens("hello.safetensors").fine

`load_take` reads either kind of file. Inside a sound file the tokens are metadata of `save_audio`:
`save_audio(path, samples, rate, "flac", metadata=tokens_tag(take))`.
"""

import os
from pathlib import Path

from ..spec import SUNO
from .about import About
from .finish import finish
from .sound_file import SoundFile, is_sound, read_sound, read_tokens, tokens_tag
from .take import Take
from .token_file import load_tokens, save_tokens

__all__ = [
    "About",
    "SoundFile",
    "Take",
    "finish",
    "load_take",
    "load_tokens",
    "read_sound",
    "read_tokens",
    "save_tokens",
    "tokens_tag",
]


def load_take(path: str | os.PathLike[str], family: str = SUNO.family) -> Take:
    """The tokens in a token file or in a sound file; the first bytes decide which it is.

    `family` is for files that do not say which models made them. Raises BarkFileError.
    """
    path = Path(path)
    return read_tokens(path) if is_sound(path) else load_tokens(path, family)

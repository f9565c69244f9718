"""An independent listener: pocketsphinx with its own English model, hearing only words of a closed list, in any order.

It was made for people before a microphone, which espeak-ng is not. Two things help it (word accuracy on espeak-ng's
readings of the hundred sentences): noise beneath, because digital silence shifts the mean that its front end subtracts
(22 % without noise, 60 % with), and treble raised above that noise (57 % without). Its own weights of sound against
language are as good as others. A grammar of any words in any order, instead of the words' frequencies, had not heard
the hundred sentences after a quarter of an hour.
"""

import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import lfilter
from speech_judge import RATE, Floats, spoken

from bark_engine.errors import BarkError, BarkInputError

LEVEL = 0.08  # RMS of the speech it is given
NOISE = 3e-3  # RMS of the white noise under it
EMPHASIS = 0.7  # of the filter y[n] = x[n] − EMPHASIS · x[n − 1] that the clean sound goes through
MARGIN = 0.25  # seconds of silence before and after


class Recogniser:
    """Hears the words of `sentences` in any order; every word must be in pocketsphinx's dictionary.

    Its language model is how often each word occurs in them, nothing about their order. Raises BarkError where
    pocketsphinx is not installed, BarkInputError for words that it cannot pronounce.
    """

    def __init__(self, sentences: Sequence[Sequence[str]]) -> None:
        try:
            import pocketsphinx
        except ImportError:
            raise BarkError(
                "The recogniser pocketsphinx is missing. pip install -r benchmarks/requirements.txt"
            ) from None
        self._package: Any = pocketsphinx
        self._model = Path(pocketsphinx.get_model_path("en-us"))
        self._counts = Counter(word for sentence in sentences for word in sentence)
        self._sentences = len(sentences)
        self.pronunciations = self._read_pronunciations()
        self._alike = _sound_alikes(self.pronunciations)

    def hear(self, sound: Floats) -> list[str]:
        """The words in a sound `[n]` at RATE; none in silence. The same sound gives the same words."""
        speech = spoken(sound)
        if not len(speech):
            return []
        margin = np.zeros(round(MARGIN * RATE))
        clean = np.concatenate([margin, LEVEL * speech / np.sqrt((speech**2).mean()), margin])
        noise = np.random.default_rng(0).standard_normal(len(clean))
        given = np.asarray(lfilter([1, -EMPHASIS], [1], clean)) + NOISE * noise
        self._decoder.start_utt()
        self._decoder.process_raw((np.clip(given, -1, 1) * 32_767).astype("<i2").tobytes(), full_utt=True)
        self._decoder.end_utt()
        heard = self._decoder.hyp()
        return [re.sub(r"\(\d+\)$", "", word) for word in heard.hypstr.split()] if heard else []

    def alike(self, words: Iterable[str]) -> list[str]:
        """Words with one word for all that sound the same (two for too): nobody can hear which was said."""
        return [self._alike[word] for word in words]

    @cached_property
    def _decoder(self) -> Any:
        self._package.set_loglevel("FATAL")
        with tempfile.TemporaryDirectory() as folder:
            dictionary, language = Path(folder, "words.dict"), Path(folder, "words.arpa")
            dictionary.write_text(
                "".join(
                    f"{word}{f'({n})' if n > 1 else ''} {sounds}\n"
                    for word, variants in self.pronunciations.items()
                    for n, sounds in enumerate(variants, start=1)
                )
            )
            language.write_text(self._language_model())
            config = self._package.Config(hmm=str(self._model / "en-us"), dict=str(dictionary), lm=None)
            decoder = self._package.Decoder(config)
            decoder.add_lm_file("words", str(language))
            decoder.activate_search("words")
        return decoder

    def _read_pronunciations(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {word: [] for word in sorted(self._counts)}
        for line in (self._model / "cmudict-en-us.dict").read_text(encoding="utf-8").splitlines():
            word, _, sounds = line.partition(" ")
            word = re.sub(r"\(\d+\)$", "", word)
            if word in found:
                found[word].append(sounds)
        unknown = [word for word, sounds in found.items() if not sounds]
        if unknown:
            raise BarkInputError(
                f"pocketsphinx cannot pronounce {', '.join(unknown)}. Use other words in the sentences, or spell them "
                "out after a tab as words of cmudict."
            )
        return found

    def _language_model(self) -> str:
        """Word frequencies in the ARPA format; the end of a sentence is as likely as it is in the sentences."""
        total = sum(self._counts.values()) + self._sentences
        lines = [f"{math.log10(count / total):.4f} {word}" for word, count in sorted(self._counts.items())]
        lines += ["-99 <s>", f"{math.log10(self._sentences / total):.4f} </s>"]
        return "\n".join(["\\data\\", f"ngram 1={len(lines)}", "", "\\1-grams:", *lines, "", "\\end\\", ""])


def _sound_alikes(pronunciations: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Each word → the first of the words that share a pronunciation with it, or with one that does."""
    alike: dict[str, str] = {}
    owner: dict[str, str] = {}  # sounds → a word that sounds so
    for word, variants in pronunciations.items():
        leaders = {alike[owner[sounds]] for sounds in variants if sounds in owner} | {word}
        alike[word] = word
        alike.update({other: min(leaders) for other, leader in alike.items() if leader in leaders})
        owner.update(dict.fromkeys(variants, word))
    return alike

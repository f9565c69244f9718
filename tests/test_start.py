"""What would make the first token late is not done: no compiler is imported, no vocabulary is read twice."""

import subprocess
import sys

import pytest

from bark_engine import text
from bark_engine.text import BUNDLED_VOCABULARY, Tokenizer

SPEAK = """
import sys
from bark_engine import Bark, SemanticSampling
Bark.load("nano", device="cpu").text_to_semantic("Hello.", sampling=SemanticSampling(max_seconds=0.01))
print(*sorted(name for name in sys.modules if name.startswith("torch._dynamo")))
"""


def test_the_first_token_needs_no_compiler() -> None:
    """Drawing first values on the meta device would import torch._dynamo, which takes longer than reading weights."""
    done = subprocess.run([sys.executable, "-c", SPEAK], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_a_vocabulary_is_taken_in_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text._built.cache_clear()
    counted: list[str] = []
    checked = text._checked_vocabulary
    monkeypatch.setattr(text, "_checked_vocabulary", lambda *given: (counted.append(given[1]), checked(*given))[1])
    assert Tokenizer.load(BUNDLED_VOCABULARY).encode("Hello") == Tokenizer.load(BUNDLED_VOCABULARY).encode("Hello")
    assert len(counted) == 1
    Tokenizer.load(BUNDLED_VOCABULARY, lower_case=True)
    assert len(counted) == 2

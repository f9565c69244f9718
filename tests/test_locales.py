"""locales/: every node, input and output in every language, in step with what the nodes themselves say.

English is made from the nodes (and is what ComfyUI falls back to): UPDATE_SNAPSHOTS=1 pytest tests/test_locales.py
after the stored listing was updated. The other languages are written by hand.
"""

import json
import os
import re
from typing import Any

import pytest

from support.comfy_server import PACK
from support.graphs import snapshot

LANGUAGES = ("zh", "ja", "ko", "de", "fr", "es", "pt-BR")
LOCALES = PACK / "locales"

# Words that are the same in some languages, and names: a display name may be the English one.
MAY_BE_ENGLISH = ("name", "display_name")


def described(name: str, info: dict[str, Any]) -> dict[str, Any]:
    """A node in the form of nodeDefs.json; dots in names would become underscores."""
    inputs = {
        key: {"name": entry[1]["display_name"], "tooltip": entry[1]["tooltip"]}
        for part in ("required", "optional")
        for key, entry in info["input"].get(part, {}).items()
    }
    names, tooltips = info["output_name"], info["output_tooltips"]
    outputs = {
        str(place): {"name": label, "tooltip": tooltip}
        for place, (label, tooltip) in enumerate(zip(names, tooltips, strict=True))
    }
    about = {"display_name": info["display_name"], "description": info["description"], "inputs": inputs}
    return about | ({"outputs": outputs} if outputs else {})


def english() -> dict[str, Any]:
    return {name: described(name, info) for name, info in snapshot().items()}


def read(language: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every text by the keys that lead to it."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in tree.items():
        found |= leaves(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return found


def numbers(text: str) -> list[str]:
    """The numbers in a text without their separators, which languages write differently, in any order."""
    return sorted(re.sub(r"\D", "", found) for found in re.findall(r"\d[\d.,\u00a0\u202f]*", text))


def test_english_is_what_the_nodes_say() -> None:
    file = LOCALES / "en" / "nodeDefs.json"
    now = json.dumps(english(), indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(now, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == now


def test_no_other_language_is_there() -> None:
    assert sorted(path.name for path in LOCALES.iterdir()) == sorted(["en", *LANGUAGES])


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_is_complete(language: str) -> None:
    """Every text is there, none is left over, none is empty, none was forgotten in English."""
    wanted, there = leaves(english()), leaves(read(language))
    assert sorted(there) == sorted(wanted)
    for path, text in there.items():
        assert isinstance(text, str), path
        assert text.strip() == text != "", path
        if path[-1] not in MAY_BE_ENGLISH:
            assert text != wanted[path], path


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_stay_what_they_are(language: str) -> None:
    """A number that changed in English, or was mistyped, is noticed in every language."""
    wanted, there = leaves(english()), leaves(read(language))
    assert {path: numbers(text) for path, text in there.items()} == {p: numbers(text) for p, text in wanted.items()}


def test_a_host_finds_the_languages() -> None:
    """Chinese in Chinese letters, and so on: a file in the wrong folder would show another language."""
    scripts = {"zh": "[\u4e00-\u9fff]", "ja": "[\u3040-\u30ff]", "ko": "[\uac00-\ud7af]"}
    for language in LANGUAGES:
        text = "".join(leaves(read(language)).values())
        assert bool(re.search(scripts.get(language, "[äßéèñãç]"), text)), language
        for other, script in scripts.items():
            if other != language and (other, language) != ("zh", "ja"):  # Japanese uses Chinese letters
                assert not re.search(script, text), (language, other)

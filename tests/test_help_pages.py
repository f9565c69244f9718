"""The help page of each node names everything that the node shows: title, inputs, outputs; and has a picture of it.

What it quotes under "When it refuses" is what the code says, with … for what differs.
"""

import ast
import functools
import re
from collections.abc import Iterator
from typing import Any

import pytest

from support.comfy_server import PACK
from support.graphs import snapshot

FOLDER = PACK / "web" / "docs"
SAID_BY_COMFYUI = ("Return type mismatch",)
OF_A_MACHINE = ("file", "audio", "speaker")  # widgets whose options are files and voices, which a page tells in words


def test_every_node_has_a_page_and_every_page_a_node() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(snapshot())


@pytest.mark.parametrize("node", sorted(snapshot()))
def test_the_page_describes_the_node(node: str) -> None:
    info: dict[str, Any] = snapshot()[node]
    page = (FOLDER / f"{node}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {info['display_name']}\n")
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    assert sorted(rows_of(page)) == sorted((entry[1]["display_name"], name) for name, entry in inputs.items())
    outputs = page.split("\n## Output")[1].split("\n## ")[0]
    for label in info["output_name"]:
        assert f"**{label}**" in outputs
    assert "\n## Recipe" in page
    assert "\n## When it refuses" in page


@pytest.mark.parametrize("node", sorted(snapshot()))
def test_the_page_names_every_option(node: str) -> None:
    page = (FOLDER / f"{node}.md").read_text(encoding="utf-8")
    for part in ("required", "optional"):
        for name, (kind, about) in snapshot()[node]["input"].get(part, {}).items():
            if kind == "COMBO" and name not in OF_A_MACHINE:
                missing = [one for one in about["options"] if f"`{one}`" not in page and f"**{one}**" not in page]
                assert missing == [], name


@pytest.mark.parametrize("node", sorted(snapshot()))
def test_what_it_refuses_is_quoted_as_the_code_says_it(node: str) -> None:
    """Each italic text occurs in one sentence of the sources, whatever its first letter is there."""
    part = (FOLDER / f"{node}.md").read_text(encoding="utf-8").partition("\n## When it refuses\n")[2]
    quotes = re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", " ".join(part.split()))
    assert quotes
    assert [quote for quote in quotes if not is_said(quote) and quote not in SAID_BY_COMFYUI] == []


def test_a_quote_that_nobody_says_is_noticed() -> None:
    assert is_said("Holds at most … MiB of workflow")
    assert not is_said("Holds at most 16 MiB of workflow"), "a value is a gap, and a gap in the quote alone passes it"
    assert not is_said("Files are saved inside the output folder only"), "a page says it, and nobody else"
    assert not is_said("Files to choose from by name"), "a docstring"


def is_said(quote: str) -> bool:
    """Whether some sentence of the sources has these words in it, with anything for each …"""
    pattern = ".*".join(re.escape(piece) for piece in quote.split("…"))
    return any(re.search(pattern, sentence, re.IGNORECASE | re.DOTALL) for sentence in sentences())


@functools.cache
def sentences() -> frozenset[str]:
    """Every text in the sources of nodes and engine that is no docstring, with … for each value put into it."""
    files = [path for folder in ("nodes", "bark_engine") for path in (PACK / folder).rglob("*.py")]
    return frozenset(text for path in files for text in texts_in(ast.parse(path.read_text(encoding="utf-8"))))


def texts_in(tree: ast.AST) -> Iterator[str]:
    """The texts in a piece of code; those put together in one f-string are one."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):  # a docstring
            yield from texts_in(node)


@pytest.mark.parametrize("node", sorted(snapshot()))
def test_the_page_has_a_picture_of_the_node(node: str) -> None:
    found = pictures(node)
    assert found
    for alt, file in found:
        assert len(alt) >= 15, "what is seen, in words"
        assert (FOLDER / file).read_bytes()[:3] == b"\xff\xd8\xff", "JPEG; Python knows no type for .webp before 3.13"
        assert 2_000 < (FOLDER / file).stat().st_size < 40_000


def test_pictures_are_few_bytes_and_all_of_them_are_shown() -> None:
    shown = {FOLDER / file for node in snapshot() for _, file in pictures(node)}
    assert shown == set((FOLDER / "pictures").iterdir())
    assert sum(path.stat().st_size for path in shown) < 600_000


def pictures(node: str) -> list[tuple[str, str]]:
    """Alternative text and file, relative to the page, of each picture on the node's page."""
    return re.findall(r"^!\[(.+)\]\((\S+)\)$", (FOLDER / f"{node}.md").read_text(encoding="utf-8"), re.MULTILINE)


def rows_of(page: str) -> list[tuple[str, str]]:
    """Label and id of each input in the page's table that is described."""
    return re.findall(r"^\| \*\*(.+?)\*\* \(`(\w+)`\) \| .{20,} \|$", page, re.MULTILINE)

"""The help page of each node names everything that the node shows: title, inputs, outputs; and has a picture of it."""

import re
from typing import Any

import pytest

from support.comfy_server import PACK
from support.graphs import snapshot

FOLDER = PACK / "web" / "docs"


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

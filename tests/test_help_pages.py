"""The help page of each node names everything that the node shows: its title, every input and every output."""

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


def rows_of(page: str) -> list[tuple[str, str]]:
    """Label and id of each input in the page's table that is described."""
    return re.findall(r"^\| \*\*(.+?)\*\* \(`(\w+)`\) \| .{20,} \|$", page, re.MULTILINE)

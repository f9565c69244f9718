"""What is written by hand and could drift: README's commands, node table and code, the file map, the changelog."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def node_titles() -> list[str]:
    """Display names in the order of `nodes/__init__.py`, read from the source so that no host is needed."""
    titles: dict[str, str] = {}
    for path in (ROOT / "nodes").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "io.ComfyNode" for base in node.bases):
                call = next(
                    c for c in ast.walk(node) if isinstance(c, ast.Call) and ast.unparse(c.func) == "host.schema"
                )
                keywords = {k.arg: k.value for k in call.keywords}
                titles[node.name] = ast.literal_eval(keywords["display_name"])
    listing = ast.parse((ROOT / "nodes" / "__init__.py").read_text(encoding="utf-8"))
    order = next(
        n for n in ast.walk(listing) if isinstance(n, ast.List) and all(isinstance(e, ast.Name) for e in n.elts)
    )
    return [titles[element.id] for element in order.elts]


def test_readme_lists_every_node():
    table = re.findall(r"^\| ([^|]+?) \| [^|]+ \|$", README, re.MULTILINE)
    listed = [name for name in table if name not in ("Node", "---")]
    assert sorted(listed) == sorted(node_titles())


def test_readme_python_runs():
    blocks = fenced(README, "python")
    assert blocks
    for block in blocks:
        names: dict[str, object] = {}
        exec(compile(block, "README.md", "exec"), names)
        assert names["audio"].sample_rate == 24_000


def test_readme_commands_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [line.strip() for block in fenced(README, "") for line in block.splitlines()]
    made = [line.split()[1] for line in commands if line.startswith("make ")]
    assert {"run", "test"} <= set(made) <= targets
    assert (ROOT / ".ci" / "run").read_text().count("make test") == 1


def test_no_command_of_readme_overwrites_the_sound_of_another():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    written = re.findall(r"^OUTPUT \?= (\S+)$", makefile, re.MULTILINE) + re.findall(r" -o (\S+)", README)
    assert len(written) >= 3
    assert len(set(written)) == len(written)


def test_readme_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README + ARCHITECTURE)
    local = [link for link in links if "://" not in link]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_the_file_map_is_complete():
    """Every module of the nodes and at the top of the engine, and every folder of it, is named in docs/architecture.md.

    And nothing that does not exist is.
    """
    folder = ""
    named = set()
    for cell in re.findall(r"^\| (`[^|]+) \|", ARCHITECTURE, re.MULTILINE):
        for entry in re.findall(r"`([^`]+)`", cell):
            folder = entry.rpartition("/")[0] if "/" in entry else folder
            named.add(entry if "/" in entry or not folder else f"{folder}/{entry}")
    modules = {path for part in ("nodes", "bark_engine") for path in (ROOT / part).glob("[!_]*.py")}
    packages = {path.parent for path in (ROOT / "bark_engine").glob("*/**/__init__.py")}
    known = {path.relative_to(ROOT).as_posix() for path in modules}
    known |= {f"{path.relative_to(ROOT).as_posix()}/" for path in packages}
    assert "nodes/upstream.py" in known
    assert "bark_engine/training/nano/" in known
    assert known - named == set()
    assert {entry for entry in named if entry.endswith((".py", "/")) and not (ROOT / entry).exists()} == set()


def test_the_version_is_in_the_changelog():
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_front_end_is_small():
    """Every page of ComfyUI's loads all of it, whether Bark is used or not."""
    scripts = list((ROOT / "web" / "js").rglob("*.js"))
    assert scripts
    assert sum(script.stat().st_size for script in scripts) <= 200_000

"""What importing costs and touches (nothing), and who may import whom."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.comfy_server import PACK
from support.graphs import NODE_IDS

ENGINE = sorted((PACK / "bark_engine").rglob("*.py"))
NODES = sorted((PACK / "nodes").rglob("*.py"))
HOST_MODULES = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths", "nodes", "server")
MODULES = Path(__file__).parent / "support" / "standin" / "modules"

# Imports the pack as ComfyUI does, then its nodes, and says what changed between the steps.
SCRIPT = """
import importlib.util, json, logging, os, random, socket, sys, threading, warnings

def state():
    known = logging.root.manager.loggerDict.values()
    loggers = [logging.getLogger(), *(one for one in known if isinstance(one, logging.Logger))]
    found = {
        "environment": dict(os.environ),
        "path": list(sys.path),
        "warnings": [str(entry) for entry in warnings.filters],
        "random": hash(random.getstate()),
        "logging": [(one.name, one.level, len(one.handlers)) for one in loggers if one.level or one.handlers],
        "folder": os.getcwd(),
        "threads": threading.active_count(),
    }
    if "torch" in sys.modules:
        import numpy, torch
        found |= {
            "torch threads": torch.get_num_threads(),
            "torch dtype": str(torch.get_default_dtype()),
            "torch seed": torch.initial_seed(),
            "torch state": hash(torch.get_rng_state().numpy().tobytes()),
            "torch grad": torch.is_grad_enabled(),
            "torch precision": torch.get_float32_matmul_precision(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "benchmark": torch.backends.cudnn.benchmark,
            "numpy state": hash(numpy.random.get_state()[1].tobytes()),
        }
    return found

def refuse(*_):
    raise AssertionError("the network was asked for at import")

socket.socket.connect = refuse
socket.getaddrinfo = refuse
pack, modules, step, nodes = sys.argv[1:]
sys.path.append(modules)
if step == "pack":
    before = state()
    bare = set(sys.modules)
else:
    import torch, numpy, scipy.signal, safetensors, tokenizers, huggingface_hub, einops, av
    import comfy.model_patcher, comfy.model_management, comfy.utils, comfy_api.latest, folder_paths
    folder_paths.set_base_directory("/nowhere")
    before = state()
    bare = set(sys.modules)
name = "path/shaped/pack"
spec = importlib.util.spec_from_file_location(name, os.path.join(pack, "__init__.py"))
module = sys.modules[name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
if step == "nodes":
    import asyncio
    extension = asyncio.run(module.comfy_entrypoint())
    assert len(asyncio.run(extension.get_node_list())) == int(nodes)
after = state()
changed = {key: [str(before[key]), str(after[key])] for key in before if before[key] != after[key]}
print(json.dumps({"new": sorted(set(sys.modules) - bare), "changed": changed}))
"""


def imported(step: str) -> dict[str, Any]:
    command = [sys.executable, "-c", SCRIPT, str(PACK), str(MODULES), step, str(len(NODE_IDS))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=PACK.parent)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_importing_the_pack_imports_nothing_heavy() -> None:
    new = imported("pack")["new"]
    assert "path/shaped/pack" in new
    heavy = (
        "torch",
        "numpy",
        "scipy",
        "transformers",
        "encodec",
        "huggingface_hub",
        "av",
        "comfy",
        "path/shaped/pack.",
    )
    assert [name for name in new if name.startswith(heavy)] == []


@pytest.mark.parametrize("step", ["pack", "nodes"])
def test_importing_changes_nothing_global(step: str) -> None:
    """Threads, default types, random states, warnings, environment, logging, the folder; and asks no network."""
    assert imported(step)["changed"] == {}


def test_importing_the_nodes_does_not_import_what_only_some_runs_need() -> None:
    new = imported("nodes")["new"]
    assert "path/shaped/pack" in new
    assert [name for name in new if name.split(".")[0] in ("transformers", "torchaudio", "bark", "requests")] == []


def test_the_engine_works_without_a_host() -> None:
    """Not one of the host's modules is even looked for."""
    code = (
        "import sys\n"
        f"names = {HOST_MODULES}\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        assert path or name.split('.')[0] not in names, name\n"
        "sys.meta_path.insert(0, Finder())\n"
        "import bark_engine\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=PACK)
    assert done.returncode == 0, done.stderr


# -- who imports whom, read from the source -------------------------------------------------------------------------


def imports_of(path: Path) -> Iterator[str]:
    """Absolute names of what a file imports; relative ones as seen from the pack's folder, with a leading dot."""
    here = path.relative_to(PACK).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ("." + ".".join((*base, name)) for name in names)


def test_the_engine_imports_itself_and_libraries_only() -> None:
    for path in ENGINE:
        for name in imports_of(path):
            assert not name.startswith(".") or name.startswith(".bark_engine"), (path, name)
            assert name.split(".")[0] not in (*HOST_MODULES, "bark_engine"), (path, name)


def test_the_nodes_import_the_engine_and_only_one_of_them_the_host() -> None:
    for path in NODES:
        for name in imports_of(path):
            assert not name.startswith(".") or name.startswith((".nodes", ".bark_engine")), (path, name)
            if path.name != "host.py":
                assert name.split(".")[0] not in ("comfy", "folder_paths", "torch", "execution", "server"), (path, name)


def test_the_pack_imports_its_nodes_only() -> None:
    names = list(imports_of(PACK / "__init__.py"))
    assert [name for name in names if name.startswith(".")] == [".nodes", ".nodes"]
    assert set(names) - {".nodes"} <= {"__future__", "logging", "typing"}


# Who may write to a terminal. Everybody else raises, returns or logs, because in ComfyUI nobody looks at one.
TERMINAL = {
    "bark_engine/__main__.py",
    "bark_engine/commands/bar.py",
    "bark_engine/training/merge_command.py",
    "bark_engine/training/nano/__main__.py",
    "bark_engine/training/screen.py",
}


def writes_to_a_terminal(node: ast.AST) -> bool:
    """Whether a piece of source is `print`, one of the standard streams, or brings these in by name."""
    if isinstance(node, ast.Name):
        return node.id == "print"
    if isinstance(node, ast.ImportFrom):
        return node.module == "sys" and any(alias.name.strip("_") in ("stdout", "stderr") for alias in node.names)
    from_sys = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys"
    return from_sys and node.attr.strip("_") in ("stdout", "stderr")


def test_only_the_commands_write_to_a_terminal() -> None:
    writers = {
        path.relative_to(PACK).as_posix()
        for path in (PACK / "__init__.py", *ENGINE, *NODES)
        if any(map(writes_to_a_terminal, ast.walk(ast.parse(path.read_text(encoding="utf-8")))))
    }
    assert writers == TERMINAL


@pytest.mark.parametrize("path", [*ENGINE, *NODES], ids=lambda path: path.relative_to(PACK).as_posix())
def test_no_eval_no_bare_except(path: Path) -> None:
    """A bare except would swallow the host's interruption."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), (path, node.lineno)
        if isinstance(node, ast.ExceptHandler) and path.name != "__main__.py":
            caught = node.type.id if isinstance(node.type, ast.Name) else node.type
            raises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            assert caught is not None, (path, node.lineno)
            assert caught != "BaseException" or raises, (path, node.lineno)

"""The stand-in as a `Host`. One per process: the modules it brings are global."""

import gc
import importlib.util
import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from ..comfy_server import PACK, PACK_NAME
from ..host import Prompt, Result, Run, refusal
from .executor import Executor, load_nodes

_MODULES = Path(__file__).with_name("modules")
_PROBE = Path(__file__).resolve().parents[1] / "probe_pack"


class StandInHost:
    """Loads the pack as ComfyUI does, under a name made from its path, and runs prompts in a thread."""

    real = False
    name = "stand-in"

    def __init__(self, base: Path):
        self.base = base
        for folder in ("models", "input", "output", "temp"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        sys.path.append(str(_MODULES))
        import folder_paths

        folder_paths.set_base_directory(str(base))
        self.pack = load_pack(PACK)
        self._log = _Log()
        for name in (self.pack.__name__, "comfy"):
            logger = logging.getLogger(name)
            logger.addHandler(self._log)
            logger.setLevel(logging.INFO)
        from .core_nodes import CoreNodes

        self.pack_nodes = _nodes_of(self.pack)
        self.executor = Executor({**load_nodes(CoreNodes()), **_nodes_of(load_pack(_PROBE)), **self.pack_nodes})

    def module(self, name: str) -> ModuleType:
        """A module of the loaded pack, such as "nodes.host"."""
        return importlib.import_module(f"{self.pack.__name__}.{name}")

    def object_info(self) -> dict[str, Any]:
        return {
            name: node.object_info(f"custom_nodes.{PACK_NAME}")
            for name, node in {**self.executor.nodes, **self.pack_nodes}.items()
        }

    def submit(self, prompt: Prompt, workflow: dict[str, Any] | None = None) -> Run | Result:
        refused = self.executor.validate(prompt)
        if refused is not None:
            return refusal(refused)
        run = Run()
        extra = None if workflow is None else {"workflow": workflow}

        def work() -> None:
            run.finish(self.executor.run(prompt, extra, run.add))

        threading.Thread(target=work, daemon=True).start()
        return run

    def interrupt(self) -> None:
        import comfy.model_management

        comfy.model_management.interrupt_current_processing()

    def free(self) -> None:
        import comfy.model_management

        comfy.model_management.unload_all_models()
        self.executor.clear_cache()
        gc.collect()  # as the server does then: what a failed run left in a circle would keep its models

    def log_text(self) -> str:
        return "\n".join(self._log.lines)


def report_until_stopped(host: StandInHost, on_progress: Callable[[int, int, str], None], told: list[int]) -> NoReturn:
    """A download that the user stops at its fourth report, and that would go on for a thousand."""
    for done in range(1_000):
        on_progress(done, 1_000, "a file")
        told.append(done)
        if done == 3:
            host.interrupt()
    raise AssertionError("it went on")


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def load_pack(folder: Path) -> ModuleType:
    """Import a pack from its folder, as the host's loader does."""
    name = str(folder).replace(".", "_x_")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def _nodes_of(pack: ModuleType) -> dict[str, Any]:
    import asyncio

    return load_nodes(asyncio.run(pack.comfy_entrypoint()))


def isolate(base: Path, patch: Any) -> None:
    """Point every cache that models are looked for in at `base`, for as long as `patch` (a MonkeyPatch) lasts."""
    from huggingface_hub import constants

    cache = base / "cache"
    for name in ("XDG_CACHE_HOME", "TORCH_HOME"):
        patch.setenv(name, str(cache))
    patch.setattr(constants, "HF_HUB_CACHE", str(cache / "huggingface"))
    patch.setattr(constants, "HF_HUB_OFFLINE", True)

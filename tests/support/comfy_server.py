"""A real ComfyUI server with this pack in it: found, started on a free port in folders of its own, stopped.

    with running_server(find_comfyui(), tmp_path) as server:
        server.get_json("/object_info")

Nothing of the user's ComfyUI is touched but its code: models, custom nodes, input, output, temp, user and caches are
under the given folder. The pack is copied there, as an installation would do, so the tests see what a user gets.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACK = Path(__file__).resolve().parents[2]
PACK_NAME = "bark-inside-out"
STAND_IN = "standin"  # $COMFYUI_PATH=standin: use no real ComfyUI although there is one
SECONDS_TO_START = 240
_NOT_SHIPPED = ("tests", "benchmarks", "output", "docs")
_IMPORT_FAULTS = ("(IMPORT FAILED)", "Cannot import", "Error while calling comfy_entrypoint")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class ServerError(Exception):
    """The server did not start; the message ends with the end of its log."""


class UnusableError(ServerError):
    """The ComfyUI that was found cannot be used for tests, through no fault of the pack."""


def find_comfyui() -> Path | None:
    """The first ComfyUI there is: $COMFYUI_PATH, above the pack if it stands in custom_nodes, ~/comfy/ComfyUI.

    Raises ServerError when $COMFYUI_PATH names a folder that is none.
    """
    wanted = os.environ.get("COMFYUI_PATH", "")
    if wanted == STAND_IN:
        return None
    if wanted:
        if not _is_comfyui(Path(wanted)):
            raise ServerError(f"$COMFYUI_PATH is {wanted!r}, but there is no ComfyUI (main.py, comfyui_version.py).")
        return Path(wanted).resolve()
    above = [PACK.parent.parent] if PACK.parent.name == "custom_nodes" else []
    places = (*above, Path.home() / "comfy" / "ComfyUI")
    return next((place.resolve() for place in places if _is_comfyui(place)), None)


def comfyui_version(root: Path) -> str:
    """Such as "0.3.64", from the file that ComfyUI keeps it in."""
    found = re.search(r'"([^"]+)"', (root / "comfyui_version.py").read_text(encoding="utf-8"))
    return found.group(1) if found else "unknown"


def comfyui_python(root: Path) -> str:
    """The Python that runs this ComfyUI: $COMFYUI_PYTHON, its own environment, the portable build's, else ours."""
    names = (".venv/bin/python", "venv/bin/python", ".venv/Scripts/python.exe", "venv/Scripts/python.exe")
    places = [*(root / name for name in names), root.parent / "python_embeded" / "python.exe"]
    own = next((str(place) for place in places if place.exists()), sys.executable)
    return os.environ.get("COMFYUI_PYTHON") or own


def missing_requirements(root: Path) -> list[str]:
    """What of the pack's requirements.txt this ComfyUI's Python lacks; a user would have installed it."""
    lines = (PACK / "requirements.txt").read_text(encoding="utf-8").splitlines()
    names = [found.group() for line in lines if (found := re.match(r"\w+", line))]
    code = f"import importlib.util as u; print(*[n for n in {names} if u.find_spec(n) is None])"
    command = [comfyui_python(root), "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.split()


def fault_without_the_pack(root: Path) -> str | None:
    """Why this ComfyUI does not start even without the pack, or None when it does: then a failure is the pack's."""
    with tempfile.TemporaryDirectory() as base:
        (Path(base) / "custom_nodes").mkdir()
        command = [*_command(root, Path(base), _free_port()), "--quick-test-for-ci"]
        run = subprocess.run(
            command, cwd=root, env=_environment(Path(base)), capture_output=True, text=True, timeout=SECONDS_TO_START
        )
    return None if run.returncode == 0 else _COLOURS.sub("", run.stderr + run.stdout).strip().splitlines()[-1]


@dataclass
class ComfyServer:
    """A running server: its address, its folders, its log."""

    root: Path
    base: Path
    url: str
    log_path: Path

    @property
    def version(self) -> str:
        return comfyui_version(self.root)

    @property
    def address(self) -> str:
        """Host and port, without http."""
        return self.url.removeprefix("http://")

    def folder(self, name: str) -> Path:
        """The server's "input", "output", "temp", "models", "user" or "custom_nodes" folder."""
        return self.base / name

    def log_text(self) -> str:
        """Everything the server has logged so far, without colours."""
        return _COLOURS.sub("", self.log_path.read_text(encoding="utf-8", errors="replace"))

    def get(self, path: str) -> bytes:
        """The body of a GET; raises urllib.error.HTTPError."""
        with urllib.request.urlopen(self.url + path, timeout=60) as response:
            return response.read()

    def get_json(self, path: str) -> Any:
        """The body of a GET, parsed strictly: NaN and Infinity are no JSON."""
        return json.loads(self.get(path), parse_constant=_refuse_constant)

    def post_json(self, path: str, body: Any) -> tuple[int, Any]:
        """Status and parsed body (None when empty) of a POST; a 4xx or 5xx is an answer, not an exception."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, answer = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, answer = error.code, error.read()
        return status, json.loads(answer) if answer.strip() else None


@contextlib.contextmanager
def running_server(
    root: Path, base: Path, arguments: Sequence[str] = (), custom_nodes: Sequence[Path] = ()
) -> Iterator[ComfyServer]:
    """Start ComfyUI on the CPU with the pack and the given other packs, under the folder `base`; stop it at the end.

    Raises ServerError when it does not answer in time, ends by itself, or could not import the pack; UnusableError
    when it lacks the pack's requirements, or would not start without the pack either.
    """
    if missing := missing_requirements(root):
        raise UnusableError(f"The Python of {root} lacks {', '.join(missing)}; install the pack's requirements.txt.")
    for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
        (base / name).mkdir(parents=True, exist_ok=True)
    install_pack(base / "custom_nodes")
    for pack in custom_nodes:
        shutil.copytree(pack, base / "custom_nodes" / pack.name, ignore=shutil.ignore_patterns("__pycache__"))
    port = _free_port()
    server = ComfyServer(root, base, f"http://127.0.0.1:{port}", base / "server.log")
    with server.log_path.open("wb") as log:
        process = subprocess.Popen(
            [*_command(root, base, port), *arguments],
            cwd=root,
            env=_environment(base),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        try:
            _wait(server, process)
        except ServerError:
            if process.poll() is not None and (fault := fault_without_the_pack(root)):
                raise UnusableError(f"{root} does not start, even without the pack: {fault}") from None
            raise
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def install_pack(custom_nodes: Path) -> Path:
    """Copy what a user gets of the pack into a custom_nodes folder; returns the pack's folder there."""

    def left_out(folder: str, names: list[str]) -> list[str]:
        top = Path(folder) == PACK
        return [name for name in names if name[0] == "." or name == "__pycache__" or (top and name in _NOT_SHIPPED)]

    return Path(shutil.copytree(PACK, custom_nodes / PACK_NAME, ignore=left_out))


def _is_comfyui(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfyui_version.py").is_file()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _command(root: Path, base: Path, port: int) -> list[str]:
    return [
        *(comfyui_python(root), "main.py", "--cpu", "--disable-auto-launch", "--disable-api-nodes"),
        *("--port", str(port), "--base-directory", str(base), "--database-url", f"sqlite:///{base / 'comfyui.db'}"),
    ]


def _environment(base: Path) -> dict[str, str]:
    """No network, caches of its own, one thread (tests run side by side), no variables of the test's own Python."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON", "VIRTUAL"))}
    caches = {"XDG_CACHE_HOME": str(base / "cache"), "HF_HOME": str(base / "cache" / "huggingface")}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**ours, **caches, **threads, "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}


def _wait(server: ComfyServer, process: subprocess.Popen[bytes]) -> None:
    """Until the server answers."""
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        if process.poll() is not None:
            raise ServerError(f"ComfyUI ended by itself (exit {process.returncode}):\n{server.log_text()[-4000:]}")
        if time.monotonic() > deadline:
            raise ServerError(f"ComfyUI did not answer in {SECONDS_TO_START} s:\n{server.log_text()[-4000:]}")
        try:
            server.get("/system_stats")
        except OSError:
            time.sleep(0.2)
        else:
            break
    log = server.log_text()
    if any(fault in line and PACK_NAME in line for line in log.splitlines() for fault in _IMPORT_FAULTS):
        raise ServerError(f"ComfyUI could not import the pack:\n{log[-6000:]}")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON; the browser cannot read it")

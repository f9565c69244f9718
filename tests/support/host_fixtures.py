"""The fixtures `host` and `standin`, and the lines in which pytest says on what the node tests run.

`host` has two parameters where there is a real ComfyUI, otherwise one: the same tests run on both. With pytest-xdist
each worker has a stand-in and a server of its own, in folders of its own; no test relies on another.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from .comfy_server import UnusableError, comfyui_version, find_comfyui, running_server
from .host import Host
from .standin.host import StandInHost, isolate

REAL = find_comfyui()
HOSTS = ["stand-in", *(["ComfyUI"] if REAL else [])]
PROBE_PACK = Path(__file__).with_name("probe_pack")


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandInHost]:
    """The stand-in, with the pack loaded in this process."""
    base = tmp_path_factory.mktemp("standin")
    with pytest.MonkeyPatch.context() as patch:
        isolate(base, patch)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the real server is started; tests run side by side
        yield StandInHost(base)
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def real_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A real ComfyUI with the pack and the probe nodes, running until the tests of this process end."""
    from .real_host import RealHost

    assert REAL is not None
    with contextlib.ExitStack() as stack:
        try:
            base = tmp_path_factory.mktemp("comfyui")
            server = stack.enter_context(running_server(REAL, base, custom_nodes=[PROBE_PACK]))
        except UnusableError as error:
            if os.environ.get("COMFYUI_PATH"):
                raise  # this one was asked for
            warnings.warn(f"the node tests ran on the stand-in alone: {error}", stacklevel=1)
            pytest.skip(str(error))
        yield stack.enter_context(contextlib.closing(RealHost(server)))


@pytest.fixture(scope="session", params=HOSTS)
def host(request: pytest.FixtureRequest) -> Host:
    """A host with the pack and the probe nodes; each is started once, however often tests change between them."""
    return request.getfixturevalue({"stand-in": "standin", "ComfyUI": "real_host"}[request.param])


def pytest_report_header() -> str:
    """Which hosts the node tests run on."""
    if REAL is None:
        return "hosts of the nodes: the stand-in alone (no ComfyUI at $COMFYUI_PATH, above the pack, ~/comfy/ComfyUI)"
    return f"hosts of the nodes: the stand-in and ComfyUI {comfyui_version(REAL)}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m "not host"` leaves the real ComfyUI out."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("host", "stand-in") != "stand-in":
            item.add_marker(pytest.mark.host)


__all__ = ["host", "pytest_collection_modifyitems", "pytest_report_header", "real_host", "standin"]

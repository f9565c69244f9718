"""Downloads against a local server that answers like the hub: complete or absent, resumed, checked, stoppable."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from bark_engine.errors import BarkDownloadError, BarkInputError
from bark_engine.library import download
from bark_engine.library.download import MANIFEST, download_models
from support.hub_server import Hub, running_hub

ROOT = Path(__file__).resolve().parent.parent
CHUNK = 10_000


def _content(key: str, size: int) -> bytes:
    return hashlib.shake_128(key.encode()).digest(size)


CONTENT = {key: _content(key, 60_000 if "text" in key else 20_000) for key in MANIFEST}
SMALL = {
    key: replace(file, size=len(CONTENT[key]), digest=f"md5:{hashlib.md5(CONTENT[key]).hexdigest()}")
    if key != "vocabulary"
    else replace(file, size=len(CONTENT[key]), digest=f"sha256:{hashlib.sha256(CONTENT[key]).hexdigest()}")
    for key, file in MANIFEST.items()
}
TOTAL = sum(len(CONTENT[key]) for key in CONTENT if "small" not in key)  # of the files of "large"
ON_HUB = {f"{file.repo}/{file.path}": CONTENT[key] for key, file in SMALL.items()}


@pytest.fixture(autouse=True)
def _plain_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no offline switch, small chunks, short patience."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub(files=dict(ON_HUB)) as server:
        yield server


def fetch(hub: Hub, folder: Path, models: str = "large", **more: Any) -> list[Path]:
    return download_models(models, folder, manifest=SMALL, endpoint=hub.url, **more)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


class Enough(Exception):  # noqa: N818 (a wish, not an error)
    """What a progress callback raises to stop."""


def stop_at(limit: int) -> Any:
    def on_progress(done: int, total: int, name: str) -> None:
        if done >= limit:
            raise Enough(name)

    return on_progress


# -- what is fetched ---------------------------------------------------------------------------------------------


def test_the_manifest_is_suno_s() -> None:
    assert {key: file.name for key, file in MANIFEST.items()} == {
        "text large": "text_2.pt",
        "coarse large": "coarse_2.pt",
        "fine large": "fine_2.pt",
        "text small": "text.pt",
        "coarse small": "coarse.pt",
        "fine small": "fine.pt",
        "codec": "encodec_24khz.safetensors",
        "vocabulary": "vocab.txt",
    }
    for file in MANIFEST.values():
        kind, _, digits = file.digest.partition(":")
        assert len(bytes.fromhex(digits)) == hashlib.new(kind).digest_size
        assert len(bytes.fromhex(file.revision)) == 20


@pytest.mark.parametrize(
    ("models", "stages", "names"),
    [
        ("large", None, ["text_2.pt", "coarse_2.pt", "fine_2.pt", "encodec_24khz.safetensors", "vocab.txt"]),
        ("small", None, ["text.pt", "coarse.pt", "fine.pt", "encodec_24khz.safetensors", "vocab.txt"]),
        ("large", {"fine": "small"}, ["text_2.pt", "coarse_2.pt", "fine.pt", "encodec_24khz.safetensors", "vocab.txt"]),
        ("small", {"text": "my_own", "codec": Path("x.th")}, ["coarse.pt", "fine.pt", "vocab.txt"]),
        ("my_own", {"fine": "small"}, ["fine.pt", "encodec_24khz.safetensors", "vocab.txt"]),
    ],
)
def test_the_right_files_arrive_whole(hub: Hub, tmp_path: Path, models: str, stages: Any, names: list[str]) -> None:
    paths = fetch(hub, tmp_path / "models" / "bark", models, stages=stages)
    assert [path.name for path in paths] == names
    assert visible(tmp_path / "models" / "bark") == sorted(names)
    by_name = {file.name: CONTENT[key] for key, file in SMALL.items()}
    assert all(path.read_bytes() == by_name[path.name] for path in paths)
    assert not list((tmp_path / "models" / "bark" / ".download").glob("*.part"))


def test_only_the_parts_that_are_asked_for_are_fetched(hub: Hub, tmp_path: Path) -> None:
    paths = fetch(hub, tmp_path, stages={"fine": "small"}, parts={"vocabulary", "fine small", "fine large"})
    assert [path.name for path in paths] == visible(tmp_path) == ["fine.pt", "vocab.txt"]
    assert not any("text_2.pt" in path or "encodec" in path for _, path, _ in hub.asked)


def test_pinned_revisions_are_asked_for(hub: Hub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    asked = {path for _, path, _ in hub.asked}
    assert asked == {f"/{f.repo}/resolve/{f.revision}/{f.path}" for k, f in SMALL.items() if "small" not in k}


def test_a_redirect_to_a_cdn_is_followed(hub: Hub, tmp_path: Path) -> None:
    hub.redirects = True
    fetch(hub, tmp_path)
    assert (tmp_path / "text_2.pt").read_bytes() == CONTENT["text large"]


@pytest.mark.parametrize(
    ("models", "stages"),
    [("random", None), ("huge", None), ("huge", {"codec": "small"}), ("../x", None), ("large", {"speech": "small"})],
)
def test_only_suno_s_sizes_can_be_downloaded(tmp_path: Path, models: str, stages: Any) -> None:
    with pytest.raises(BarkInputError, match="'large' or 'small'"):
        download_models(models, tmp_path / "new", stages=stages)
    assert not (tmp_path / "new").exists()


# -- progress and stopping ---------------------------------------------------------------------------------------


def test_progress_grows_to_the_whole_and_names_each_file(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    fetch(hub, tmp_path, on_progress=lambda *step: seen.append(step))
    done = [step[0] for step in seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, TOTAL)
    assert {step[1] for step in seen} == {TOTAL}
    assert list(dict.fromkeys(step[2] for step in seen)) == [file.name for k, file in SMALL.items() if "small" not in k]
    assert len(seen) > TOTAL / CHUNK


def test_stopping_leaves_no_half_file_and_the_next_call_fetches_only_the_rest(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Enough, match=r"text_2\.pt") as caught:
        fetch(hub, tmp_path, on_progress=stop_at(30_000))
    assert caught.value.__cause__ is None
    assert visible(tmp_path) == []
    hub.asked.clear()
    fetch(hub, tmp_path)
    assert hub.gets()[0][1] == "bytes=30000-"
    assert (tmp_path / "text_2.pt").read_bytes() == CONTENT["text large"]


def test_stopping_with_an_operating_system_error_still_reaches_the_caller(hub: Hub, tmp_path: Path) -> None:
    def on_progress(done: int, total: int, name: str) -> None:
        raise InterruptedError("stop")

    with pytest.raises(InterruptedError, match="stop"):
        fetch(hub, tmp_path, on_progress=on_progress)


def test_stopping_while_the_finished_file_is_checked_keeps_it_for_the_next_call(hub: Hub, tmp_path: Path) -> None:
    steps = iter(range(100))

    def on_progress(done: int, total: int, name: str) -> None:
        if done == len(CONTENT["text large"]) and next(steps) == 1:  # 0: the last chunk; 1: the check
            raise Enough

    with pytest.raises(Enough):
        fetch(hub, tmp_path, on_progress=on_progress)
    assert visible(tmp_path) == []
    hub.asked.clear()
    fetch(hub, tmp_path)
    assert not any("text_2.pt" in path for path, _ in hub.gets())
    assert (tmp_path / "text_2.pt").read_bytes() == CONTENT["text large"]


# -- a bad network -----------------------------------------------------------------------------------------------


def test_cut_connections_are_resumed_and_only_missing_bytes_are_sent(hub: Hub, tmp_path: Path) -> None:
    hub.cut_after = [25_000, 20_000]
    fetch(hub, tmp_path)
    spans = [span for path, span in hub.gets() if "text_2.pt" in path]
    assert len(spans) == 3
    assert spans[0] == "bytes=0-"
    starts = [int(str(span)[6:-1]) for span in spans]
    assert 0 < starts[1] <= 25_000
    assert starts[1] < starts[2] <= 45_000
    assert (tmp_path / "text_2.pt").read_bytes() == CONTENT["text large"]
    assert TOTAL <= hub.sent <= TOTAL + 2 * CHUNK  # at most the unfinished chunk of each cut comes twice


def test_a_connection_that_brings_nothing_ends_with_a_sentence_and_keeps_what_came(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library waits between its own attempts
    hub.cut_after = [25_000] + [0] * 20
    with pytest.raises(BarkDownloadError, match="what has arrived is kept"):
        fetch(hub, tmp_path)
    assert visible(tmp_path) == []
    hub.cut_after = []
    hub.asked.clear()
    fetch(hub, tmp_path)
    assert int(str(hub.gets()[0][1])[6:-1]) >= 20_000
    assert (tmp_path / "text_2.pt").read_bytes() == CONTENT["text large"]


def test_a_silent_server_ends_with_a_sentence(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.silent = True
    with pytest.raises(BarkDownloadError, match=r"\((no answer in time|no connection)\)\. Check the network"):
        fetch(hub, tmp_path)
    assert visible(tmp_path) == []


def test_no_server_at_all_ends_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with running_hub() as gone:
        pass
    with pytest.raises(
        BarkDownloadError, match=r"\(no connection\)\. Check the network, the proxy and HF_ENDPOINT"
    ) as caught:
        fetch(gone, tmp_path)
    assert "\n" not in str(caught.value)
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "mirror"), (429, "too many"), (500, "trouble of its own")],
)
def test_refusals_say_what_to_do(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, advice: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.status = status
    with pytest.raises(BarkDownloadError, match=rf"text_2\.pt could not be fetched from .*HTTP {status}.*{advice}"):
        fetch(hub, tmp_path)
    assert visible(tmp_path) == []


def test_a_file_missing_on_the_hub_is_known_before_anything_is_moved(hub: Hub, tmp_path: Path) -> None:
    del hub.files["suno/bark/vocab.txt"]
    with pytest.raises(BarkDownloadError, match=r"vocab\.txt .*HTTP 404"):
        fetch(hub, tmp_path)
    assert hub.sent == 0


# -- wrong content -----------------------------------------------------------------------------------------------


def test_wrong_bytes_are_refused_and_removed(hub: Hub, tmp_path: Path) -> None:
    wrong = _content("another", len(CONTENT["coarse large"]))
    hub.files["suno/bark/coarse_2.pt"] = wrong
    with pytest.raises(BarkDownloadError) as caught:
        fetch(hub, tmp_path)
    assert SMALL["coarse large"].digest in str(caught.value)
    assert hashlib.md5(wrong).hexdigest() in str(caught.value)
    assert visible(tmp_path) == ["text_2.pt"]  # the good one before it stays
    assert not list((tmp_path / ".download").glob("*.part"))
    hub.files["suno/bark/coarse_2.pt"] = CONTENT["coarse large"]
    fetch(hub, tmp_path)
    assert (tmp_path / "coarse_2.pt").read_bytes() == CONTENT["coarse large"]


@pytest.mark.parametrize("lie", [150, 100_000, -1])
def test_a_lying_size_is_refused(hub: Hub, tmp_path: Path, lie: int) -> None:
    hub.lie_about_size = lie
    with pytest.raises(BarkDownloadError, match=r"text_2\.pt"):
        fetch(hub, tmp_path)
    assert visible(tmp_path) == []


def test_a_part_that_is_too_long_is_started_again(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Enough):
        fetch(hub, tmp_path, on_progress=stop_at(30_000))
    (part,) = (tmp_path / ".download").glob("*.part")
    part.write_bytes(b"x" * 70_000)
    fetch(hub, tmp_path)
    assert (tmp_path / "text_2.pt").read_bytes() == CONTENT["text large"]


def test_a_part_of_another_version_is_not_continued(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(Enough):
        fetch(hub, tmp_path, on_progress=stop_at(30_000))
    newer = _content("newer", 60_000)
    hub.files["suno/bark/text_2.pt"] = newer
    manifest = SMALL | {"text large": replace(SMALL["text large"], digest=f"md5:{hashlib.md5(newer).hexdigest()}")}
    download_models("large", tmp_path, manifest=manifest, endpoint=hub.url)
    assert (tmp_path / "text_2.pt").read_bytes() == newer


# -- what is there already ---------------------------------------------------------------------------------------


def test_complete_files_need_no_network_and_are_hashed_only_once(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(hub, tmp_path)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(download, "_hash", lambda *arguments: pytest.fail("hashed again"))
    assert fetch(hub, tmp_path)[0] == tmp_path / "text_2.pt"
    assert hub.asked == []


def test_a_file_put_there_by_hand_is_checked_and_kept(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "text_2.pt").write_bytes(CONTENT["text large"])
    steps: list[tuple[int, int, str]] = []
    fetch(hub, tmp_path, on_progress=lambda *step: steps.append(step))
    assert steps[0] == (60_000, 60_000, "text_2.pt")
    assert not any("text_2.pt" in path for _, path, _ in hub.asked)


def test_another_file_of_that_name_is_neither_used_nor_touched(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "text_2.pt").write_bytes(b"my own training")
    with pytest.raises(BarkDownloadError, match=r"is there already, but is not the file .*Rename or remove"):
        fetch(hub, tmp_path)
    assert (tmp_path / "text_2.pt").read_bytes() == b"my own training"
    assert hub.asked == []


def test_a_verified_file_that_changed_is_hashed_again(hub: Hub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    (tmp_path / "fine_2.pt").write_bytes(b"x" * len(CONTENT["fine large"]))
    with pytest.raises(BarkDownloadError, match=r"fine_2\.pt is there already, but is not"):
        fetch(hub, tmp_path)


@pytest.mark.parametrize("record", [b"", b"[1]", b"\xff", b'{"text_2.pt": 3}'])
def test_a_damaged_record_only_costs_hashing_again(hub: Hub, tmp_path: Path, record: bytes) -> None:
    fetch(hub, tmp_path)
    (tmp_path / ".download" / "verified.json").write_bytes(record)
    hub.asked.clear()
    fetch(hub, tmp_path)
    assert hub.asked == []


# -- the folder --------------------------------------------------------------------------------------------------


def test_too_little_space_is_said_before_anything_is_moved(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": TOTAL - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(BarkDownloadError, match=r"needs 0\.00 GB, but only 0\.00 GB are free"):
        fetch(hub, tmp_path)
    assert hub.sent == 0
    usage.free = TOTAL
    fetch(hub, tmp_path)


def test_what_has_arrived_counts_towards_the_space_needed(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Enough):
        fetch(hub, tmp_path, on_progress=stop_at(30_000))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": TOTAL - 30_000}))
    fetch(hub, tmp_path)


def test_a_disk_that_fills_up_in_the_middle_keeps_what_came(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(download._PartFile):
        def write(self, data: Any, /) -> int:
            if self.tell() + len(data) > 30_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    with monkeypatch.context() as full:
        full.setattr(download, "_PartFile", Full)
        with pytest.raises(BarkDownloadError, match="disk is full"):
            fetch(hub, tmp_path)
    assert visible(tmp_path) == []
    hub.asked.clear()
    fetch(hub, tmp_path)
    assert hub.gets()[0][1] == "bytes=30000-"


def test_a_folder_that_cannot_be_made_is_said(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BarkDownloadError, match=r"cannot be stored in .*Choose a folder"):
        fetch(hub, tmp_path / "file" / "models")


def test_two_downloads_into_one_folder_do_not_mix(hub: Hub, tmp_path: Path) -> None:
    refused: list[BarkDownloadError] = []

    def on_progress(done: int, total: int, name: str) -> None:
        if not refused:
            with pytest.raises(BarkDownloadError, match="Another download") as caught:
                fetch(hub, tmp_path)
            refused.append(caught.value)

    fetch(hub, tmp_path, on_progress=on_progress)
    assert refused
    assert (tmp_path / "text_2.pt").read_bytes() == CONTENT["text large"]


# -- environment -------------------------------------------------------------------------------------------------


def test_offline_mode_is_said_at_once(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BarkDownloadError, match=r"text_2\.pt.*HF_HUB_OFFLINE is set"):
        fetch(hub, tmp_path)
    assert hub.asked == []


def _script(hub: Hub, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Download two files in a fresh interpreter, as the command line would, with this environment."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from bark_engine.library.download import HubFile, download_models\n"
        "from bark_engine.errors import BarkError\n"
        "manifest = {key: HubFile(**file) for key, file in json.loads(sys.argv[3]).items()}\n"
        "own = dict.fromkeys(('coarse', 'fine', 'codec'), 'own')\n"
        "try: download_models('large', sys.argv[2], stages=own, manifest=manifest)\n"
        "except BarkError as error: sys.exit(str(error))\n"
    )
    manifest = json.dumps({key: asdict(SMALL[key]) for key in ("text large", "vocabulary")})
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}
    return subprocess.run(
        [sys.executable, "-c", code, str(ROOT), str(folder), manifest],
        env=clean | {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_mirror_is_honoured_and_nothing_is_printed(hub: Hub, tmp_path: Path) -> None:
    done = _script(hub, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "vocab.txt").read_bytes() == CONTENT["vocabulary"]


def test_the_offline_switch_of_the_environment_is_honoured(hub: Hub, tmp_path: Path) -> None:
    done = _script(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert hub.asked == []

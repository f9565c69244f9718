"""Bark among ComfyUI's own audio nodes: its sound goes into them, theirs comes back as tokens."""

import numpy as np
import pytest

from support.graphs import Graph, add_take
from support.host import Host, run, run_probes, saved_files
from support.sound import read_sound, write_flac


def test_barks_sound_goes_through_core_nodes(host: Host) -> None:
    """Cut, joined (which makes it stereo), shown, saved by the core node and by ours."""
    graph = Graph()
    take = add_take(graph, seed=80)
    cut = graph.add("TrimAudioDuration", audio=take.audio, start_index=0.0, duration=0.2)
    joined = graph.add("AudioConcat", audio1=take.audio, audio2=cut, direction="after")
    shown = graph.add("PreviewAudio", audio=joined)
    core = graph.add("SaveAudio", audio=joined, filename_prefix="core/joined")
    ours = graph.add("BarkSaveAudio", audio=joined, filename_prefix="core/ours")
    result = run(host, graph)
    assert result.status == "success", result.message
    sounds = [read_sound(saved_files(host, result, node.key)[0]) for node in (shown, core, ours)]
    assert {sound.rate for sound in sounds} == {24_000}
    assert {sound.samples.shape for sound in sounds} == {sounds[0].samples.shape}
    assert sounds[0].samples.shape[0] == 2
    assert np.abs(sounds[1].samples - sounds[2].samples).max() <= 1 / 32_000


@pytest.mark.parametrize(
    "sound",
    [
        {"channels": 2, "rate": 44_100, "samples": 44_100},
        {"channels": 1, "rate": 24_000, "samples": 24_000},
        {"channels": 2, "rate": 8_000, "samples": 8_000},
    ],
    ids=["stereo 44.1 kHz", "mono 24 kHz", "stereo 8 kHz"],
)
def test_any_recording_becomes_tokens_and_sound_again(host: Host, sound: dict[str, int]) -> None:
    graph = Graph()
    loader = graph.add("BarkLoadModels", models="nano")
    encoded = graph.add("BarkEncodeAudio", models=loader, audio=graph.add("ProbeSound", **sound))
    again = graph.add("BarkDecodeFineTokens", models=loader, fine=encoded)
    values = run_probes(host, graph, fine=encoded.out(0), coarse=encoded.out(1), audio=again)
    assert (values["fine"]["kind"], values["fine"]["shape"]) == ("FineTokens", [8, 75])
    assert (values["coarse"]["kind"], values["coarse"]["shape"]) == ("CoarseTokens", [2, 75])
    assert values["audio"]["shape"] == [1, 1, 24_000]


def test_a_file_from_the_input_folder_is_encoded(host: Host) -> None:
    samples = np.sin(np.arange(22_050) * 0.1)[None].astype(np.float32) / 2
    write_flac(host.base / "input" / "recording.flac", samples, 22_050)
    graph = Graph()
    loader = graph.add("BarkLoadModels", models="nano")
    recording = graph.add("LoadAudio", audio="recording.flac")
    encoded = graph.add("BarkEncodeAudio", models=loader, audio=recording)
    fine = graph.add("BarkCoarseToFine", models=loader, coarse=encoded.out(1), seed=81)
    assert run_probes(host, graph, fine=fine)["fine"]["shape"] == [8, 75]


def test_the_saver_passes_the_sound_on_unchanged(host: Host) -> None:
    graph = Graph()
    sound = graph.add("ProbeSound", channels=2, samples=2_400)
    save = graph.add("BarkSaveAudio", audio=sound, filename_prefix="pass/on", sample_rate="48000", normalise=True)
    before, after = graph.add("ProbeValue", value=sound), graph.add("ProbeValue", value=save)
    result = run(host, graph)
    assert result.ui[before.key] == result.ui[after.key]

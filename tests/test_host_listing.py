"""What a host says about the nodes: all there, in the order and with the names that saved workflows rely on."""

import json
import os
from typing import Any

from support.graphs import NODE_IDS, SNAPSHOT
from support.host import Host

# Options that depend on the files and cards of a machine; these are always among them.
ALWAYS = {
    "device": ["auto", "cuda", "mps", "cpu"],
    "models": ["large", "small", "nano", "random"],
    "text_models": ["same", "large", "small", "nano", "random"],
    "coarse_models": ["same", "large", "small", "nano", "random"],
    "fine_models": ["same", "large", "small", "nano", "random"],
    "file": [],
    "audio": [],
    "speaker": ["announcer", "v2/en_speaker_6", "v2/zh_speaker_0", "en_speaker_0"],
}
# What newer versions of ComfyUI add to every node; nothing of the pack's own.
ADDED_LATER = (
    "is_input_list",
    "output_matchtypes",
    "dev_only",
    "price_badge",
    "search_aliases",
    "essentials_category",
    "has_intermediate_output",
)


def normalised(object_info: dict[str, Any]) -> dict[str, Any]:
    """The pack's nodes without what depends on the version or on files."""
    nodes = {name: json.loads(json.dumps(info)) for name, info in object_info.items() if name.startswith("Bark")}
    for info in nodes.values():
        for name in ADDED_LATER:
            info.pop(name, None)
        for part in info["input"].values():
            for name, entry in part.items():
                if name in ALWAYS and entry[0] == "COMBO":
                    entry[1]["options"] = [option for option in ALWAYS[name] if option in entry[1]["options"]]
    return {name: nodes[name] for name in sorted(nodes, key=NODE_IDS.index)}


def test_every_node_is_listed(host: Host) -> None:
    listed = {name for name in host.object_info() if name.startswith("Bark")}
    assert listed == set(NODE_IDS)


def test_object_info_is_the_stored_one(host: Host) -> None:
    """As text, since the order of inputs is part of the contract.

    After a change on purpose: UPDATE_SNAPSHOTS=1 pytest tests/test_host_listing.py -k stand-in
    """
    now = json.dumps(normalised(host.object_info()), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS") and not host.real:
        SNAPSHOT.write_text(now, encoding="utf-8")
    assert now == SNAPSHOT.read_text(encoding="utf-8")


def test_all_of_sunos_voices_are_offered(host: Host) -> None:
    options = host.object_info()["BarkLoadSpeakerPrompt"]["input"]["required"]["speaker"][1]["options"]
    assert len(options) >= 261
    assert len(set(options)) == len(options)
    assert {"announcer", "v2/en_speaker_6", "tr_speaker_4", "v2/zh_speaker_6", "de_speaker_7"} <= set(options)


def test_the_pack_brings_its_front_end_and_help(host: Host) -> None:
    """Served under the folder's name: the scripts that the browser loads, help pages, the examples and their sound."""
    if not host.real:
        assert host.pack.WEB_DIRECTORY == "./web"
        return
    from support.comfy_server import PACK, PACK_NAME

    scripts = [path.relative_to(PACK / "web").as_posix() for path in (PACK / "web").rglob("*.js")]
    listed = host.server.get_json("/extensions")
    assert {f"/extensions/{PACK_NAME}/{script}" for script in scripts} <= set(listed)
    for node in NODE_IDS:
        assert host.server.get(f"/extensions/{PACK_NAME}/docs/{node}.md").strip()
    examples = {path.stem for path in (PACK / "example_workflows").glob("*.json")}
    assert examples <= set(host.server.get_json("/workflow_templates").get(PACK_NAME, []))
    for sound in (PACK / "example_workflows").glob("*.flac"):  # from where the player of Load Bark Audio takes it
        assert host.server.get(f"/api/workflow_templates/{PACK_NAME}/{sound.name}") == sound.read_bytes()

"""Which files make up a set: order of the places, sizes from content, what is refused, what is said when one lacks."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from bark_engine import Bark, bark
from bark_engine.checkpoint import describe
from bark_engine.errors import BarkDownloadError, BarkFileError, BarkInputError
from bark_engine.library import model_sets
from bark_engine.library import places as model_places
from bark_engine.library.model_sets import (
    DEFAULT_MODELS,
    IncompleteModelsError,
    find_model_set,
    find_or_download,
)
from bark_engine.library.places import downloads_folder, nano_folder, random_models_folder
from bark_engine.library.sources import list_model_sets
from bark_engine.spec import SUNO, BarkSpec
from support.stage_outlines import write_set, write_stage, write_transformers, write_vocabulary

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = ("text", "coarse", "fine")
COMMIT = "70a8a7d34168586dc5d028fa9666aceade177992"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nobody ever used Bark."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "huggingface" / "hub"))
    return cache


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """ComfyUI's models/bark."""
    folder = tmp_path / "models" / "bark"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary as long as multilingual BERT's."""
    return write_vocabulary(tmp_path_factory.mktemp("bert") / "vocab.txt")


def give(vocabulary: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(vocabulary, folder / "vocab.txt"))


def snapshot(home: Path, repo: str, commit: str = COMMIT) -> Path:
    """A snapshot folder of the Hugging Face cache."""
    folder = home / "huggingface" / "hub" / f"models--{repo.replace('/', '--')}" / "snapshots" / commit
    folder.mkdir(parents=True)
    return folder


def find(name: str | Path, *folders: Path, **more: Any) -> model_sets.ModelSet:
    return find_model_set(name, folders=folders, **more)


def where(found: model_sets.ModelSet) -> set[Path]:
    """The folders of the three networks."""
    return {getattr(found, stage).path.parent for stage in NETWORKS}


# -- the embedded default ----------------------------------------------------------------------------------------


def test_the_default_is_nano_which_comes_with_the_pack(home: Path) -> None:
    found = find(DEFAULT_MODELS)
    assert where(found) == {nano_folder()}
    assert nano_folder().is_relative_to(Path(model_sets.__file__).parents[1])
    assert (found.name, found.spec.family) == ("nano", "nano")
    assert (found.vocabulary, found.codec.path.parent) == (nano_folder() / "vocab.txt", nano_folder())
    assert "come with the pack" in found.origin
    assert not home.exists()


def test_the_random_models_are_made_on_the_spot_once(home: Path) -> None:
    found = find("random")
    folder = random_models_folder()
    assert where(found) == {folder}
    assert folder.is_relative_to(home / "bark_engine")
    assert (found.name, found.spec.family) == ("random", "random")
    assert found.vocabulary == folder / "vocab.txt"
    assert found.codec.path.parent == folder
    assert "random weights" in found.origin
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert find("random") == found
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_cache_that_cannot_be_written_is_said(home: Path) -> None:
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file where a folder should be")
    with pytest.raises(BarkFileError, match="XDG_CACHE_HOME"):
        find("random")


# -- sizes and places --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["large", "small"])
def test_sizes_are_told_by_the_weights_and_not_by_the_name(models: Path, bert: Path, size: str) -> None:
    names = {"large": "{stage}.pt", "small": "{stage}_2.pt"}[size]  # the wrong way round
    write_set(models, size, names=names)
    give(bert, models)
    found = find(size, models)
    assert {getattr(found, stage).path.name for stage in NETWORKS} == {names.format(stage=s) for s in NETWORKS}
    assert found.text.shape.n_embd == {"large": 1024, "small": 768}[size]  # type: ignore[union-attr]
    assert [found.text.stage, found.coarse.stage, found.fine.stage, found.codec.stage] == [*NETWORKS, "codec"]
    assert found.spec == SUNO
    with pytest.raises(IncompleteModelsError):
        find("small" if size == "large" else "large", models)


def test_both_sizes_in_one_folder_are_kept_apart(models: Path, bert: Path) -> None:
    write_set(models, "large", names="{stage}_2.safetensors")
    write_set(models, "small")
    give(bert, models)
    assert find("large", models).fine.path.name == "fine_2.safetensors"
    assert find("small", models).fine.path.name == "fine.safetensors"
    assert list_model_sets([models]) == ["large", "small", "nano", "random"]


def test_the_order_of_the_places(models: Path, home: Path, tmp_path: Path, bert: Path) -> None:
    extra = tmp_path / "extra"
    order = [
        models,
        models / "Small",
        models / "bark-small",
        models / "suno",
        extra,
        extra / "small",
        downloads_folder(),
        downloads_folder() / "small",
        home / "suno" / "bark_v0",
        snapshot(home, "suno/bark"),
        snapshot(home, "suno/bark-small"),
        snapshot(home, "GitMylo/bark-safetensors"),
        models / "large",  # by its name another size
        models / "a_sub_folder",
        extra / "sub",
        downloads_folder() / "sub",
    ]
    for place in order:
        write_set(place, "small")
        give(bert, place)
    for place in order:
        found = find("small", models, extra)
        assert where(found) == {place}, place
        assert found.codec.path.parent == found.vocabulary.parent == place
        assert str(place) in found.origin
        for path in place.iterdir():
            if path.is_file():
                path.unlink()
    with pytest.raises(IncompleteModelsError):
        find("small", models, extra)


def test_comfyui_s_folder_is_searched_by_everybody(tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line does not fetch again what the nodes have; after what it fetched itself, and once."""
    comfy = tmp_path / "ComfyUI"
    theirs = comfy / "models" / "bark"
    monkeypatch.setattr(model_places, "_PACK", comfy / "custom_nodes" / "the_pack")
    with pytest.raises(IncompleteModelsError) as caught:
        find("small")
    assert str(theirs) in str(caught.value)
    give(bert, write_set(theirs, "small"))
    assert where(find("small")) == {theirs}
    assert "small" in list_model_sets([])
    give(bert, write_set(downloads_folder(), "small"))
    assert where(find("small")) == {downloads_folder()}
    assert where(find("small", theirs)) == {theirs}
    assert model_places.search_roots([theirs]) == [theirs, downloads_folder()]
    link(tmp_path / "link", comfy)
    linked = tmp_path / "link" / "models" / "bark"
    assert model_places.search_roots([linked]) == [linked, downloads_folder()]
    monkeypatch.setattr(model_places, "_PACK", comfy / "elsewhere" / "the_pack")
    assert model_places.search_roots([]) == [downloads_folder()]


@pytest.mark.parametrize("suno", ["flat", "cache", "hub", "named"])
def test_a_size_is_suno_s_and_not_what_somebody_trained(
    models: Path, home: Path, bert: Path, caplog: pytest.LogCaptureFixture, suno: str
) -> None:
    places = {"flat": models, "cache": home / "suno" / "bark_v0", "named": models / "large"}
    place = places.get(suno) or snapshot(home, "suno/bark")
    give(bert, write_set(models / "a_voice", "large"))
    give(bert, write_set(place, "large", names="{stage}_2.pt"))
    assert where(find("large", models)) == {place}
    assert where(find("large", models, stages={"text": "a_voice"})) == {models / "a_voice", place}
    assert find("a_voice", models, stages={"fine": "large"}).fine.path.parent == place
    assert find("small", models, stages=dict.fromkeys(NETWORKS, "large")).fine.path.parent == place
    assert where(find("a_voice", models)) == {models / "a_voice"}
    assert "is taken from" not in caplog.text


def test_a_folder_of_another_name_is_the_last_resort_which_is_said_once(
    models: Path, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    give(bert, write_set(models / "a_voice", "large"))
    for _ in range(2):
        assert where(find("large", models)) == {models / "a_voice"}
    said = [message for message in caplog.messages if "'large' is taken from" in message]
    assert len(said) == 1
    assert str(models / "a_voice") in said[0]
    assert str(models / "large") in said[0]


def test_stages_in_several_places_make_one_set_where_no_place_has_all(models: Path, home: Path, bert: Path) -> None:
    suno = home / "suno" / "bark_v0"
    write_stage(models / "text_2.pt", "text", "large")
    write_stage(models / "a_voice" / "coarse.safetensors", "coarse", "large")
    write_stage(suno / "fine_2.pt", "fine", "large")
    with pytest.raises(IncompleteModelsError, match="missing: coarse, codec, vocabulary"):
        find("large", models)
    assert "large" not in list_model_sets([models])
    write_stage(suno / "coarse_2.pt", "coarse", "large")
    write_stage(suno / "codec.th", "codec")
    give(bert, suno)
    assert "large" in list_model_sets([models])
    found = find("large", models)
    assert [getattr(found, stage).path for stage in NETWORKS] == [
        models / "text_2.pt",
        suno / "coarse_2.pt",
        suno / "fine_2.pt",
    ]
    assert str(models) in found.origin
    assert str(suno) in found.origin


def test_voices_and_tokens_beside_the_models_are_no_models(
    models: Path, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("tokens/take_00001.safetensors", "speakers/sound.pt", "Tokens/x.safetensors"):
        (models / name).parent.mkdir(exist_ok=True)
        (models / name).write_bytes(b"no weights")
    with pytest.raises(IncompleteModelsError) as caught:
        find("large", models)
    assert "Could not be used" not in str(caught.value)
    assert list_model_sets([models]) == ["nano", "random"]
    assert caplog.messages == []


def test_an_incomplete_folder_does_not_stop_the_search(models: Path, home: Path, bert: Path) -> None:
    write_stage(models / "text.safetensors", "text", "large")
    write_stage(models / "fine.safetensors", "fine", "large")
    suno = write_set(home / "suno" / "bark_v0", "large", names="{stage}_2.pt")
    give(bert, suno)
    assert where(find("large", models)) == {suno}


def test_suno_s_old_cache_names_are_known_by_their_content(home: Path, bert: Path) -> None:
    suno = home / "suno" / "bark_v0"
    for stage, md5 in {
        "text": "e32937063d7ccececc61b2d2a3bb0a13",
        "coarse": "751d4d3d562e63ead5311ebe2a5f45a8",
        "fine": "6285677e88715abde42a9924db939b3b",
    }.items():
        write_stage(suno / f"{md5}.pt", stage, "large")
    write_stage(home / "torch" / "hub" / "checkpoints" / "encodec_24khz-d7cc33bc.th", "codec")
    give(bert, snapshot(home, "bert-base-multilingual-cased"))
    found = find("large")
    assert where(found) == {suno}
    assert "torch.hub" in found.origin


def test_a_transformers_folder_is_a_place(home: Path, bert: Path) -> None:
    place = snapshot(home, "suno/bark-small")
    path = write_transformers(place, "small")
    give(bert, place)
    write_stage(snapshot(home, "facebook/encodec_24khz") / "model.safetensors", "codec")
    found = find("small")
    assert {found.text.path, found.coarse.path, found.fine.path} == {path}
    assert found.codec.path.parent.parent.parent.name == "models--facebook--encodec_24khz"


def test_the_newest_snapshot_comes_first(home: Path, bert: Path) -> None:
    old, new = snapshot(home, "suno/bark", "a" * 40), snapshot(home, "suno/bark", "b" * 40)
    for place, age in ((old, 1_000), (new, 0)):
        write_set(place, "small")
        give(bert, place)
        os.utime(place, (1_700_000_000 - age,) * 2)
    assert where(find("small")) == {new}
    os.utime(old, (1_800_000_000,) * 2)
    assert where(find("small")) == {old}


def test_snapshots_that_link_to_blobs_are_followed(home: Path, bert: Path) -> None:
    place = snapshot(home, "suno/bark")
    blobs = place.parent.parent / "blobs"
    write_set(blobs, "small")
    give(bert, blobs)
    for path in blobs.iterdir():
        try:
            (place / path.name).symlink_to(Path("..", "..", "blobs", path.name))
        except OSError:
            pytest.skip("this system lets only administrators make symlinks")
    assert where(find("small")) == {place}


def test_the_environment_of_the_hugging_face_cache_is_honoured(home: Path, tmp_path: Path, bert: Path) -> None:
    place = tmp_path / "elsewhere" / "hub" / "models--suno--bark" / "snapshots" / COMMIT
    write_set(place, "small")
    give(bert, place)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from bark_engine.library.model_sets import find_model_set\n"
        "print(find_model_set('small').text.path)\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)],
        env=environment | {"HF_HOME": str(tmp_path / "elsewhere")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(place / "text.safetensors")


def test_the_log_says_which_set_won(models: Path, bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_set(models, "small")
    give(bert, models)
    with caplog.at_level(logging.INFO, logger=bark.__name__):
        Bark.load("small", folders=[models])
    (line,) = caplog.messages
    assert find("small", models).origin in line
    assert str(models) in line


def test_of_two_files_of_one_stage_the_usual_name_and_full_precision_win(models: Path, bert: Path) -> None:
    write_set(models, "small", names="{stage}.safetensors")
    write_stage(models / "a_tune_of_text.safetensors", "text", "small", precision="F32")
    write_stage(models / "coarse.pt", "coarse", "small", precision="F32")
    write_stage(models / "fine.pt", "fine", "small")
    give(bert, models)
    found = find("small", models)
    assert [found.text.path.name, found.coarse.path.name, found.fine.path.name] == [
        "text.safetensors",
        "coarse.pt",
        "fine.safetensors",
    ]


# -- names, files, paths -----------------------------------------------------------------------------------------


def test_other_models_are_found_by_the_name_of_their_folder(models: Path, bert: Path) -> None:
    mine = write_set(models / "mine", "small")
    give(bert, mine)
    write_stage(mine / "coarse.safetensors", "coarse", (3, 2, 128))
    write_stage(mine / "another_text.safetensors", "text", "large")
    found = find("mine", models)
    assert where(found) == {mine}
    assert found.text.path.name == "another_text.safetensors"  # the larger
    assert found.coarse.shape.n_embd == 128  # type: ignore[union-attr]
    assert found.name == "mine"


@pytest.mark.parametrize("name", ["whole", "whole.safetensors"])
def test_a_file_with_all_networks_is_found_by_its_name(models: Path, bert: Path, name: str) -> None:
    path = write_transformers(models, "small").rename(models / "whole.safetensors")
    write_stage(models / "codec.th", "codec")
    (models / "whole.json").write_text("{}")
    give(bert, models)
    found = find(name, models)
    assert {found.text.path, found.fine.path} == {path}
    assert found.codec.path == models / "codec.th"
    assert "whole" in list_model_sets([models])


@pytest.mark.parametrize("name", ["set/small", "set\\small"])
def test_a_name_may_have_either_separator(models: Path, bert: Path, name: str) -> None:
    give(bert, write_set(models / "set" / "small", "small"))
    assert where(find(name, models)) == {models / "set" / "small"}


@pytest.mark.parametrize("name", ["../outside", "..\\outside", "/etc", "C:\\models", "NUL", "small\0", "x/../../y", ""])
@pytest.mark.parametrize("as_stage", [False, True])
def test_names_that_lead_out_are_refused(models: Path, tmp_path: Path, name: str, as_stage: bool) -> None:
    write_set(tmp_path / "models" / "outside", "small")
    write_set(models, "small")
    with pytest.raises(BarkInputError, match="name"):
        find("small", models, stages={"text": name}) if as_stage else find(name, models)


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("this system lets only administrators make symlinks")


def test_a_symlink_out_of_the_searched_folder_is_refused_by_name(
    models: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link(models / "linked", write_set(tmp_path / "outside", "small"))
    with pytest.raises(BarkInputError, match="symlink"):
        find("linked", models)
    for _ in range(2):
        assert "linked" not in list_model_sets([models])
    assert len([message for message in caplog.messages if "linked is not offered by its name" in message]) == 1


def test_a_link_that_leads_back_is_no_set_of_models(models: Path, bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    give(bert, write_set(models, "small"))
    link(models / "back", models)
    link(models / "up", models.parent.parent)
    assert list_model_sets([models]) == ["small", "nano", "random"]
    assert all(any(str(models / name) in message for message in caplog.messages) for name in ("back", "up"))


def test_a_link_to_nothing_hides_no_other_file(models: Path, bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    give(bert, write_set(models, "small"))
    link(models / "text_2.pt", models / "not there.pt")
    link(models / "coarse_2.pt", models / "coarse_2.pt")  # to itself
    link(models / "notes.txt", models / "not there.txt")
    for _ in range(2):
        assert where(find("small", models)) == {models}
    said = [message for message in caplog.messages if "a link to nothing" in message]
    assert len(said) == 2
    with pytest.raises(
        IncompleteModelsError, match=r"Could not be used: .*text_2\.pt cannot be read \(a link"
    ) as caught:
        find("large", models)
    assert "notes.txt" not in str(caught.value)


def test_paths_are_taken_from_callers_that_may_give_them(tmp_path: Path, bert: Path) -> None:
    folder = write_set(tmp_path / "anywhere", "small")
    give(bert, folder)
    assert where(find(folder)) == {folder}
    assert where(find(str(folder), allow_paths=True)) == {folder}
    with pytest.raises(BarkInputError, match="absolute"):
        find(str(folder))
    for nothing in (str(folder / "nothing"), "~nobody_of_that_name/models", "x/\0"):
        with pytest.raises(BarkFileError, match="There is no folder or file"):
            find(nothing, allow_paths=True)


def test_an_unknown_name_lists_the_known_ones(models: Path) -> None:
    write_set(models / "mine", "small")
    with pytest.raises(BarkFileError, match=r"no models called 'yours'.*small, mine, nano, random") as caught:
        find("yours", models)
    assert str(models) in str(caught.value)


# -- a size per stage --------------------------------------------------------------------------------------------


def test_large_text_with_small_fine(models: Path, bert: Path) -> None:
    write_set(models / "l", "large")
    write_set(models / "s", "small")
    give(bert, models / "l")
    found = find("large", models, stages={"fine": "small", "codec": "small"})
    assert [found.text.path.parent.name, found.coarse.path.parent.name, found.fine.path.parent.name] == ["l", "l", "s"]
    assert found.name == "large"
    assert str(models / "s") in found.origin


def test_the_rest_need_not_be_there_in_the_other_size(models: Path, bert: Path) -> None:
    write_stage(models / "text_2.pt", "text", "large")
    for stage in ("coarse", "fine"):
        write_stage(models / f"{stage}.pt", stage, "small")
    write_stage(models / "codec.th", "codec")
    give(bert, models)
    found = find("large", models, stages={"coarse": "small", "fine": "small"})
    assert found.coarse.path.name == "coarse.pt"
    assert find("small", models, stages={"text": "large"}).text.path.name == "text_2.pt"
    with pytest.raises(IncompleteModelsError, match="missing: fine"):
        find("large", models, stages={"coarse": "small"})


def test_a_stage_by_file_name_or_path(models: Path, tmp_path: Path, bert: Path) -> None:
    give(bert, write_set(models, "small"))
    write_stage(models / "my_voice.pt", "text", (4, 2, 128))
    path = write_stage(tmp_path / "codec.th", "codec")
    found = find("small", models, stages={"text": "my_voice", "codec": path})
    assert (found.text.path, found.codec.path) == (models / "my_voice.pt", path)
    with pytest.raises(IncompleteModelsError, match="missing: coarse"):
        find("small", models, stages={"coarse": "my_voice"})
    with pytest.raises(BarkInputError, match="There is no stage 'speech'"):
        find("small", models, stages={"speech": "small"})


# -- what belongs together ---------------------------------------------------------------------------------------


def _family(folder: Path, spec: BarkSpec) -> Path:
    (folder / "spec.json").write_text(spec.to_json(), encoding="utf-8")
    return folder


def test_a_spec_beside_the_weights_makes_them_a_family(models: Path) -> None:
    mine = _family(write_set(models / "mine", "small"), BarkSpec(family="set_family", semantic_history=128))
    write_vocabulary(mine / "vocab.txt", words=500)
    found = find("mine", models)
    assert (found.spec.family, found.spec.semantic_history) == ("set_family", 128)
    (mine / "vocab.txt").unlink()
    with pytest.raises(IncompleteModelsError, match="missing: vocabulary"):
        find("mine", models)


def test_a_size_means_suno_s_models_and_not_another_family_of_that_size(models: Path, bert: Path) -> None:
    mine = _family(write_set(models / "a_family", "small"), BarkSpec(family="set_same_size"))
    write_vocabulary(mine / "vocab.txt", words=500)
    assert list_model_sets([models]) == ["a_family", "nano", "random"]
    with pytest.raises(IncompleteModelsError):
        find("small", models)
    (mine / "spec.json").write_text("damaged")
    with pytest.raises(IncompleteModelsError):
        find("small", models)
    give(bert, write_set(models / "suno", "small"))
    assert where(find("small", models)) == {models / "suno"}


def test_stages_of_two_families_are_refused(models: Path, bert: Path) -> None:
    give(bert, write_set(models / "suno", "small"))
    with pytest.raises(BarkFileError, match=r"do not belong together: .*fine: random"):
        find("small", models, stages={"fine": "random"})
    with pytest.raises(BarkFileError, match=r"do not belong together: .*codec: random"):
        find("small", models, stages={"codec": "random"})


def test_sizes_and_another_family_are_refused_also_where_suno_s_files_are_missing(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_sets, "download_models", lambda *arguments, **more: pytest.fail("downloaded"))
    for ask in (find_model_set, lambda name, **more: find_or_download(name, models, **more)):
        with pytest.raises(BarkFileError, match=r"do not belong together: .*text: suno \(Suno's large, which is not"):
            ask("nano", stages={"text": "large"}, folders=[models])


def test_numbers_that_change_while_the_program_runs_ask_for_a_restart(models: Path) -> None:
    mine = _family(write_set(models / "mine", "small"), BarkSpec(family="set_changes"))
    write_vocabulary(mine / "vocab.txt", words=500)
    assert find("mine", models).spec.semantic_history == SUNO.semantic_history
    _family(mine, BarkSpec(family="set_changes", semantic_history=128))
    with pytest.raises(BarkFileError, match=r"spec\.json has changed since .*'set_changes'.* Restart") as caught:
        find("mine", models)
    assert str(mine / "spec.json") in str(caught.value)
    _family(mine, BarkSpec(family="set_changes"))
    shutil.copytree(mine, models / "yours")
    _family(models / "yours", BarkSpec(family="set_changes", semantic_history=128))
    with pytest.raises(BarkFileError, match=r"Two model sets call themselves family 'set_changes'") as caught:
        find("yours", models)
    assert str(models / "yours" / "spec.json") in str(caught.value)
    assert str(mine / "spec.json") in str(caught.value)


def test_a_family_without_a_codec_takes_the_common_one_if_it_is_the_same(models: Path) -> None:
    write_stage(models / "codec.th", "codec")
    mine = _family(write_set(models / "mine", "small", codec=False), BarkSpec(family="set_borrows"))
    write_vocabulary(mine / "vocab.txt", words=500)
    assert find("mine", models).codec.path == models / "codec.th"
    _family(mine, BarkSpec(family="set_own_codec", frame_rate=50.0, hop_length=480))
    with pytest.raises(IncompleteModelsError, match="missing: codec"):
        find("mine", models)


def test_weights_that_do_not_fit_their_family_are_refused(models: Path, bert: Path) -> None:
    give(bert, write_set(models / "mine", "small"))
    _family(models / "mine", BarkSpec(family="set_misfit", text_pad=200_000, semantic_infer=200_004))
    with pytest.raises(BarkFileError, match=r"text\.safetensors does not fit the numbers of the family 'set_misfit'"):
        find("mine", models)


def test_a_damaged_spec_is_refused(models: Path, bert: Path) -> None:
    give(bert, write_set(models / "mine", "small"))
    (models / "mine" / "spec.json").write_bytes(b"\xff")
    with pytest.raises(BarkFileError, match=r"spec\.json cannot be read"):
        find("mine", models)


@pytest.mark.parametrize(
    ("words", "unknown", "sentence"),
    [
        (119_548, 100, "has 119,548 entries, but models of the family 'suno' know 119,547"),
        (119_547, 99, "is not the vocabulary of Suno's models.*this has 119,547 with it as 99"),
    ],
)
def test_another_vocabulary_beside_suno_s_weights_is_refused(
    models: Path, words: int, unknown: int, sentence: str
) -> None:
    write_set(models, "small")
    write_vocabulary(models / "vocab.txt", words, unknown)
    with pytest.raises(BarkFileError, match=sentence):
        find("small", models)


def test_a_smaller_vocabulary_beside_the_weights_is_used_with_a_warning(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_set(models, "small")
    write_vocabulary(models / "vocab.txt", 30_522, 100)
    assert find("small", models).vocabulary == models / "vocab.txt"
    assert "has 30522 entries, the vocabulary of Suno's models 119547" in caplog.text


def test_a_tokenizer_json_will_do(models: Path, bert: Path) -> None:
    write_set(models, "small")
    words = bert.read_text(encoding="utf-8").split("\n")[:-1]
    model = {"type": "WordPiece", "vocab": {word: number for number, word in enumerate(words)}}
    (models / "tokenizer.json").write_text(json.dumps({"model": model}), encoding="utf-8")
    assert find("small", models).vocabulary == models / "tokenizer.json"


@pytest.mark.parametrize(
    "repo", ["suno/bark", "suno/bark-small", "google-bert/bert-base-multilingual-cased", "bert-base-multilingual-cased"]
)
def test_a_vocabulary_is_borrowed_from_the_hugging_face_cache(models: Path, home: Path, bert: Path, repo: str) -> None:
    write_set(models, "small")
    place = snapshot(home, repo)
    give(bert, place)
    assert find("small", models).vocabulary == place / "vocab.txt"


def test_a_vocabulary_is_borrowed_from_a_searched_folder_and_wrong_ones_are_passed_over(
    models: Path, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_set(models / "weights", "small")
    write_vocabulary(models / "a_wrong_one" / "vocab.txt", words=200)
    give(bert, models / "words")
    assert find("small", models).vocabulary == models / "words" / "vocab.txt"
    assert any("a_wrong_one" in message and "passed over" in message for message in caplog.messages)


def test_the_codec_is_borrowed_from_somebody_s_own_models_last(models: Path, home: Path, bert: Path) -> None:
    write_stage(models / "a_voice" / "codec.th", "codec")
    give(bert, write_set(models, "small", codec=False))
    assert find("small", models).codec.path.parent == models / "a_voice"
    path = write_stage(home / "torch" / "hub" / "checkpoints" / "encodec_24khz-d7cc33bc.th", "codec")
    assert find("small", models).codec.path == path


def test_the_codec_of_the_random_models_is_never_borrowed(models: Path, bert: Path) -> None:
    find("random")
    shutil.copytree(random_models_folder(), models / "noise")
    give(bert, write_set(models / "weights", "small", codec=False))
    with pytest.raises(IncompleteModelsError, match=r"missing: codec\. .*encodec_24khz"):
        find("small", models)


# -- what is said when something lacks ---------------------------------------------------------------------------


def test_an_incomplete_set_says_what_where_and_what_to_do(models: Path, home: Path) -> None:
    path = write_stage(models / "text_2.pt", "text", "large")
    with pytest.raises(IncompleteModelsError) as caught:
        find("large", models)
    said = str(caught.value)
    assert "missing: coarse, fine, codec, vocabulary." in said
    assert f"text is {path}" in said
    for place in (models, downloads_folder(), home / "suno" / "bark_v0", home / "huggingface" / "hub"):
        assert str(place) in said
    assert f"Put coarse_2.pt, fine_2.pt, encodec_24khz.safetensors, vocab.txt into {models}" in said
    assert "--download" in said
    assert "Load Bark Models" in said
    assert "\n" not in said


def test_nothing_at_all_is_said_too(home: Path) -> None:
    with pytest.raises(IncompleteModelsError, match="missing: text, coarse, fine, codec, vocabulary") as caught:
        find("small")
    assert f"Put text.pt, coarse.pt, fine.pt, encodec_24khz.safetensors, vocab.txt into {downloads_folder()}" in str(
        caught.value
    )


def test_a_damaged_file_is_logged_named_and_hides_no_other(
    models: Path, bert: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_set(models, "small")
    give(bert, models)
    bad = models / "text_2.pt"
    bad.write_bytes(b"PK\x03\x04 cut short")
    assert find("small", models).text.path.name == "text.safetensors"
    assert any(str(bad) in message for message in caplog.messages)
    assert list_model_sets([models]) == ["small", "nano", "random"]
    with pytest.raises(IncompleteModelsError, match=r"Could not be used: .*text_2\.pt"):
        find("large", models)


# -- the list ----------------------------------------------------------------------------------------------------


def test_the_list_has_what_can_be_found_and_the_embedded_ones_last(models: Path, home: Path, tmp_path: Path) -> None:
    assert list_model_sets([]) == ["nano", "random"]
    assert list_model_sets([tmp_path / "missing"]) == ["nano", "random"]
    write_set(models / "mine", "small")
    write_stage(models / "half" / "text.pt", "text", (2, 2, 64))
    (models / "speakers").mkdir()
    (models / ".hidden").mkdir()
    write_stage(models / ".hidden" / "text.pt", "text")
    (models / "broken").mkdir()
    (models / "broken" / "text.pt").write_bytes(b"no weights")
    assert list_model_sets([models]) == ["small", "half", "mine", "nano", "random"]
    write_set(home / "suno" / "bark_v0", "large")
    assert list_model_sets([models]) == ["large", "small", "half", "mine", "nano", "random"]


def test_files_are_looked_into_once_until_they_change(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(models, "small")
    looks: list[Path] = []

    def look(folder: Path) -> tuple[Any, ...]:
        looks.append(folder)
        return tuple(stage for path in sorted(folder.iterdir()) for stage in describe(path)), ()

    monkeypatch.setattr(model_places, "_look_into", look)
    for _ in range(3):
        assert list_model_sets([models]) == ["small", "nano", "random"]
    assert looks == [models]
    write_stage(models / "text.safetensors", "text", "large")
    assert list_model_sets([models]) == ["nano", "random"]
    assert looks == [models, models]


# -- with the download -------------------------------------------------------------------------------------------


def test_models_that_are_there_are_not_downloaded(
    models: Path, home: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suno = write_set(home / "suno" / "bark_v0", "small")
    give(bert, suno)
    monkeypatch.setattr(model_sets, "download_models", lambda *arguments, **more: pytest.fail("downloaded"))
    assert where(find_or_download("small", models, folders=[models])) == {suno}


def test_models_that_are_nowhere_are_downloaded_and_found(
    models: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(size: str, folder: Path, on_progress: Any, stages: Any, parts: Any) -> None:
        on_progress(1, 2, "text.pt")
        assert (size, stages) == ("small", {"fine": "small"})
        assert parts == {"text small", "coarse small", "fine small", "codec", "vocabulary"}
        give(bert, write_set(folder, "small"))

    seen: list[Any] = []
    monkeypatch.setattr(model_sets, "download_models", download)
    found = find_or_download(
        "small", models, lambda *step: seen.append(step), stages={"fine": "small"}, folders=[models]
    )
    assert where(found) == {models}
    assert seen == [(1, 2, "text.pt")]


PUT = {  # how a file of the manifest comes into a folder
    "text large": lambda folder, bert: write_stage(folder / "text_2.pt", "text", "large"),
    "coarse large": lambda folder, bert: write_stage(folder / "coarse_2.pt", "coarse", "large"),
    "fine large": lambda folder, bert: write_stage(folder / "fine_2.pt", "fine", "large"),
    "fine small": lambda folder, bert: write_stage(folder / "fine.pt", "fine", "small"),
    "codec": lambda folder, bert: write_stage(folder / "encodec_24khz.safetensors", "codec"),
    "vocabulary": lambda folder, bert: give(bert, folder),
}


@pytest.mark.parametrize("place", ["models/bark", "models/bark/large", "cache/suno/bark_v0"])
@pytest.mark.parametrize(
    "missing", [{"vocabulary"}, {"codec"}, {"fine large"}, {"text large", "vocabulary"}, {"fine small", "codec"}]
)
def test_only_what_is_missing_is_downloaded(
    models: Path, tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch, missing: set[str], place: str
) -> None:
    stages = {"fine": "small"} if "fine small" in missing else {}
    needed = set(PUT) - ({"fine large"} if stages else {"fine small"})
    for part in needed - missing:
        PUT[part](tmp_path / place, bert)
    asked: list[set[str]] = []

    def download(size: str, folder: Path, on_progress: Any, stages: Any, parts: Any) -> None:
        asked.append(set(parts))
        for part in parts:
            PUT[part](folder, bert)

    monkeypatch.setattr(model_sets, "download_models", download)
    found = find_or_download("large", models, stages=stages, folders=[models])
    assert asked == [missing]
    assert found.text.shape.n_embd == 1024  # type: ignore[union-attr]


def test_a_part_of_somebody_s_own_models_does_not_spare_a_download(
    models: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in ("text", "coarse"):
        write_stage(models / "a_voice" / f"{stage}.safetensors", stage, "large")
    parts = set(PUT) - {"fine small"}

    def download(size: str, folder: Path, on_progress: Any, stages: Any, parts: Any) -> None:
        for part in parts:
            PUT[part](folder, bert)

    monkeypatch.setattr(model_sets, "download_models", download)
    with pytest.raises(IncompleteModelsError) as caught:
        find("large", models)
    assert caught.value.parts == parts
    assert "a_voice" not in str(caught.value)
    assert where(find_or_download("large", models, folders=[models])) == {models}


def test_nothing_is_downloaded_where_something_else_would_still_be_missing(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_sets, "download_models", lambda *arguments, **more: pytest.fail("downloaded"))
    write_stage(models / "half" / "text.pt", "text", (2, 2, 64))
    with pytest.raises(IncompleteModelsError, match="missing: coarse"):
        find_or_download("half", models, stages={"fine": "large"}, folders=[models])


def test_only_missing_files_are_a_reason_to_download(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    write_set(models, "small")
    write_vocabulary(models / "vocab.txt", words=119_548)
    with pytest.raises(BarkFileError, match="entries, but models of the family"):
        find_or_download("small", models, folders=[models])
    with pytest.raises(BarkDownloadError, match="HF_HUB_OFFLINE"):
        find_or_download("large", models / "new", folders=[models])
    with pytest.raises(BarkInputError, match="leads upwards"):
        find_or_download("../small", models, folders=[models])


def test_an_incomplete_folder_of_the_users_own_is_named_with_what_goes_into_it(tmp_path: Path) -> None:
    with pytest.raises(IncompleteModelsError) as caught:
        find_model_set(tmp_path, allow_paths=True)
    assert f"Looked in {tmp_path}, " in str(caught.value)
    assert f"vocab.txt into {tmp_path}." in str(caught.value)


def test_a_damaged_file_in_a_folder_of_the_users_own_is_the_reason_that_is_given(tmp_path: Path) -> None:
    bad = tmp_path / "text_2.pt"
    bad.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(IncompleteModelsError, match=r"Could not be used: .*text_2\.pt is damaged"):
        find_model_set(tmp_path, allow_paths=True)

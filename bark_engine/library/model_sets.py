"""Which files make up the models that someone asks for by name: `find_model_set`.

A set is four stages and a vocabulary. Sizes are read from the weights, never from names. Which files a name may mean
is `sources.py`; where files are looked for, `places.py`; what is in a file, `../checkpoint/`; getting them,
`download.py`. The default is nano, the small set that comes with the pack.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ..checkpoint import STAGES, StageFile
from ..codec import CodecShape
from ..errors import BarkFileError, BarkInputError
from ..spec import SUNO, BarkSpec
from .download import MANIFEST, SIZES, OnProgress, download_models
from .family import SPEC_FILE, check_shape, check_vocabulary, common_spec, same_codec
from .places import (
    BERT_REPOS,
    MODEL_REPOS,
    Place,
    codec_files,
    downloads_folder,
    hub_places,
    preferred,
    searched,
    shelf,
    warn_once,
)
from .sources import NANO, NETWORKS, Search, Source, sources_of

log = logging.getLogger(__name__)

DEFAULT_MODELS = NANO
VOCABULARIES = ("vocab.txt", "tokenizer.json")
_DOWNLOAD = "ask for the download (--download on the command line, the download switch of the Load Bark Models node)"


class IncompleteModelsError(BarkFileError):
    """A stage or the vocabulary is nowhere to be found; the message lists what, where it was looked for, what to do.

    `parts` are the keys of MANIFEST of all that is missing; empty where something of it is not Suno's.
    """

    def __init__(self, sentence: str, parts: Sequence[str | None] = ()):
        super().__init__(sentence)
        self.parts = frozenset(part for part in parts if part) if all(parts) else frozenset[str]()


@dataclass(frozen=True)
class ModelSet:
    """The files of one set of models; nothing of them is loaded.

    `name` is what was asked for, `origin` says in words where the files were found. All stages are of the family of
    `spec`, which is registered.
    """

    name: str
    text: StageFile
    coarse: StageFile
    fine: StageFile
    codec: StageFile
    vocabulary: Path
    spec: BarkSpec
    origin: str


def find_model_set(
    models: str | Path,
    *,
    stages: Mapping[str, str | Path] | None = None,
    folders: Sequence[Path] = (),
    allow_paths: bool = False,
) -> ModelSet:
    """The files for `models`: "large", "small", "nano", another set's name, or the path of a folder or a file.

    Suno's sizes are recognised by their weights and looked for in this order; the first folder that has the text,
    coarse and fine stages wins, and `origin` says which:

    1. `folders` (in ComfyUI models/bark and the extra model paths), each followed by its sub-folders of that very name
       or a name under which Suno's models are published, such as bark-small;
    2. `own_roots()`: `downloads_folder()`, then models/bark of the ComfyUI that the pack stands in; each followed by
       its sub-folders of such a name;
    3. Suno's own cache, `$XDG_CACHE_HOME/suno/bark_v0`, under its present and its old names;
    4. the Hugging Face cache: suno/bark, suno/bark-small, GitMylo/bark-safetensors;
    5. the other sub-folders in 1 and 2, which the log says, because they may be what somebody trained.

    Where no folder has all three, each comes from the first of 1 to 4 that has it.

    Any other name is that of a sub-folder, or of a file with or without its extension, in 1 or 2.
    "nano" comes with the pack; "random" is made on the spot under `$XDG_CACHE_HOME/bark_engine`. The codec and the
    vocabulary are taken from beside the weights; for Suno's family else from the places above, and from the caches of
    EnCodec and of multilingual BERT.

    `stages` gives single stages another name or path, as in {"fine": "small"}. A text is only taken for a path with
    `allow_paths`; nodes leave it off, so that a workflow cannot name files outside the folders.

    Raises IncompleteModelsError, a BarkFileError that lists what is missing, where it was looked for and what to do;
    BarkFileError for bad files, or good ones that do not belong together; BarkInputError for an impossible name.
    """
    wanted = _wanted(models, stages or {})
    search = Search([Path(folder) for folder in folders], allow_paths)
    found, base = _found(models, wanted, search)
    lacking = {stage: wanted[stage] for stage in STAGES if stage not in found}
    files = {stage: file for stage, (file, _) in found.items()}
    spec = common_spec(files, {stage: lacking[stage] for stage in NETWORKS if lacking.get(stage) in SIZES})
    networks = [files[stage] for stage in NETWORKS if stage in files]
    home = networks[0].path.parent if networks else None
    if lacking.get("codec") == models and (codec := _codec(spec, home, search)):
        found["codec"] = codec
        del lacking["codec"]
    vocabulary = _vocabulary(spec, home, search)
    if lacking or vocabulary is None:
        parts = [*(_part(stage, name, models) for stage, name in lacking.items()), *["vocabulary"] * (not vocabulary)]
        sentence = _incomplete(models, lacking, vocabulary is None, found, base, search)
        raise IncompleteModelsError(sentence, parts if spec.family == SUNO.family else ())
    for stage, (file, _) in found.items():
        check_shape(stage, file, spec)
        _say_if_doubtful(stage, file, wanted[stage], search)
    origin = "; ".join(
        f"{', '.join(stage for stage in STAGES if found[stage][1] == place)} from {place.words}"
        for place in dict.fromkeys(found[stage][1] for stage in STAGES)
    )
    files = {stage: file for stage, (file, _) in found.items()}
    return ModelSet(name=_name(models), vocabulary=vocabulary, spec=spec, origin=origin, **files)


def find_or_download(
    models: str | Path,
    folder: Path,
    on_progress: OnProgress | None = None,
    *,
    stages: Mapping[str, str | Path] | None = None,
    folders: Sequence[Path] = (),
    allow_paths: bool = False,
) -> ModelSet:
    """`find_model_set`, and where files of Suno's are missing everywhere, these are first downloaded into `folder`.

    `folder` should be one of `folders`, or `downloads_folder()`, so that the next search finds them. Models that are
    not Suno's sizes cannot be downloaded: for them the error says what is missing. What cannot belong together is
    refused before anything is fetched.
    """
    fetched: frozenset[str] = frozenset()
    while True:
        try:
            return find_model_set(models, stages=stages, folders=folders, allow_paths=allow_paths)
        except IncompleteModelsError as error:
            parts = error.parts - fetched  # a second round: a vocabulary counts only for what lies beside it
            if not parts or not {models, *(stages or {}).values()} & set(SIZES):
                raise
            log.info("%s", error)
        download_models(models, folder, on_progress, stages, parts=parts)
        fetched |= parts


# -- putting a set together --------------------------------------------------------------------------------------


def _wanted(models: str | Path, stages: Mapping[str, str | Path]) -> dict[str, str | Path]:
    """What is asked for, stage by stage. A size says nothing about the codec, of which there is one."""
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise BarkInputError(f"There is no stage {unknown[0]!r}. The stages are {', '.join(STAGES)}.")
    wanted = {stage: stages.get(stage, models) for stage in STAGES}
    if wanted["codec"] in SIZES:
        wanted["codec"] = models
    return wanted


def _name(models: str | Path) -> str:
    return models if isinstance(models, str) else models.name or str(models)


def _found(
    models: str | Path, wanted: Mapping[str, str | Path], search: Search
) -> tuple[dict[str, tuple[StageFile, Place]], Source | None]:
    """The stages that there are, each with its place, and the source that most of those of `models` are from."""
    own = [stage for stage in STAGES if wanted[stage] == models]
    networks = [stage for stage in own if stage in NETWORKS]
    base = _base_source(models, networks, search)
    found = {stage: (file, base.place) for stage in own if base and (file := base.pick(stage))}
    for stage in networks if models in SIZES else ():
        others = (source for source in sources_of(models, search) if source.place.may_be_sunos(str(models)))
        parts = ((file, source.place) for source in others if (file := source.pick(stage)))
        if stage not in found and (part := next(parts, None)):
            found[stage] = part
    for stage in (stage for stage in STAGES if stage not in own):
        if single := _single_stage(wanted[stage], stage, base, search):
            found[stage] = single
    return found, base


def _base_source(models: str | Path, stages: Sequence[str], search: Search) -> Source | None:
    """The first source with all of `stages`, else the one with most of them; None where none are asked for.

    What may be somebody's own is no part of Suno's models.
    """
    best, most = None, -1
    for source in sources_of(models, search) if stages else ():
        have = sum(source.pick(stage) is not None for stage in stages)
        if have == len(stages):
            return source
        if have > most and source.place.may_be_sunos(str(models)):
            best, most = source, have
    return best


def _single_stage(
    models: str | Path, stage: str, base: Source | None, search: Search
) -> tuple[StageFile, Place] | None:
    """One stage of other models; of several places with it, the one of the rest where that is not somebody's own."""
    sources = [source for source in sources_of(models, search) if source.pick(stage)]
    same = [source for source in sources if base and source.place == base.place]
    for source in (*(source for source in same if source.place.may_be_sunos(str(models))), *sources):
        if file := source.pick(stage):
            return file, source.place
    return None


def _say_if_doubtful(stage: str, file: StageFile, wanted: str | Path, search: Search) -> None:
    """Log that one of Suno's sizes is taken from a folder that may be somebody's own models."""
    place = next((place for place in search.places if place.folder == file.path.parent), None)
    if stage in NETWORKS and wanted in SIZES and place and not place.may_be_sunos(str(wanted)):
        warn_once(
            f"{wanted!r} is taken from the folder {place.folder}, because no other place has all of it. If that is not "
            f"Suno's but trained by somebody, put Suno's files into {place.folder.parent / str(wanted)}."
        )


def _codec(spec: BarkSpec, home: Path | None, search: Search) -> tuple[StageFile, Place] | None:
    """The codec from beside the text stage, else EnCodec from any place, from what may be somebody's own last."""
    for file in preferred(shelf(home)[0]) if home else ():
        if file.stage == "codec":
            return file, Place(file.path.parent, f"the folder {file.path.parent}")
    if same_codec(spec):
        likely = [place for place in search.places if any(map(place.may_be_sunos, SIZES))]
        others = [place for place in search.places if place not in likely]
        for file, place in chain(_files_in(likely), codec_files(), _files_in(others)):
            if file.shape == CodecShape() and not (file.path.parent / SPEC_FILE).exists():
                return file, place
    return None


def _files_in(places: Sequence[Place]) -> Iterator[tuple[StageFile, Place]]:
    """All usable stages in these places, each place looked into when it is its turn."""
    return ((file, place) for place in places for file in shelf(place.folder)[0])


def _vocabulary(spec: BarkSpec, home: Path | None, search: Search) -> Path | None:
    """The vocabulary beside the text stage, else for Suno's family that of multilingual BERT from any place.

    One beside the weights that cannot be theirs is refused (BarkFileError); elsewhere it is passed over.
    """
    for path in (home / name for name in VOCABULARIES if home):
        if path.is_file():
            check_vocabulary(path, spec)
            return path
    others: list[Place] = []
    if spec.family == SUNO.family:
        others = [place for repo in (*MODEL_REPOS, *BERT_REPOS) for place in hub_places(repo)] + search.places
    for path in (place.folder / name for place in others for name in VOCABULARIES):
        if path.is_file() and not (path.parent / SPEC_FILE).exists():
            try:
                check_vocabulary(path, spec, borrowed=True)
            except BarkFileError as error:
                log.warning("a vocabulary is passed over: %s", error)
            else:
                return path
    return None


def _incomplete(
    models: str | Path,
    lacking: Mapping[str, str | Path],
    vocabulary: bool,
    found: Mapping[str, tuple[StageFile, Place]],
    base: Source | None,
    search: Search,
) -> str:
    """The sentence for a set that lacks something: what, what is there, where it was looked for, what to do.

    Where several sets lack something, it is about one that cannot be downloaded, else about the first.
    """
    first = next(iter(sorted(lacking.values(), key=lambda name: name in SIZES)), models)
    if first != models:
        models, found, base, vocabulary = first, {}, None, False
    missing = [*(stage for stage, name in lacking.items() if name == models), *["vocabulary"] * vocabulary]
    there = ", ".join(f"{stage} is {file.path}" for stage, (file, _) in found.items())
    suno = models in SIZES
    known = {part: MANIFEST.get(f"{part} {models}" if suno else part, MANIFEST.get(part)) for part in missing}
    files = [file.name if file else f"a {part} stage" for part, file in known.items()]
    named = base is not None and not suno  # a folder or file that was asked for by its own name
    home = base.place.folder if base and (base.files or named) else (*search.folders, downloads_folder())[0]
    folders = [*([home] if named else []), *(place.folder for place in search.places)]
    faults = [fault for folder in dict.fromkeys(folders) for fault in shelf(folder)[1]]
    return (
        f"The models {_name(models)!r} are not complete; missing: {', '.join(missing)}."
        f"{f' (There: {there}.)' if there else ''} Looked in {f'{home}, ' if named else ''}{searched(search.folders)}. "
        f"Put {', '.join(files)} into {home}{f', or {_DOWNLOAD}' if suno else ''}."
        + (f" Could not be used: {' '.join(faults)}" if faults else "")
    )


def _part(stage: str, name: str | Path, models: str | Path) -> str | None:
    """The key in MANIFEST of a stage that is missing, or None where it should have been in somebody's own models."""
    if stage == "codec":
        return stage if name == models else None
    return f"{stage} {name}" if name in SIZES else None

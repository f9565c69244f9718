"""Cut and swap: each function beside a slow twin of plain lists, what is refused, and that nothing is changed."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bark_engine import editing
from bark_engine.errors import BarkInputError
from bark_engine.speaker import SpeakerPrompt
from bark_engine.spec import SUNO, BarkSpec, known_family, register_family
from bark_engine.tokens import CoarseTokens, FineTokens, SemanticTokens, Tokens
from support.tiny_models import as_speaker, prompt_arrays, prompt_folder

# Two frames and a half per semantic token, four codebooks.
OTHER = register_family(
    BarkSpec(
        family="editing_test_other",
        semantic_rate=30.0,
        semantic_vocab=500,
        text_offset=600,
        text_pad=800,
        semantic_infer=900,
        codebook_size=512,
        coarse_semantic_pad=2_000,
        coarse_infer=2_001,
        fine_codebooks=4,
    )
)
KINDS = (SemanticTokens, CoarseTokens, FineTokens)
Rows = list[list[int]]


def plain(tokens: Any) -> Rows:
    """The rows as lists; semantic tokens are one row."""
    array = np.asarray(tokens)
    return [[int(number) for number in row] for row in (array if array.ndim == 2 else array[None])]


def spec_of(tokens: Any) -> BarkSpec:
    spec = known_family(tokens.family)
    assert spec is not None
    return spec


def counted(kind: type, length: int, spec: BarkSpec = SUNO, start: int = 0) -> Any:
    """Tokens that say where they stand: each number is its place, modulo the vocabulary."""
    places = np.arange(start, start + length)
    if kind is SemanticTokens:
        return SemanticTokens(places % spec.semantic_vocab, spec.family)
    rows = spec.coarse_codebooks if kind is CoarseTokens else spec.fine_codebooks
    return kind((places + 7 * np.arange(rows)[:, None]) % spec.codebook_size, spec.family)


# -- slow twins -----------------------------------------------------------------------------------------------------


def slow_frames(semantic: int, spec: BarkSpec) -> int:
    """How many whole frames fit into so many semantic tokens."""
    frames = 0
    while (frames + 1) * spec.semantic_rate <= semantic * spec.frame_rate + 1e-6:
        frames += 1
    return frames


def slow_place(tokens: Any, seconds: float) -> int:
    """Where a time cuts: walk over the semantic boundaries to the nearest, then over the frames that fit before it."""
    spec, length = spec_of(tokens), len(tokens)
    whole_frames = length
    if isinstance(tokens, SemanticTokens):
        whole_frames = slow_frames(length, spec)
    if seconds >= whole_frames / spec.frame_rate:
        return length
    boundary = 0
    while abs(seconds * spec.semantic_rate - (boundary + 1)) < abs(seconds * spec.semantic_rate - boundary):
        boundary += 1
    if abs(seconds * spec.semantic_rate - (boundary + 1)) == abs(seconds * spec.semantic_rate - boundary):
        boundary += boundary % 2  # in the very middle: to the even one
    return min(boundary if isinstance(tokens, SemanticTokens) else slow_frames(boundary, spec), length)


def slow_range(tokens: Any, start: float, end: float) -> tuple[int, int]:
    return slow_place(tokens, start), slow_place(tokens, end) if end else len(tokens)


def slow_trim(tokens: Any, start: float, end: float) -> Rows:
    first, last = slow_range(tokens, start, end)
    return [[row[place] for place in range(len(row)) if first <= place < last] for row in plain(tokens)]


def slow_join(parts: list[Rows]) -> Rows:
    return [[number for part in parts for number in part[row]] for row in range(len(parts[0]))]


def slow_repeat(tokens: Any, start: float, end: float, times: int) -> Rows:
    first, last = slow_range(tokens, start, end)
    rows = []
    for row in plain(tokens):
        heard = []
        for place, number in enumerate(row):
            heard.append(number)
            if place == last - 1:
                for _ in range(times - 1):
                    heard += row[first:last]
        rows.append(heard)
    return rows


def slow_swap(tokens: Any, source: Any, wanted: set[int], length: str) -> Rows:
    kept, taken = plain(tokens), plain(source)
    frames = min(len(kept[0]), len(taken[0])) if length == "shorter" else len(kept[0])
    return [
        [taken[row][frame] if row in wanted and frame < len(taken[0]) else kept[row][frame] for frame in range(frames)]
        for row in range(len(kept))
    ]


def slow_voice(semantic: list[int], coarse: Rows, fine: Rows, spec: BarkSpec) -> tuple[list[int], Rows, Rows] | None:
    """The longest ends of three kinds that a speaker prompt takes, found by trying all from the shortest."""
    best = None
    for count in range(2, len(semantic) + 1):
        frames = spec.frames_for(count)
        if frames > min(len(coarse[0]), len(fine[0])):
            break
        ends = [[row[-frames:] for row in rows] for rows in (coarse, fine)]
        try:
            SpeakerPrompt(
                SemanticTokens(semantic[-count:], spec.family),  # type: ignore[arg-type]
                CoarseTokens(ends[0], spec.family),  # type: ignore[arg-type]
                FineTokens(ends[1], spec.family),  # type: ignore[arg-type]
            )
        except BarkInputError:
            continue
        best = (semantic[-count:], ends[0], ends[1])
    return best


# -- strategies -----------------------------------------------------------------------------------------------------

specs = st.sampled_from([SUNO, OTHER])


@st.composite
def tokens_of(draw: Any, kinds: Any = KINDS, spec: BarkSpec | None = None, longest: int = 120) -> Any:
    spec = spec or draw(specs)
    kind, length, start = draw(st.sampled_from(kinds)), draw(st.integers(1, longest)), draw(st.integers(0, 5_000))
    return counted(kind, length, spec, start)


@st.composite
def with_range(draw: Any, longest: int = 120) -> Any:
    """Tokens and a range with something in it."""
    tokens = draw(tokens_of(longest=longest))
    times = st.floats(0, tokens.seconds, exclude_max=True)
    start, end = draw(times), draw(st.one_of(st.just(0.0), times, st.just(tokens.seconds)))
    if end:
        start, end = min(start, end), max(start, end)
    first, last = slow_range(tokens, start, end)
    if first >= last:
        start, end = 0.0, 0.0
    return tokens, start, end


@st.composite
def takes(draw: Any, shortest: int = 1) -> Any:
    """Semantic, coarse and fine tokens of one take, as the stages make them."""
    spec, length = draw(specs), draw(st.integers(shortest, 300))
    fine = counted(FineTokens, spec.frames_for(length), spec)
    return counted(SemanticTokens, length, spec), fine.coarse, fine


def check(result: Any, like: Any, wanted: Rows) -> None:
    """Of the same kind and family, these numbers, and in an array of its own."""
    assert type(result) is type(like)
    assert result.family == like.family
    assert plain(result) == wanted
    assert not np.asarray(result).flags.writeable
    assert not np.shares_memory(np.asarray(result), np.asarray(like))


# -- trim -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(with_range())
def test_trim(case: Any) -> None:
    tokens, start, end = case
    before = plain(tokens)
    check(editing.trim(tokens, start, end), tokens, slow_trim(tokens, start, end))
    assert plain(tokens) == before


@settings(deadline=None)
@given(tokens_of())
def test_a_trim_of_the_whole_is_the_whole(tokens: Any) -> None:
    for end in (0.0, tokens.seconds, tokens.seconds + 0.9 / spec_of(tokens).semantic_rate):
        assert editing.trim(tokens, 0, end) == tokens


def test_trim_by_hand() -> None:
    """One second of 2.5: semantic token 50, the nearest to 49.9, and the 75 whole frames that fit before it."""
    semantic, fine = counted(SemanticTokens, 125), counted(FineTokens, 187)
    assert editing.trim(semantic, 1.0).ids.tolist() == list(range(50, 125))
    assert editing.trim(fine, 1.0).codes[0].tolist() == list(range(75, 187))
    assert editing.trim(fine.coarse, 0.5, 1.0).codes[1].tolist() == list(range(37 + 7, 75 + 7))


@settings(deadline=None)
@given(takes(), st.floats(0, 1), st.floats(0, 1))
def test_kinds_cut_at_one_time_stay_aligned(take: Any, one: float, other: float) -> None:
    """Where they begin, where they end and how long they are: each within one frame, less than a semantic token."""
    semantic, _, fine = take
    spec = spec_of(fine)
    start, end = sorted((one * semantic.seconds, other * semantic.seconds))
    try:
        parts = [editing.trim(tokens, start, end) for tokens in take]
    except BarkInputError:
        assert (end - start) * spec.semantic_rate < 1 + 1e-9
        return
    assert parts[1] == parts[2].coarse
    begin = int(parts[0].ids[0]) / spec.semantic_rate
    places = [at for at in range(len(fine)) if np.array_equal(fine.codes[:, at : at + len(parts[2])], parts[2].codes)]
    frame = min(places, key=lambda at: abs(at / spec.frame_rate - begin))  # codes of a long take come again
    times = [begin, frame / spec.frame_rate]
    tolerance = 1 / spec.frame_rate
    assert tolerance < 1 / spec.semantic_rate
    assert abs(times[0] - times[1]) < tolerance
    assert abs(parts[0].seconds - parts[2].seconds) < tolerance
    assert abs(times[0] + parts[0].seconds - times[1] - parts[2].seconds) < tolerance


@settings(deadline=None)
@given(takes(shortest=40), st.data())
def test_a_cut_of_a_take_is_what_the_stages_would_have_made(take: Any, data: Any) -> None:
    """A beginning of a take has exactly the frames that the coarse stage makes for its semantic tokens."""
    semantic, coarse, fine = take
    spec = spec_of(fine)
    end = data.draw(st.floats(1 / spec.semantic_rate, semantic.seconds))
    count = len(editing.trim(semantic, 0, end))
    assert editing.trim(coarse, 0, end).frames == editing.trim(fine, 0, end).frames == spec.frames_for(count)


# -- join -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.data())
def test_join(data: Any) -> None:
    kind, spec = data.draw(st.sampled_from(KINDS)), data.draw(specs)
    parts = data.draw(st.lists(tokens_of((kind,), spec, longest=30), min_size=1, max_size=6))
    before = [plain(part) for part in parts]
    check(editing.join(parts), parts[0], slow_join(before))
    assert editing.join(part for part in parts) == editing.join(parts)
    assert [plain(part) for part in parts] == before


@settings(deadline=None)
@given(tokens_of(), st.floats(0, 1))
def test_two_halves_joined_are_the_whole(tokens: Any, share: float) -> None:
    middle = share * tokens.seconds
    if 0 < slow_place(tokens, middle) < len(tokens):
        assert editing.join([editing.trim(tokens, 0, middle), editing.trim(tokens, middle, 0)]) == tokens


@settings(deadline=None)
@given(tokens_of((SemanticTokens,), SUNO), tokens_of((SemanticTokens,), SUNO))
def test_a_trim_of_a_join_gives_the_parts_back(one: Any, other: Any) -> None:
    whole = editing.join([one, other])
    assert editing.trim(whole, 0, one.seconds) == one
    assert editing.trim(whole, one.seconds, whole.seconds) == other


# -- replace --------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(with_range(), st.data())
def test_replace_is_trim_and_join(case: Any, data: Any) -> None:
    tokens, start, end = case
    insert = data.draw(tokens_of((type(tokens),), spec_of(tokens), longest=20))
    before = plain(tokens), plain(insert)
    result = editing.replace_range(tokens, start, end, insert)
    first, last = slow_range(tokens, start, end)
    rows = plain(tokens)
    check(result, tokens, slow_join([[row[:first] for row in rows], plain(insert), [row[last:] for row in rows]]))
    pieces = [insert]
    if first > 0:
        pieces.insert(0, editing.trim(tokens, 0, start))
    if last < len(tokens):
        pieces.append(editing.trim(tokens, end, 0))
    assert result == editing.join(pieces)
    assert (plain(tokens), plain(insert)) == before


@settings(deadline=None)
@given(with_range())
def test_replace_with_nothing_takes_the_range_out(case: Any) -> None:
    tokens, start, end = case
    first, last = slow_range(tokens, start, end)
    if last - first == len(tokens):
        with pytest.raises(BarkInputError, match=r"would leave nothing of these .* tokens"):
            editing.replace_range(tokens, start, end, None)
        return
    wanted = [row[:first] + row[last:] for row in plain(tokens)]
    check(editing.replace_range(tokens, start, end, None), tokens, wanted)


@settings(deadline=None)
@given(tokens_of(), st.floats(0, 1, exclude_min=True), st.data())
def test_a_range_of_no_length_is_a_place_to_insert(tokens: Any, share: float, data: Any) -> None:
    insert = data.draw(tokens_of((type(tokens),), spec_of(tokens), longest=5))
    time = max(share * tokens.seconds, 1e-6)
    place = slow_place(tokens, time)
    rows = plain(tokens)
    wanted = slow_join([[row[:place] for row in rows], plain(insert), [row[place:] for row in rows]])
    check(editing.replace_range(tokens, time, time, insert), tokens, wanted)


@settings(deadline=None)
@given(with_range())
def test_a_range_replaced_by_itself_changes_nothing(case: Any) -> None:
    tokens, start, end = case
    assert editing.replace_range(tokens, start, end, editing.trim(tokens, start, end)) == tokens


# -- repeat ---------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(with_range(longest=60), st.integers(1, 6))
def test_repeat(case: Any, times: int) -> None:
    tokens, start, end = case
    before = plain(tokens)
    result = editing.repeat_range(tokens, start, end, times)
    check(result, tokens, slow_repeat(tokens, start, end, times))
    part = editing.trim(tokens, start, end)
    assert len(result) == len(tokens) + (times - 1) * len(part)
    assert result == editing.replace_range(tokens, start, end, editing.join([part] * times))
    assert plain(tokens) == before


# -- codebooks ------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.data())
def test_swap(data: Any) -> None:
    spec = data.draw(specs)
    tokens, source = (data.draw(tokens_of((CoarseTokens, FineTokens), spec, longest=20)) for _ in range(2))
    count = min(tokens.shape[0], source.shape[0])
    wanted = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    before = plain(tokens), plain(source)
    for rule in ("shorter", "keep"):
        result = editing.swap_codebooks(tokens, source, wanted, rule)
        check(result, tokens, slow_swap(tokens, source, wanted, rule))
        assert not np.shares_memory(result.codes, source.codes)
    if len(tokens) == len(source):
        assert editing.swap_codebooks(tokens, source, wanted) == editing.swap_codebooks(tokens, source, wanted, "keep")
    else:
        with pytest.raises(BarkInputError, match=f"have {len(tokens)} and {len(source)} frames.*shorter.*keep"):
            editing.swap_codebooks(tokens, source, wanted)
    assert (plain(tokens), plain(source)) == before


def test_all_codebooks_swapped_are_the_other_sound() -> None:
    one, other = counted(FineTokens, 9), counted(FineTokens, 9, start=100)
    assert editing.swap_codebooks(one, other, range(8)) == other
    assert editing.swap_codebooks(one, other.coarse, np.arange(2)).coarse == other.coarse  # type: ignore[arg-type]
    assert editing.swap_codebooks(one.coarse, other, [1]).codes[1].tolist() == other.codes[1].tolist()


@settings(deadline=None)
@given(tokens_of((FineTokens,)))
def test_coarse_from_fine(fine: Any) -> None:
    check(editing.coarse_from_fine(fine), fine.coarse, plain(fine)[:2])


# -- voices ---------------------------------------------------------------------------------------------------------


def check_voice(speaker: SpeakerPrompt, wanted: tuple[list[int], Rows, Rows] | None) -> None:
    assert wanted is not None
    assert (plain(speaker.semantic), plain(speaker.coarse), plain(speaker.fine)) == ([wanted[0]], *wanted[1:])


@settings(max_examples=40, deadline=None)
@given(st.integers(10, 200), st.integers(10, 200), st.integers(0, 9))
def test_mix(words_length: int, sound_length: int, seed: int) -> None:
    words, sound = (as_speaker(prompt_arrays(n + n % 2, seed + k)) for k, n in enumerate((words_length, sound_length)))
    before = [plain(part) for one in (words, sound) for part in (one.semantic, one.coarse, one.fine)]
    mixed = editing.mix_speaker_prompts(words, sound)
    check_voice(mixed, slow_voice(plain(words.semantic)[0], plain(sound.coarse), plain(sound.fine), SUNO))
    assert abs(mixed.semantic.seconds - min(words.semantic.seconds, sound.semantic.seconds)) < 2 / SUNO.semantic_rate
    assert [plain(part) for one in (words, sound) for part in (one.semantic, one.coarse, one.fine)] == before
    same = editing.mix_speaker_prompts(words, words)
    assert same == words


def test_a_mix_is_named_after_both() -> None:
    parts = as_speaker(prompt_arrays(20))
    words, sound = (SpeakerPrompt(parts.semantic, parts.coarse, parts.fine, name=name) for name in ("ann", "bob"))
    assert editing.mix_speaker_prompts(words, sound).name == "ann with the sound of bob"


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 150), st.floats(0, 1), st.floats(0, 1))
def test_crop(length: int, one: float, other: float) -> None:
    speaker = as_speaker(prompt_arrays(2 * length))
    start, end = sorted((one * speaker.seconds, other * speaker.seconds))
    parts = [slow_trim(tokens, start, end) for tokens in (speaker.semantic, speaker.coarse, speaker.fine)]
    wanted = slow_voice(parts[0][0], parts[1], parts[2], SUNO) if all(part[0] for part in parts) else None
    if wanted is None:
        with pytest.raises(BarkInputError, match=r"too short for a voice|no token from"):
            editing.crop_speaker_prompt(speaker, start, end)
        return
    cropped = editing.crop_speaker_prompt(speaker, start, end)
    check_voice(cropped, wanted)
    assert cropped.coarse == cropped.fine.coarse
    asked = (end or speaker.seconds) - start
    assert abs(cropped.semantic.seconds - asked) < 3 / SUNO.semantic_rate
    assert cropped.name == speaker.name


def test_every_shipped_voice_can_be_cropped_and_mixed() -> None:
    """Suno's own are not cut to the frame; halves of all of them are voices, and so is each with the next one."""
    voices = [SpeakerPrompt.load(file) for file in sorted(prompt_folder().rglob("*.npz"))]
    assert len(voices) == 271
    for voice, following in zip(voices, [*voices[1:], voices[0]], strict=True):
        half = editing.crop_speaker_prompt(voice, voice.seconds / 2, 0)
        assert abs(half.seconds - voice.seconds / 2) < 0.2
        assert half.fine.codes[:, -1].tolist() == voice.fine.codes[:, -1].tolist()
        whole = editing.crop_speaker_prompt(voice, 0, voice.seconds)
        assert abs(whole.seconds - voice.seconds) < 0.4
        mixed = editing.mix_speaker_prompts(voice, following)
        assert mixed.semantic.ids[-1] == voice.semantic.ids[-1]
        assert mixed.coarse.codes[:, -1].tolist() == following.coarse.codes[:, -1].tolist()


def test_a_voice_of_another_family_keeps_its_ratio() -> None:
    semantic, fine = counted(SemanticTokens, 60, OTHER), counted(FineTokens, 150, OTHER)
    speaker = SpeakerPrompt(semantic, fine.coarse, fine)
    cropped = editing.crop_speaker_prompt(speaker, 0.5, 1.5)
    assert (len(cropped.semantic), cropped.fine.shape, cropped.family) == (30, (4, 75), OTHER.family)
    assert cropped.fine.codes[0].tolist() == list(range(37, 112))
    with pytest.raises(BarkInputError, match=r"'editing_test_other' and 'suno' cannot be put together"):
        editing.mix_speaker_prompts(speaker, as_speaker(prompt_arrays(50)))


# -- refused --------------------------------------------------------------------------------------------------------

SEMANTIC, COARSE, FINE = counted(SemanticTokens, 100), counted(CoarseTokens, 150), counted(FineTokens, 150)
VOICE = as_speaker(prompt_arrays(100))
FOREIGN = counted(SemanticTokens, 10, OTHER)
REFUSED: list[tuple[Any, str]] = [
    (lambda: editing.trim(SEMANTIC, 2.5), r"^2\.5 s lies past the end of these semantic tokens \(2\.00 s\)\. "),
    (lambda: editing.trim(COARSE, 0, 9), r"9 s lies past the end of these coarse tokens \(2\.00 s\)"),
    (lambda: editing.trim(FINE, 1, 2.03), r"2\.03 s lies past the end"),
    (lambda: editing.trim(FINE, 2.0), r"no token from 2 s to the end"),
    (lambda: editing.trim(SEMANTIC, 1, 0.5), r"starts at 1 s and ends before that, at 0\.5 s"),
    (lambda: editing.trim(SEMANTIC, 1, 1), r"no token from 1 s to 1 s"),
    (lambda: editing.trim(SEMANTIC, 1, 1.001), r"lasts about 0\.02 s"),
    (lambda: editing.trim(SEMANTIC, 0, 1e-9), r"no token from 0 s to 1e-09 s"),
    (lambda: editing.trim(SEMANTIC, -1), "start of a range is a number of seconds, 0 or more; -1 was given"),
    (lambda: editing.trim(SEMANTIC, 0, math.nan), "end of a range .* nan was given"),
    (lambda: editing.trim(SEMANTIC, 0, math.inf), "end of a range .* inf was given"),
    (lambda: editing.trim(SEMANTIC, True), "start of a range .* True was given"),
    (lambda: editing.trim(SEMANTIC, "1"), "start of a range .* '1' was given"),  # type: ignore[arg-type]
    (lambda: editing.trim([1, 2, 3], 0), "list was given"),  # type: ignore[type-var]
    (lambda: editing.join([]), "nothing to join"),
    (lambda: editing.join([SEMANTIC, None]), "NoneType was given"),
    (lambda: editing.join([np.ones(3), SEMANTIC]), "ndarray was given"),  # type: ignore[list-item]
    (lambda: editing.join([SEMANTIC, COARSE]), "these are semantic tokens and coarse tokens"),
    (lambda: editing.join([COARSE, FINE]), "these are coarse tokens and fine tokens"),
    (lambda: editing.join([SEMANTIC, FOREIGN]), r"'suno' and 'editing_test_other' cannot be put together"),
    (lambda: editing.replace_range(SEMANTIC, 0, 1, FINE), "these are semantic tokens and fine tokens"),  # type: ignore[misc]
    (lambda: editing.replace_range(SEMANTIC, 0, 1, FOREIGN), "another sound in each"),
    (lambda: editing.replace_range(SEMANTIC, 0, 0, None), r"Taking out 0 s to the end would leave nothing"),
    (lambda: editing.replace_range(SEMANTIC, 1, 1, None), "no token from 1 s to 1 s"),
    (lambda: editing.replace_range(SEMANTIC, 1, 5, SEMANTIC), "past the end"),
    (lambda: editing.repeat_range(SEMANTIC, 0, 1, 0), "1 or more; 0 was given"),
    (lambda: editing.repeat_range(SEMANTIC, 0, 1, 1.5), "whole number of times"),  # type: ignore[arg-type]
    (lambda: editing.repeat_range(SEMANTIC, 1, 1, 2), "no token from"),
    (lambda: editing.swap_codebooks(SEMANTIC, FINE, [0]), r"these semantic tokens \(2\.00 s\) were given"),  # type: ignore[type-var]
    (lambda: editing.swap_codebooks(FINE, SEMANTIC, [0]), "which have none"),  # type: ignore[arg-type]
    (lambda: editing.swap_codebooks(FINE, None, [0]), "NoneType was given"),  # type: ignore[arg-type]
    (lambda: editing.swap_codebooks(FINE, FINE, []), r"No codebook was chosen.*0 … 7"),
    (lambda: editing.swap_codebooks(FINE, FINE, [0, 8]), r"codebooks 0 … 7; 8 is not among them"),
    (lambda: editing.swap_codebooks(FINE, FINE, range(2**60)), r"8 is not among them"),
    (lambda: editing.swap_codebooks(FINE, COARSE, [2]), r"codebooks 0 … 1; 2 is not among them"),
    (lambda: editing.swap_codebooks(FINE, FINE, [-1]), r"-1 is not among them"),
    (lambda: editing.swap_codebooks(FINE, FINE, [True]), r"True is not among them"),
    (lambda: editing.swap_codebooks(FINE, FINE, [0], "longer"), r"refuse, shorter, keep, not 'longer'"),  # type: ignore[arg-type]
    (lambda: editing.swap_codebooks(COARSE, counted(CoarseTokens, 9, OTHER), [0]), "another sound in each"),
    (lambda: editing.coarse_from_fine(COARSE), "needs FineTokens, but was given CoarseTokens"),  # type: ignore[arg-type]
    (lambda: editing.mix_speaker_prompts(VOICE, None), "no speaker prompt to cut or mix"),  # type: ignore[arg-type]
    (lambda: editing.mix_speaker_prompts(FINE, VOICE), "must be a SpeakerPrompt"),  # type: ignore[arg-type]
    (lambda: editing.crop_speaker_prompt(VOICE, 0, 3), r"3 s lies past the end of these coarse tokens \(2\.00 s\)"),
    (lambda: editing.crop_speaker_prompt(VOICE, 1, 1.02), r"too short for a voice"),
    (lambda: editing.crop_speaker_prompt(VOICE, 1, 1), r"no token from 1 s to 1 s"),
]


@pytest.mark.parametrize(("job", "sentence"), REFUSED)
def test_refused(job: Any, sentence: str) -> None:
    with pytest.raises(BarkInputError, match=sentence) as refusal:
        job()
    assert str(refusal.value).endswith(".")


def test_tokens_of_a_family_that_nobody_knows_are_cut_by_sunos_rates() -> None:
    tokens: Tokens = SemanticTokens(np.arange(100), family="never_opened_here")
    assert len(editing.trim(tokens, 1.0)) == 50
    assert editing.join([tokens, tokens]).family == "never_opened_here"

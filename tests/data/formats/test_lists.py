"""The official list format, as users write it."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import SHARED_DATA

from bench import BenchError
from bench.cards.load import load_task, replace
from bench.data.dataset import load_splits
from bench.data.formats.lists import read_rows
from bench.data.formats.tables import VIDEO_SUFFIXES
from bench.data.sample import ListOptions, Sample, Splits


def read_list(path: Path, data: Path | None = None) -> list[Sample]:
    return read_rows(path).samples(data)


def write(folder: Path, text: str) -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("delimiter", [" ", ",", "\t", "::"])
@pytest.mark.parametrize("name", ["clips/a.mp4", "my clips/a b.mp4", "clips/ä, b.mp4", "a::b.mp4"])
def test_every_delimiter_keeps_the_path(tmp_path: Path, delimiter: str, name: str) -> None:
    samples = read_list(write(tmp_path, f"{name}{delimiter}3\nclips/other.mp4{delimiter}0\n"))
    assert [(s.id, s.label) for s in samples] == [(name, 3), ("clips/other.mp4", 0)]
    assert samples[0].path == str(tmp_path / name)


def test_relative_paths_start_at_the_list_or_at_the_data_folder(tmp_path: Path) -> None:
    path = write(tmp_path, "a.mp4 0\n")
    assert read_list(path)[0].path == str(tmp_path / "a.mp4")
    assert read_list(path, tmp_path / "videos")[0].path == str(tmp_path / "videos" / "a.mp4")


def test_absolute_paths_are_the_users_own(tmp_path: Path) -> None:
    assert read_list(write(tmp_path, "/data/a.mp4 0\n"))[0].path == "/data/a.mp4"


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    samples = read_list(write(tmp_path, "\ufeffa.mp4 0\r\n\r\nb.mp4 1\r\n"))
    assert [s.id for s in samples] == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("text", "data", "where", "words"),
    [
        ("a.mp4 0\nb.mp4 one\nc.mp4 2\n", None, ":2", "not `path label`"),
        ("path,label\na.mp4,0\n", None, ":1", "no header"),
        ("a.mp4 0\nb.mp4\n", None, ":2", "not `path label`"),
        ("a.mp4 0\nb.mp4 -1\n", None, ":2", "negative"),
        ("a.mp4 0\n\nb.mp4 1.5\n", None, ":3", "not `path label`"),
        ("a.mp4 0\nb.mp4 1\na.mp4 1\n", None, ":3", "listed twice"),
        ("a.mp4 0\n./a.mp4 1\n", None, ":2", "listed twice"),
        ("a.mp4 0\nb.mp4 --5\n", None, ":2", "not `path label`"),
        ("a.mp4 0\nb\0.mp4 1\n", None, ":2", "zero byte"),
        ("../secret.mp4 0\n", None, ":1", "leaves the data folder"),
        ("/etc/passwd 0\n", "data", ":1", "leaves the data folder"),
        ("", None, "", "empty"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(
    tmp_path: Path, text: str, data: str | None, where: str, words: str
) -> None:
    with pytest.raises(BenchError) as refusal:
        read_list(write(tmp_path, text), tmp_path / data if data else None)
    assert f"list.csv{where}: " in str(refusal.value) and words in str(refusal.value)


def test_missing_and_binary_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no such list"):
        read_list(tmp_path / "none.csv")
    (tmp_path / "video.csv").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(BenchError, match="UTF-8"):
        read_list(tmp_path / "video.csv")


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).filter(
    # A comma and then a space, or a byte order mark, before the label could be either's.
    lambda name: name not in (".", "..") and "/" not in name and name == name.strip(" ,:\ufeff")
)


@given(rows=st.dictionaries(NAMES, st.integers(0, 999), min_size=1), delimiter=st.sampled_from([" ", ",", "\t"]))
def test_what_pandas_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, int], delimiter: str
) -> None:
    path = tmp_path_factory.mktemp("lists") / "list.csv"
    pandas.DataFrame(rows.items()).to_csv(path, sep=delimiter, header=False, index=False)
    assert {sample.id: sample.label for sample in read_list(path)} == rows


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC, csv.QUOTE_ALL])
def test_quotes_are_taken_off_as_the_official_reader_does(tmp_path: Path, quoting: int) -> None:
    names = ["plain.mp4", "my clip.mp4", 'a "b".mp4', "a,b c.mp4"]
    path = tmp_path / "list.csv"
    pandas.DataFrame({"path": names, "label": range(4)}).to_csv(
        path, sep=" ", header=False, index=False, quoting=quoting
    )
    assert pandas.read_csv(path, header=None, delimiter=" ")[0].tolist() == names
    assert [(s.id, s.label) for s in read_list(path)] == [(name, label) for label, name in enumerate(names)]


def test_quotes_that_are_not_round_the_whole_path_belong_to_it(tmp_path: Path) -> None:
    samples = read_list(write(tmp_path, 'my "best" clip.mp4 0\n"a" b.mp4 1\n'))
    assert [sample.id for sample in samples] == ['my "best" clip.mp4', '"a" b.mp4']


@pytest.mark.parametrize("letter", ["\u2028", "\u2029", "\x85", "\v", "\f", "\x1c", "\x1e", "\u00a0"])
def test_a_line_ends_at_a_line_feed_alone(tmp_path: Path, letter: str) -> None:
    samples = read_list(write(tmp_path, f"a{letter}b.mp4 0\r\nc.mp4 1\r\n"))
    assert [(s.id, s.label) for s in samples] == [(f"a{letter}b.mp4", 0), ("c.mp4", 1)]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a.mp4 0\nb.mp4,1\nc.mp4 2\n", 2, ["2 of 3 rows have a space", "this one has a comma"]),
        ("a.mp4,0\nb.mp4,1\nc.mp4 2\n", 3, ["2 of 3 rows have a comma", "this one has a space"]),
        ("a b.mp4\t0\nb.mp4\t1\nc.mp4::2\n", 3, ["2 of 3 rows have a tab", "this one has '::'"]),
        ("0 a.mp4\n1 b.mp4\n", 1, ["the label comes last"]),
        ("0,a.mp4\n1,b.mp4\n", 1, ["the label comes last"]),
        ("path label\na.mp4 wave\n", 1, ["no header"]),
        ("a.mp4 wave\nb.mp4\n", 2, ["not `path label`"]),
        ("a.mp4 1.0\nb.mp4 0.0\n", 1, ["not `path label`"]),
    ],
)
def test_the_row_that_is_blamed_is_the_one_that_is_wrong(
    tmp_path: Path, text: str, line: int, words: list[str]
) -> None:
    with pytest.raises(BenchError) as refusal:
        read_list(write(tmp_path, text))
    assert f"list.csv:{line}: " in str(refusal.value) and all(word in str(refusal.value) for word in words)


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("v0 8 1\nv1 12 0\n", "folder frames label"),
        ("v0,8,1\nv1,12,0\n", "folder frames label"),
        ("a dir/v0 1 8 1\nb 3 12 0\n", "folder frames label"),
        ("0 a.mp4 1\n1 b.mp4 0\n", "number path label"),
    ],
)
def test_other_layouts_are_called_by_their_name(tmp_path: Path, text: str, layout: str) -> None:
    with pytest.raises(BenchError, match=f"the rows are `{layout}`"):
        read_list(write(tmp_path, text))


def test_a_path_that_ends_in_a_number_is_a_path_where_it_is_there(tmp_path: Path) -> None:
    for name in ("clip 1", "clip 2"):
        (tmp_path / name).mkdir()
    assert [s.id for s in read_list(write(tmp_path, "clip 1 0\nclip 2 1\n"))] == ["clip 1", "clip 2"]
    assert [s.id for s in read_list(write(tmp_path, '"clip 7" 0\n"clip 8" 1\n'))] == ["clip 7", "clip 8"]


@pytest.mark.parametrize(
    "text",
    [
        "a b.mp4,playing guitar\nc.mp4,wave\n",
        'a b.mp4 "playing guitar"\nc.mp4 wave\n',
        '"a b.mp4" "playing guitar"\nc.mp4 wave\n',
        "a b.mp4\tplaying guitar\nc.mp4\twave\n",
        "a b.mp4::playing guitar\nc.mp4::wave\n",
        "a b.mp4 playing guitar\nc.mp4 wave\n",
    ],
)
def test_classes_may_be_named(tmp_path: Path, text: str) -> None:
    listed = read_rows(write(tmp_path, text))
    assert listed.named
    assert [(row.name, row.label) for row in listed.rows] == [("a b.mp4", "playing guitar"), ("c.mp4", "wave")]


def test_names_that_end_in_a_number_are_names(tmp_path: Path) -> None:
    listed = read_rows(write(tmp_path, "a.mp4,level 1\nb.mp4,level 2\nc.mp4,level 1\n"))
    assert [row.label for row in listed.rows] == ["level 1", "level 2", "level 1"]


def test_folders_of_frames_may_have_named_classes(tmp_path: Path) -> None:
    listed = read_rows(write(tmp_path, "frames/a wave\nframes/b point\n"))
    assert [(row.name, row.label) for row in listed.rows] == [("frames/a", "wave"), ("frames/b", "point")]


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="shared sample data is not here")
@pytest.mark.parametrize(
    ("name", "count", "classes"),
    [
        ("moving_signs/train_motion.csv", 800, 8),
        ("moving_signs/val_appearance.csv", 320, 10),
        ("fight_surv/val.csv", 92, 2),
    ],
)
def test_real_lists(name: str, count: int, classes: int) -> None:
    samples = read_list(SHARED_DATA / name)
    assert len(samples) == count and len({s.label for s in samples}) == classes
    assert all(Path(s.path).is_file() for s in samples)


CUSTOM = load_task("custom")
NAMED = replace(CUSTOM, {"classes": ("wave", "point")}, "test")
IMAGES = replace(NAMED, {"media": "image"}, "test")


def folders(root: Path, *files: str, empty: tuple[str, ...] = ()) -> Path:
    """A data folder with these files, and a video of both classes in val."""
    for name in (*files, "val/wave/v.mp4", "val/point/v.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    for name in empty:
        (root / name).mkdir(parents=True)
    return root


def split(data: Path, card: object = CUSTOM) -> Splits:
    return load_splits(card, ListOptions(data, data / "train", data / "val"), data)  # type: ignore[arg-type]


def test_a_custom_task_has_the_classes_of_its_folders_in_sorted_order(tmp_path: Path) -> None:
    data = folders(tmp_path, "train/wave/b.mp4", "train/wave/a.mp4", "train/point/a.mp4")
    for where in (
        ListOptions(data),
        ListOptions(train=data / "train", val=data / "val"),
        ListOptions(data, data / "train", data / "val"),
    ):
        splits = load_splits(CUSTOM, where, data)
        assert splits.class_names == ("point", "wave") and not splits.notes
        assert [(s.id, s.label) for s in splits.train] == [
            ("train/point/a.mp4", 0),
            ("train/wave/a.mp4", 1),
            ("train/wave/b.mp4", 1),
        ]
        assert splits.test[0].path == str(data / "val" / "point" / "v.mp4")


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_the_test_folder_may_have_any_usual_name(tmp_path: Path, name: str) -> None:
    data = folders(tmp_path, "train/wave/a.mp4", "train/point/a.mp4")
    (data / "val").rename(data / name)
    assert len(load_splits(CUSTOM, ListOptions(data), data).test) == 2


def test_a_class_of_the_test_folders_alone_is_refused(tmp_path: Path) -> None:
    data = folders(tmp_path, "train/wave/a.mp4", "train/points/a.mp4")
    with pytest.raises(BenchError, match=r"'point', the class of 'val/point/v.mp4', has no training .*did you mean"):
        split(data)


@pytest.mark.parametrize("suffix", [*VIDEO_SUFFIXES, ".WMV", ".Gif"])
def test_files_of_every_suffix_that_a_list_may_name_are_read(tmp_path: Path, suffix: str) -> None:
    data = folders(tmp_path, f"train/wave/a{suffix}", "train/point/a.mp4")
    splits = split(data, NAMED)
    assert [s.id for s in splits.train] == ["train/point/a.mp4", f"train/wave/a{suffix}"] and not splits.notes


def test_other_files_are_left_out_and_their_number_is_said(tmp_path: Path) -> None:
    data = folders(
        tmp_path,
        "train/wave/a.mp4",
        "train/wave/a.txt",
        "train/point/b/a.txt",
        "train/point/README",
        "train/point/a.mp4",
    )
    folders(data, "train/point/.DS_Store")
    splits = split(data, NAMED)
    assert len(splits.train) == 2
    assert splits.notes == ("train: 3 files with other endings in class folders are left out: 2 .txt, 1 without any",)


@pytest.mark.parametrize("card", [CUSTOM, NAMED, IMAGES])
def test_the_images_of_a_class_may_lie_in_a_folder_of_their_own(tmp_path: Path, card: object) -> None:
    images = [f"train/{kind}/images/{kind}_{k}.JPEG" for kind in ("point", "wave") for k in range(3)]
    splits = split(folders(tmp_path, *images), card)
    assert [s.id for s in splits.train] == images


def test_videos_lie_at_any_depth(tmp_path: Path) -> None:
    data = folders(tmp_path, "train/wave/a.mp4", "train/wave/day2/deep/a.mp4", "train/point/day1/a.mp4")
    assert [s.id for s in split(data).train] == [
        "train/point/day1/a.mp4",
        "train/wave/a.mp4",
        "train/wave/day2/deep/a.mp4",
    ]


def test_several_folders_of_images_in_a_class_are_videos_unless_samples_are_images(tmp_path: Path) -> None:
    frames = [f"train/{kind}/{clip}/{k}.jpg" for kind in ("point", "wave") for clip in ("c1", "c2") for k in range(2)]
    data = folders(tmp_path, *frames)
    splits = split(data, NAMED)
    assert [s.id for s in splits.train] == ["train/point/c1", "train/point/c2", "train/wave/c1", "train/wave/c2"]
    assert splits.notes == ("train: 4 folders of images in class folders are read as a video each",)
    assert len(split(data, IMAGES).train) == 8
    folders(data, "train/wave/more.jpg")
    assert len(split(data, NAMED).train) == 9


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    data = folders(tmp_path, "train/wave/a.mp4", "train/point/a.mp4", "more/b.mp4")
    (data / "train" / "wave" / "more").symlink_to(data / "more")
    (data / "more" / "loop").symlink_to(data / "train" / "wave")
    assert [s.id for s in split(data).train] == ["train/point/a.mp4", "train/wave/a.mp4", "train/wave/more/b.mp4"]


def test_a_class_folder_without_files_is_said(tmp_path: Path) -> None:
    data = folders(tmp_path, "train/wave/a.mp4", "train/point/a.mp4", empty=("train/jump",))
    splits = split(data)
    assert splits.class_names == ("jump", "point", "wave")
    assert splits.notes == ("1 of 3 classes has no sample in either split: jump",)

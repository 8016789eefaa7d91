"""One reader a format: what it makes of official files, and how it refuses others."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import standins
from support import SHARED_DATA

from bench import BenchError
from bench.cards.load import load_task, replace
from bench.data.dataset import load_splits, read
from bench.data.formats.choice import index_folder
from bench.data.sample import ListOptions, Sample, Splits

LISTS = SHARED_DATA / "annotations"
needs_lists = pytest.mark.skipif(not LISTS.is_dir(), reason="real annotation files are not here")
INAT = '{"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [{"id": 0, "name": "A"}], "annotations": [%s]}'
KINETICS = "label,youtube_id,time_start,time_end,split\n"


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def places(samples: list[Sample], folder: Path) -> list[str]:
    return [Path(sample.path).relative_to(folder).as_posix() for sample in samples]


def given(task: str, **where: Path) -> Splits:
    return load_splits(load_task(task), ListOptions(**where), Path(), test_only="train" not in where)


# Kinetics


@pytest.mark.parametrize(
    "file",
    [
        "val/-bcdefghijk_000003_000013.mp4",
        "val/air drumming/-bcdefghijk_000003_000013.mkv",
        "air_drumming/-bcdefghijk_000003_000013.WEBM",
        "-bcdefghijk.mp4",
        "videos_256/val/air drumming/-bcdefghijk.webm",
    ],
)
def test_kinetics_clips_are_found_under_their_usual_names(tmp_path: Path, file: str) -> None:
    put(tmp_path, {"annotations/val.csv": f"{KINETICS}air drumming,-bcdefghijk,3,13,val\n", file: "x"})
    (sample,) = read("k400", tmp_path, "test")
    assert (sample.id, sample.label, sample.start_s) == ("-bcdefghijk_000003_000013", 1, None)
    assert places([sample], tmp_path) == [file]


def test_a_video_with_several_clips_is_found_by_their_times_alone(tmp_path: Path) -> None:
    rows = "abseiling,abcdefghijk,3,13,val\nabseiling,abcdefghijk,20,30,val\n"
    put(tmp_path, {"val.csv": KINETICS + rows, "val/abcdefghijk.mp4": "x"})
    samples = read("k400", tmp_path, "test")
    assert places(samples, tmp_path) == [f"val/abcdefghijk_{times}.mp4" for times in ("000003_000013", "000020_000030")]


def test_one_kinetics_file_may_hold_all_splits(tmp_path: Path) -> None:
    rows = "".join(f"abseiling,{split:_<11},0,10,{split}\n" for split in ("train", "validate", "test"))
    put(tmp_path, {"train.csv": KINETICS + rows, "val.csv": KINETICS + rows})
    assert [sample.id[:5] for sample in read("k400", tmp_path, "train")] == ["train"]
    assert [sample.id[:5] for sample in read("k400", tmp_path, "test")] == ["valid"]


@needs_lists
@pytest.mark.parametrize(("task", "count"), [("k400", 19906), ("k600", 30000)])
def test_the_official_kinetics_lists(tmp_path: Path, task: str, count: int) -> None:
    path = LISTS / "activitynet" / "Crawler" / "Kinetics" / "data" / f"kinetics-{task[1:]}_val.csv"
    put(tmp_path, {"val/0wR5jVB-WPk_000417_000427.mp4": "x"})
    splits = given(task, data=tmp_path, val=path)
    assert len(splits.test) == count == load_task(task).test_size
    assert {sample.label for sample in splits.test} == set(range(len(splits.class_names)))
    found = {sample.id for sample in splits.test} & {"0wR5jVB-WPk_000417_000427"}
    assert found and [sample.id for sample in splits.test if os.path.exists(sample.path)] == list(found)  # noqa: PTH110


# Something-Something v2


@needs_lists
def test_the_official_text_splits_of_ssv2(tmp_path: Path) -> None:
    folder = LISTS / "uniformer" / "sthv2"
    put(tmp_path, {"any/folder/78687.webm": "x", "74225.mp4": "x"})
    splits = given(
        "ssv2",
        data=tmp_path,
        train=folder / "somesomev2_rgb_train_split.txt",
        val=folder / "somesomev2_rgb_validation_split.txt",
    )
    card = load_task("ssv2")
    assert (len(splits.train), len(splits.test)) == (card.train_size, card.test_size)
    assert (splits.train[0].id, splits.train[0].label) == ("78687", 19)
    assert places([splits.train[0], splits.test[0]], tmp_path) == ["any/folder/78687.webm", "74225.mp4"]
    assert sum(os.path.exists(sample.path) for sample in splits.train) == 1  # noqa: PTH110


def test_labels_of_ssv2_come_from_the_template_without_brackets(tmp_path: Path) -> None:
    entries = [{"id": "7", "label": "bending a spoon", "template": "Bending [something] until it breaks"}]
    put(tmp_path, {"something-something-v2-validation.json": json.dumps(entries)})
    (sample,) = read("ssv2", tmp_path, "test")
    assert load_task("ssv2").classes[sample.label] == "Bending something until it breaks"  # type: ignore[index]


def test_a_label_file_in_another_order_is_refused(tmp_path: Path) -> None:
    entries = [{"id": "7", "template": "Bending [something] until it breaks"}]
    labels = {"Approaching something with your camera": "1", "Attaching something to something": "0"}
    put(tmp_path, {"validation.json": json.dumps(entries), "labels.json": json.dumps(labels)})
    with pytest.raises(BenchError, match=r"labels\.json: 'Approaching .*' has label 1, and 0 in the card"):
        read("ssv2", tmp_path, "test")


# Frames, spans, splits


def test_jester_samples_are_folders_of_frames_at_twelve_a_second(tmp_path: Path) -> None:
    put(tmp_path, {"jester-v1-train.csv": "34870;Drumming Fingers\n56557;Sliding Two Fingers Right\n"})
    put(tmp_path, {"deep/er/34870/00001.jpg": "x"})
    samples = read("jester", tmp_path, "train")
    assert places(samples, tmp_path) == ["deep/er/34870", "20bn-jester-v1/56557"]
    assert [(sample.label, sample.fps) for sample in samples] == [(24, 12.0), (7, 12.0)]


def test_the_newer_release_of_jester_has_a_header(tmp_path: Path) -> None:
    put(tmp_path, {"Validation.csv": "video_id,label,frames,label_id\n1,Thumb Up,37,22\n"})
    assert [(sample.id, sample.label) for sample in read("jester", tmp_path, "test")] == [("1", 20)]


def test_coin_samples_are_the_spans_of_the_tasks(tmp_path: Path) -> None:
    standins.standin("coin", tmp_path, train=2, test=2)
    train = read("coin", tmp_path, "train")
    assert [(sample.id, sample.label, sample.start_s, sample.end_s) for sample in train] == [
        ("train000_00", 0, 0.125, 1.0),
        ("train001_00", 1, 0.125, 1.0),
    ]
    names = load_splits(load_task("coin"), ListOptions(tmp_path), tmp_path).class_names
    assert names[:3] == ("AssembleBed", "AttendNBASkillsChallenge", "2") and len(names) == 180


def test_the_names_of_inat_come_from_its_annotations_or_folders(tmp_path: Path) -> None:
    standins.standin("inat21", tmp_path, train=2, test=2)
    card, where = load_task("inat21"), ListOptions(tmp_path)
    assert load_splits(card, where, tmp_path).class_names[:2] == ("Lumbricus 0", "Lumbricus 1")
    (tmp_path / "train.json").unlink()
    (tmp_path / "val.json").unlink()
    splits = load_splits(card, where, tmp_path)
    assert splits.class_names[1] == "00001_Animalia_Annelida_1" and [s.label for s in splits.test] == [0, 1]


def test_splits_of_two_releases_of_inat_are_refused(tmp_path: Path) -> None:
    standins.standin("inat21", tmp_path, train=2, test=2)
    other = (tmp_path / "val.json").read_text().replace("Lumbricus 1", "Larus 1")
    (tmp_path / "val.json").write_text(other)
    with pytest.raises(BenchError, match=r"val\.json: class 1 is 'Larus 1', and 'Lumbricus 1' in the training split"):
        load_splits(load_task("inat21"), ListOptions(tmp_path), tmp_path)
    (tmp_path / "train.json").unlink()  # folders have names of their own
    assert len(load_splits(load_task("inat21"), ListOptions(tmp_path), tmp_path).train) == 2


def test_two_folders_of_one_label_are_refused(tmp_path: Path) -> None:
    put(tmp_path, {"val/00001_a/x.jpg": "x", "val/1_b/x.jpg": "x"})
    with pytest.raises(BenchError, match=r"val/1_b: label 1 is another folder's too, '00001_a'"):
        read("inat21", tmp_path, "test")


@pytest.mark.skipif(os.name == "nt", reason="file names are text there")
def test_a_file_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    put(tmp_path, {"val/n01440764/a.JPEG": "x"})
    try:
        (tmp_path / "val/n01440764/a.JPEG").rename(tmp_path / "val/n01440764/caf\udce9.JPEG")
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")
    with pytest.raises(BenchError, match=r"n01440764/caf.*\.JPEG' is not in UTF-8 - rename the file"):
        read("in1k", tmp_path, "test")


@needs_lists
@pytest.mark.parametrize(
    ("task", "train", "val"), [("ucf101", "train.csv", "val.csv"), ("hmdb51", "train.txt", "val.txt")]
)
def test_lists_of_split_one_as_others_write_them(tmp_path: Path, task: str, train: str, val: str) -> None:
    folder = LISTS / "uniformer" / task / "split1"
    splits = given(task, data=tmp_path, train=folder / train, val=folder / val)
    card = load_task(task)
    assert (len(splits.train), len(splits.test)) == (card.train_size, card.test_size)
    assert {sample.label for sample in splits.test} == set(range(card.num_classes or 0))


def test_ucf101_lists_that_count_another_way_are_refused(tmp_path: Path) -> None:
    """Capitals first would put HammerThrow before Hammering."""
    put(tmp_path, {"train.csv": "Archery/v_Archery_g01_c01.avi 2\nHammering/v_Hammering_g01_c01.avi 35\n"})
    with pytest.raises(BenchError, match=r"train\.csv:2: label 35 of 'Hammering', which is class 34"):
        read("ucf101", tmp_path, "train")


def test_hmdb51_split_two_by_one_of_its_files(tmp_path: Path) -> None:
    put(tmp_path, {f"chew_test_split{number}.txt": f"a b_{number}.avi 1 \nc.avi 2 \nd.avi 0 \n" for number in (1, 2)})
    splits = given(
        "hmdb51", data=tmp_path, train=tmp_path / "chew_test_split2.txt", val=tmp_path / "chew_test_split2.txt"
    )
    assert ([s.id for s in splits.train], [s.id for s in splits.test]) == (["chew/a b_2"], ["chew/c"])
    assert [s.id for s in given("hmdb51", data=tmp_path, val=tmp_path).test] == ["chew/c"]
    assert [s.id for s in read("hmdb51", tmp_path, "train")] == ["chew/a b_1"]


def test_hmdb51_files_of_one_name_in_two_classes_stay_apart(tmp_path: Path) -> None:
    put(tmp_path, {"chew_test_split1.txt": "a.avi 1\n", "clap_test_split1.txt": "a.avi 1\n", "videos/clap/a.avi": "x"})
    assert places(read("hmdb51", tmp_path, "train"), tmp_path) == ["chew/a.avi", "videos/clap/a.avi"]


# ImageNet


def test_imagenet_validation_in_one_folder_has_its_labels_in_a_file(tmp_path: Path) -> None:
    standins.standin("in1k", tmp_path, train=2, test=2)
    put(tmp_path, {"flat/ILSVRC2012_val_00000001.JPEG": "x"})
    put(tmp_path, {"LOC_val_solution.csv": "ImageId,PredictionString\nILSVRC2012_val_00000001,n01443537 1 2 3 4 \n"})
    (sample,) = read("in1k", tmp_path, "test")
    assert (sample.label, places([sample], tmp_path)) == (1, ["flat/ILSVRC2012_val_00000001.JPEG"])


def test_missing_training_images_are_noticed_with_the_list_of_the_kaggle_download(tmp_path: Path) -> None:
    rows = "n01443537/n01443537_7 1\nn01440764/n01440764_9 2\n"
    put(tmp_path, {"ILSVRC/ImageSets/CLS-LOC/train_cls.txt": rows})
    put(tmp_path, {"ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_9.JPEG": "x"})
    samples = read("in1k", tmp_path, "train")
    assert [sample.label for sample in samples] == [1, 0]
    assert places(samples, tmp_path) == [
        "train/n01443537/n01443537_7.JPEG",
        "ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_9.JPEG",
    ]


@pytest.mark.skipif(not (SHARED_DATA / "imagenet_sample").is_dir(), reason="sample photos are not here")
def test_a_thousand_real_class_folders(tmp_path: Path) -> None:
    (tmp_path / "val").symlink_to(SHARED_DATA / "imagenet_sample", target_is_directory=True)
    samples = read("in1k", tmp_path, "test")
    assert [sample.label for sample in samples] == list(range(1000))
    assert all(Path(sample.path).is_file() for sample in samples)


# What does not fit

BAD = [
    ("k400", "val.csv", KINETICS + "abseilin,abcdefghijk,3,13,val\n", ":2: 'abseilin' is not a class", "'abseiling'"),
    ("k400", "val.csv", KINETICS + "abseiling,abcdefghijk,3,x,val\n", ":2: 'x' is not a whole number", "mend"),
    ("k400", "val.csv", KINETICS + "abseiling,abcdefghijk,13,3,val\n", ":2: a clip from 13 s to 3 s", "mend"),
    ("k400", "val.csv", KINETICS + "abseiling,abcdefghijk\n", ":2: 2 columns instead of 5", "mend"),
    ("k400", "val.csv", KINETICS + 2 * "abseiling,abcdefghijk,3,13,val\n", ":3: 'abcdefghijk_000003", "row 2"),
    ("k400", "val.csv", KINETICS + "abseiling,abcdefghijk,3,13,train\n", "no test rows, only 'train'", "other split"),
    ("k400", "val.csv", KINETICS + "abseiling,../../x,3,13,val\n", ":2: 'val/../../x_000003_000013.mp4' leaves", ""),
    ("k400", "val.csv", "abseiling,abcdefghijk,3,13,val,0\n", ":1: no column 'label' in the header", "columns label"),
    ("k400", "val.csv", "youtube_id,time_start,time_end,split\na,1,2,test\n", ":1: no column 'label'", "not public"),
    ("k400", "val.csv", "label,youtube_id,start,end\n", ":1: no column 'time_start'", "the first row names"),
    ("ssv2", "validation.json", '[{"id": "1", "template": "Folding a thing"}]', "'Folding a thing' is not", "mean"),
    ("ssv2", "validation.json", '[{"id": "1"}]', "entry 1: no field 'template'", "not public"),
    ("ssv2", "validation.json", '[{"id": "1",\n ', ":2: not JSON", "again"),
    ("ssv2", "validation.json", "{}", "not a list of samples", "official"),
    ("ssv2", "val.csv", "1 2 3\n1 2\n", ":2: not `id frames label`", "mend"),
    ("ssv2", "val.csv", "1 20 174\n", "label 174 of '1' is out of range", "classes 0 to 173"),
    ("jester", "val.csv", "1;Thumbs Up\n", ":1: 'Thumbs Up' is not a class", "did you mean 'Thumb Up'"),
    ("jester", "val.csv", "1\n2\n", ":1: '1' has no label", "not public"),
    ("jester", "val.csv", "1;Thumb Up\n2;\n", ":2: '2' has no label", "not public"),
    ("diving48", "Diving48_V2_test.json", '[{"vid_name": "a", "label": "x"}]', "entry 1: 'x' is not a whole", "mend"),
    ("coin", "COIN.json", '{"database": []}', "no videos under 'database'", "COIN.json"),
    ("coin", "COIN.json", '{"database": {"a": {"class": "A", "subset": "testing"}}}', "no field 'recipe_type'", ""),
    ("coin", "COIN.json", '{"database": {"a": {"class": [], "subset": [], "recipe_type": 0}}}', "no samples", "check"),
    ("diving48", "Diving48_V2_test.json", '[{"vid_name": "a", "label": -1}]', "label -1 of 'a' is out of", "mend"),
    ("diving48", "Diving48_V2_test.json", '[{"vid_name": "a\\u0000", "label": 1}]', ":1: the path holds a zero", ""),
    ("diving48", "Diving48_V2_test.json", '[{"vid_name": "\\ud800", "label": 1}]', "\\ud800.mp4' is not in UTF-8", ""),
    ("inat21", "val.json", '{"images": [], "categories": []}', "no 'annotations'", "val.json"),
    ("inat21", "val.json", INAT % '{"image_id": 1}', "annotations 1: no field 'category_id'", "again"),
    ("inat21", "val.json", INAT % "3", "annotations 1: no field 'image_id'", "again"),
    ("inat21", "val.json", INAT % '{"image_id": 1, "category_id": "x"}', "annotations 1: 'x' is not a whole", "mend"),
    ("inat21", "val.json", INAT % '{"image_id": 2, "category_id": 0}', "images 1: 'a.jpg' has no annotation", "again"),
    ("inat21", "val.json", '{"images": 1, "categories": [], "annotations": []}', "'images' is not a list", "again"),
    ("in1k", "LOC_val_solution.csv", "ImageId,PredictionString\na,n99 1 1\n", ":2: 'n99' is not a class", "lists"),
    ("in1k", "val/n00000001/a.JPEG", "x", "'n00000001' is not a class", "val/n00000001"),
    ("in1k", "val/a.JPEG", "x", "no class folders here", "--val"),
    ("ucf101", "testlist01.txt", "Archer/v_Archer_g01_c01.avi\n", ":1: 'Archer' is not a class", "'Archery'"),
    ("hmdb51", "chew_test_split1.txt", "a.avi 1\nb.avi\n", ":2: not `NAME.avi 0|1|2`", "mend"),
    ("k400", "val.csv", "", "empty", "path label"),
    ("k400", "other.csv", "x", "no annotations of the test split", "bench tasks k400"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "file", "text", "what", "fix"), BAD)
def test_what_does_not_fit_is_named_by_file_and_row(
    tmp_path: Path, task: str, file: str, text: str, what: str, fix: str
) -> None:
    put(tmp_path, {file: text})
    with pytest.raises(BenchError) as refusal:
        read(task, tmp_path, "test")
    assert what in str(refusal.value) and fix in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_bytes(KINETICS.encode() + b"abseiling,\xff\xfe,3,13,val\n")
    with pytest.raises(BenchError, match=r"val\.csv: cannot be read as text"):
        read("k400", tmp_path, "test")


def test_a_sample_in_both_splits_is_refused_though_its_files_have_two_names(tmp_path: Path) -> None:
    for split in ("train", "val"):
        rows = f"abseiling,abcdefghijk,3,13,{split}\nabseiling,{split:_<11},3,13,{split}\n"
        put(tmp_path, {f"{split}.csv": KINETICS + rows})
    with pytest.raises(BenchError, match=r"1 file\(s\) are in both lists, first 'abcdefghijk_000003_000013'"):
        load_splits(load_task("k400"), ListOptions(tmp_path), tmp_path)


def test_two_rows_are_never_one_file(tmp_path: Path) -> None:
    rows = "Archery/v_a.avi\nBasketball/v_a.avi\n"
    put(tmp_path, {"testlist01.txt": rows, "videos/v_a.avi": "x"})
    with pytest.raises(
        BenchError, match=r"testlist01\.txt:2: 'Basketball/v_a' and the sample of row 1 are both the file"
    ):
        read("ucf101", tmp_path, "test")


def test_a_card_of_ones_own_in_an_official_format_states_its_classes(tmp_path: Path) -> None:
    put(tmp_path, {"val.csv": KINETICS + "wave,abcdefghijk,3,13,val\npoint,bbcdefghijk,3,13,val\n"})
    own = replace(load_task("custom"), {"format": "kinetics", "classes": ["wave", "point"]}, "test")
    assert [sample.label for sample in read(own, tmp_path, "test")] == [0, 1]
    with pytest.raises(BenchError, match=r"state `classes: \[NAME, \.\.\.\]`"):
        read(replace(own, {"classes": 2}, "test"), tmp_path, "test")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def test_wanted_files_are_found_at_any_depth_the_least_deep_first(tmp_path: Path) -> None:
    touch(tmp_path, "b/deep/a.mp4", "b/a.webm", "c ü/a.MKV", "a.txt", "other.mp4", ".hidden/a.mp4")
    assert index_folder(tmp_path, {"a"}) == {"a": ["b/a.webm", "c ü/a.MKV", "b/deep/a.mp4"]}


def test_a_wanted_folder_is_a_sample_and_its_frames_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "frames/12/00001.jpg", "frames/13/12.jpg")
    import os

    listed: list[str] = []
    scandir = os.scandir

    def spy(path: str) -> object:
        listed.append(Path(path).name)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", spy)
    assert index_folder(tmp_path, {"12"}) == {"12": ["frames/12", "frames/13/12.jpg"]}
    assert "12" not in listed and "13" in listed


def test_links_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "disk/a.mp4", "data/b.mp4")
    (tmp_path / "data" / "more").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "data", target_is_directory=True)
    assert index_folder(tmp_path / "data", {"a", "b"}) == {"b": ["b.mp4"], "a": ["more/a.mp4"]}

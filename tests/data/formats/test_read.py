"""The samples of a task by its card and its folder."""

from pathlib import Path

from bench.data.formats import read


def test_a_split_is_read_by_the_name_of_its_card(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a.mp4 0\nb.mp4 173\n")
    (tmp_path / "val.csv").write_text("c.mp4 5\n")
    assert [(s.id, s.label) for s in read("ssv2", tmp_path, "train")] == [("a.mp4", 0), ("b.mp4", 173)]
    assert [s.path for s in read("ssv2", str(tmp_path), "test")] == [str(tmp_path / "c.mp4")]

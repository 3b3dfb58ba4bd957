"""A person's own images and table of tags, in the shapes such tables have, and what each mistake is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from matlabel_bench import registry, spec
from matlabel_bench.errors import DataError, UsageError
from matlabel_bench.images import write_label
from matlabel_datasets.folder import Folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images of two kinds, tagged."""
    (tmp_path / "images").mkdir()
    for name in ("one.jpg", "two.PNG", "my third.jpeg"):
        PIL.Image.new("RGB", (3, 2)).save(tmp_path / "images" / name)
    (tmp_path / "tags.csv").write_text("image,tags\none.jpg,dog cat\ntwo,cat\nmy third.jpeg,dog\n")
    return tmp_path


def make(root: Path, **fields: object) -> Folder:
    part: Folder = registry.start()[0].make("dataset", "folder", root=str(root), **fields)
    return part


def told(ask: Callable[[], object], *words: str, error: type[Exception] = DataError) -> None:
    """The error's text holds all the words."""
    with pytest.raises(error) as err:
        ask()
    for word in words:
        assert word in str(err.value)


def tags_of(part: Folder) -> dict[str, tuple[int, ...]]:
    return {s.id: s.tags for s in part.split("all")}


def test_images_and_tags_are_enough(root: Path) -> None:
    part = make(root)
    assert isinstance(part, spec.Dataset)
    assert part.class_names() == ("cat", "dog")
    assert part.split_names() == ("all", "train", "train_aug")
    assert tags_of(part) == {"one": (1, 2), "two": (1,), "my third": (2,)}
    assert part.split("train").samples == part.split("train_aug").samples == part.split("all").samples
    assert part.split("all").samples[2].read().shape == (2, 3, 3)
    assert part.masks("all") is None and part.mask_files("all") == {}


@pytest.mark.parametrize(
    "text",
    [
        "one.jpg,dog cat\ntwo.PNG,cat\nmy third.jpeg,dog\n",
        "file;tags\none;dog;cat\ntwo;cat\nmy third;dog\n",
        "filename,first,second\none.jpg,dog,cat\ntwo.PNG,cat,\nmy third.jpeg,dog,\n",
        '\ufeffimage,tags\none.jpg,"dog, cat"\ntwo.PNG,"cat"\n\nmy third.jpeg,dog;dog\n',
        "image\ttags\r\nimages/one.jpg\tdog cat\r\nimages\\two.PNG\tcat\r\nmy third.jpeg\tdog\r\n",
    ],
)
def test_tables_as_people_write_them(root: Path, text: str) -> None:
    (root / "tags.csv").write_text(text, newline="", encoding="utf-8")
    assert tags_of(make(root)) == {"one": (1, 2), "two": (1,), "my third": (2,)}


def test_names_with_spaces_need_a_list_of_classes(root: Path) -> None:
    (root / "tags.csv").write_text("one,dining table;cat\ntwo,cat\nmy third,dining table\n")
    assert make(root).class_names() == ("cat", "dining", "table")
    (root / "classes.txt").write_text("dining table\ncat\n")
    assert tags_of(make(root)) == {"one": (1, 2), "two": (2,), "my third": (1,)}
    assert tags_of(make(root, classes="cat,dining table"))["two"] == (1,)


def test_images_may_lie_in_the_root_and_the_table_elsewhere(root: Path) -> None:
    part = make(root / "images", tags=str(root / "tags.csv"))
    assert len(part.split("all")) == 3
    assert len(make(root, images="images").split("all")) == 3


def test_masks_where_there_are_any(root: Path) -> None:
    (root / "masks").mkdir()
    write_label(root / "masks" / "one.png", np.array([[0, 1, 2], [255, 0, 0]], np.uint8))
    part = make(root)
    assert list(part.mask_files("all")) == ["one"]
    read = part.masks("all")
    assert read is not None and read("one").tolist() == [[0, 1, 2], [255, 0, 0]]
    told(lambda: read("two"), "a mask for image 'two'", "2 of its 3 images have none: two, my third")
    write_label(root / "masks" / "two.png", np.full((2, 3), 3, np.uint8))
    read = part.masks("all")
    assert read is not None
    told(lambda: read("two"), "mask values 0..2 and 255", "two.png with 3", "list of classes is complete")


def test_lists_make_splits(root: Path) -> None:
    (root / "splits").mkdir()
    (root / "splits" / "train.txt").write_text("my third.jpeg\none\n")
    (root / "splits" / "val.txt").write_text("two.PNG\n")
    part = make(root)
    assert part.split_names() == ("all", "train", "val", "train_aug")
    assert [s.id for s in part.split("train")] == [s.id for s in part.split("train_aug")] == ["my third", "one"]
    assert [s.id for s in part.split("val")] == ["two"]
    told(lambda: part.split("vall"), "a split of folder", "did you mean 'val'")


def test_there_is_no_validation_without_a_list(root: Path) -> None:
    told(lambda: make(root).split("val"), "a split of folder", "'val'", "known: all, train, train_aug")


def test_an_empty_tag_list_is_an_error_unless_kept(root: Path) -> None:
    (root / "tags.csv").write_text("one,cat\ntwo,\nmy third\n")
    told(
        lambda: make(root).split("all"),
        "an empty tag list for 2: two, my third",
        "add tags, delete these lines, or keep the images as background by --set folder.untagged=keep",
    )
    assert tags_of(make(root, untagged="keep")) == {"one": (1,), "two": (), "my third": ()}


def test_an_image_without_line_is_left_out_and_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "tags.csv").write_text("one,cat\n")
    with caplog.at_level(logging.WARNING, "matlabel_bench"):
        assert tags_of(make(root)) == {"one": (1,)}
    assert "2 of 3 images have no line in tags.csv and are left out" in caplog.text


def test_a_line_without_image_is_an_error(root: Path) -> None:
    (root / "tags.csv").write_text("one,cat\nfour.jpg,dog\n")
    told(lambda: make(root).split("all"), "an image file for each of the 2 ids", "1 without: four")


def test_an_unknown_class_names_its_near_misses(root: Path) -> None:
    (root / "tags.csv").write_text("one,cat\ntwo,dgo\n")
    told(lambda: make(root, classes="cat,dog").split("all"), "tags.csv, image 'two'", "'dgo'", "did you mean 'dog'")


def test_an_image_named_twice(root: Path) -> None:
    (root / "tags.csv").write_text("one.jpg,cat\none,dog\n")
    told(lambda: make(root).split("all"), "each image once in", "1 repeated: one")
    PIL.Image.new("RGB", (3, 2)).save(root / "images" / "two.bmp")
    (root / "tags.csv").write_text("one,cat\n")
    told(lambda: make(root).split("all"), "each image once in", "1 repeated: two")


def test_class_names_that_cannot_be(root: Path) -> None:
    (root / "classes.txt").write_text("cat\ndog\ncat\n")
    told(lambda: make(root).class_names(), "1 to 254 different class names", "'cat' twice", "correct classes.txt")
    (root / "classes.txt").unlink()
    (root / "tags.csv").write_text("one,\n")
    told(lambda: make(root).class_names(), "1 to 254 different class names", "0 of them")


def test_a_table_that_is_absent_empty_or_not_utf8(root: Path) -> None:
    told(lambda: make(root, tags="labels.csv").split("all"), "the table of tags", "labels.csv", "No such file")
    (root / "tags.csv").write_text("image,tags\n")
    told(lambda: make(root).split("all"), "at least one image in", "tags.csv")
    (root / "tags.csv").write_bytes("one,café\n".encode("utf-16"))
    told(lambda: make(root).split("all"), "tags.csv in UTF-8", "byte 0xff at position 0", "save the file as UTF-8")


def test_no_root_and_no_images(tmp_path: Path) -> None:
    told(lambda: Folder().split("all"), "images and a table of tags", "no data root", "--data-root", error=UsageError)
    told(lambda: make(tmp_path / "absent").split("all"), "no such folder")
    (tmp_path / "tags.csv").write_text("one,cat\n")
    told(lambda: make(tmp_path).split("all"), "images (.bmp, .jpeg", "not looked for in subfolders")
    told(lambda: make(tmp_path, images="pictures").split("all"), "a folder of images", "No such file")


def test_a_corrupt_image_is_told_when_it_is_read(root: Path) -> None:
    (root / "images" / "one.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    told(make(root).split("all").samples[0].read, "readable image", "one.jpg", "copy or download it again")

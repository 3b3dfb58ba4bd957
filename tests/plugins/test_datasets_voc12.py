"""PASCAL VOC 2012 in its official layout: what is read, what is renumbered, and what each mistake is told."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from matlabel_bench import registry, spec
from matlabel_bench.errors import DataError, UsageError
from matlabel_bench.images import write_label
from matlabel_datasets.voc12 import CLASSES, Voc12, Voc12Animals

MASK = np.array([[0, 8, 12], [15, 255, 2]], np.uint8)  # background, cat, dog, person, border, bicycle
TAGS = {"2007_000001": "cat dog person bicycle", "2007_000002": "dog", "2007_000003": "bicycle"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """VOC2012 with three images; masks for the first two."""
    home = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "ImageSets/Segmentation", "SegmentationClass"):
        (home / name).mkdir(parents=True)
    for number, image in enumerate(TAGS):
        PIL.Image.new("RGB", (3, 2), (60 * number, 0, 0)).save(home / "JPEGImages" / f"{image}.jpg")
    write_label(home / "SegmentationClass" / "2007_000001.png", MASK)
    write_label(home / "SegmentationClass" / "2007_000002.png", np.full((2, 3), 12, np.uint8))
    (home / "ImageSets/Segmentation/train.txt").write_text("2007_000002\n2007_000001\n")
    (home / "ImageSets/Segmentation/train_aug.txt").write_text("\n".join(TAGS))
    table(home, TAGS)
    return home


def table(home: Path, tags: dict[str, str]) -> None:
    lines = ["image,classes", *(f"{image},{names}" for image, names in tags.items())]
    (home / "image_labels.csv").write_text("\n".join(lines) + "\n")


def annotate(home: Path, image: str, *names: str) -> None:
    (home / "Annotations").mkdir(exist_ok=True)
    objects = "".join(f"<object><name>{n}</name><part><name>head</name></part></object>" for n in names)
    (home / "Annotations" / f"{image}.xml").write_text(f"<annotation>{objects}</annotation>")


def make(root: Path, name: str = "voc12", **fields: object) -> Voc12:
    part: Voc12 = registry.start()[0].make("dataset", name, root=str(root), **fields)
    return part


def told(ask: Callable[[], object], *words: str, error: type[Exception] = DataError) -> None:
    """The error's text holds all the words."""
    with pytest.raises(error) as err:
        ask()
    for word in words:
        assert word in str(err.value)


@pytest.mark.parametrize("up", [0, 1, 2])
def test_the_root_may_be_voc2012_or_a_folder_above(home: Path, up: int) -> None:
    part = make((home, home.parent, home.parent.parent)[up])
    assert isinstance(part, spec.Dataset)
    assert part.split_names() == ("train", "train_aug")
    split = part.split("train")
    assert split.classes == CLASSES and split.dataset == "voc12"
    assert [s.id for s in split] == ["2007_000002", "2007_000001"]
    assert [s.tags for s in split] == [(12,), (2, 8, 12, 15)]
    assert split.samples[0].read().shape == (2, 3, 3)


def test_all_classes_leave_masks_as_they_are(home: Path) -> None:
    read = make(home).masks("train")
    assert read is not None
    np.testing.assert_array_equal(read("2007_000001"), MASK)


@pytest.mark.parametrize(("others", "bicycle"), [("ignore", 255), ("background", 0)])
def test_a_choice_of_classes_renumbers_tags_and_masks(home: Path, others: str, bicycle: int) -> None:
    part = make(home, classes="person,cat", others=others)
    assert part.class_names() == ("person", "cat")
    assert {s.id: s.tags for s in part.split("train_aug")} == {
        "2007_000001": (1, 2),
        "2007_000002": (),
        "2007_000003": (),
    }
    read = part.masks("train")
    assert read is not None
    assert read("2007_000001").tolist() == [[0, 2, bicycle], [1, 255, bicycle]]
    assert copy.deepcopy(read)("2007_000001").tolist() == read("2007_000001").tolist()


def test_animals_are_six_classes(home: Path) -> None:
    part = make(home, "voc12-animals")
    assert isinstance(part, Voc12Animals)
    assert part.class_names() == ("cat", "cow", "dog", "horse", "person", "sheep")
    assert part.split("train").dataset == "voc12-animals"
    assert part.split("train").samples[1].tags == (1, 3, 5)


def test_tags_come_from_annotations_where_there_is_no_table(home: Path) -> None:
    annotate(home, "2007_000001", "dog", "dog", "person")
    annotate(home, "2007_000002", "cat")
    assert make(home).split("train").samples[0].tags == (12,), "the table comes first"
    assert [s.tags for s in make(home, labels="xml").split("train")] == [(8,), (12, 15)]
    (home / "image_labels.csv").unlink()
    assert [s.tags for s in make(home).split("train")] == [(8,), (12, 15)]


def test_masks_give_tags_only_on_request(home: Path) -> None:
    (home / "image_labels.csv").unlink()
    told(lambda: make(home).split("train"), "neither; masks for 2 of 2 images", "--set voc12.labels=masks")
    assert [s.tags for s in make(home, labels="masks").split("train")] == [(12,), (2, 8, 12, 15)]
    told(lambda: make(home, labels="masks").split("train_aug"), "tags for each of the 3 ids", "2007_000003")


def test_lists_as_irn_writes_them(home: Path) -> None:
    line = "/JPEGImages/{0}.jpg /SegmentationClassAug/{0}.png\n"
    (home / "ImageSets/Segmentation/irn.txt").write_text("".join(line.format(i) for i in TAGS))
    assert [s.id for s in make(home).split("irn")] == list(TAGS)


def test_augmented_masks_serve_where_the_official_ones_are_absent(home: Path) -> None:
    (home / "SegmentationClassAug").mkdir()
    for image in ("2007_000001", "2007_000003"):
        write_label(home / "SegmentationClassAug" / f"{image}.png", np.full((2, 3), 2, np.uint8))
    folders = {image: path.parent.name for image, path in make(home).mask_files("train_aug").items()}
    assert folders == {
        "2007_000001": "SegmentationClass",
        "2007_000002": "SegmentationClass",
        "2007_000003": "SegmentationClassAug",
    }


def test_an_image_without_mask_is_told_with_all_its_like(home: Path) -> None:
    part = make(home)
    assert list(part.mask_files("train_aug")) == ["2007_000001", "2007_000002"]
    read = part.masks("train_aug")
    assert read is not None and read("2007_000002").max() == 12
    told(lambda: read("2007_000003"), "a mask for image '2007_000003'", "1 of its 3 images have none: 2007_000003")


def test_a_split_without_any_mask_has_no_reader(home: Path) -> None:
    shutil.rmtree(home / "SegmentationClass")
    assert make(home).masks("train") is None and make(home).mask_files("train") == {}


def test_a_mask_of_another_data_set_is_refused(home: Path) -> None:
    write_label(home / "SegmentationClass" / "2007_000002.png", np.full((2, 3), 21, np.uint8))
    read = make(home).masks("train")
    assert read is not None
    told(lambda: read("2007_000002"), "mask values 0..20 and 255", "2007_000002.png with 21")


def test_no_root(home: Path) -> None:
    told(lambda: Voc12().split("train"), "no data root", "--data-root DIR", error=UsageError)


def test_a_wrong_root(home: Path, tmp_path: Path) -> None:
    told(lambda: make(tmp_path / "absent").split("train"), "no such folder", "--data-root DIR")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "holiday.txt").touch()
    told(lambda: make(tmp_path / "other").split("train"), "VOC2012 with JPEGImages", "other with holiday.txt")
    told(lambda: make(home / "JPEGImages").split("train"), f"give --data-root {home}")
    told(lambda: make(home / "image_labels.csv").split("train"), "got a file")


def test_no_lists(home: Path) -> None:
    shutil.rmtree(home / "ImageSets")
    told(lambda: make(home).split("train"), "lists of ids in", "no such folder", "unpack the whole of VOC 2012")


def test_an_unknown_split(home: Path) -> None:
    told(lambda: make(home).split("trian"), "a split of voc12", "'trian'", "did you mean 'train'")
    told(lambda: make(home).masks("test"), "a split of voc12", "known: train, train_aug")


def test_ids_without_images(home: Path) -> None:
    for image in ("2007_000001", "2007_000003"):
        (home / "JPEGImages" / f"{image}.jpg").unlink()
    told(
        lambda: make(home).split("train_aug"),
        "an image file for each of the 3 ids of voc12, split 'train_aug'",
        "2 without: 2007_000001, 2007_000003",
        "take these ids out of the list",
    )


def test_ids_without_tags(home: Path) -> None:
    table(home, {"2007_000001": "cat"})
    told(lambda: make(home).split("train"), "tags for each of the 2 ids", "1 without: 2007_000002")


def test_an_empty_tag_list(home: Path) -> None:
    table(home, {**TAGS, "2007_000002": ""})
    told(lambda: make(home).split("train"), "an empty tag list for 1: 2007_000002", "add their tags")


def test_an_unknown_class(home: Path) -> None:
    table(home, {**TAGS, "2007_000002": "dgo"})
    told(lambda: make(home).split("train"), "image_labels.csv, image '2007_000002'", "'dgo'", "did you mean 'dog'")
    annotate(home, "2007_000001", "horsy")
    told(lambda: make(home, labels="xml").split("train"), "2007_000001.xml", "did you mean 'horse'")


def test_a_choice_of_unknown_or_repeated_classes() -> None:
    told(lambda: Voc12(classes=("cat", "dgo")), "classes of PASCAL VOC", "did you mean 'dog'", error=UsageError)
    told(lambda: Voc12(classes=("cat", "cat")), "'cat' twice", error=UsageError)


def test_repeated_and_missing_lines(home: Path) -> None:
    lists = home / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("2007_000001\n2007_000002\n2007_000001\n")
    told(lambda: make(home).split("train"), "each image once in", "1 repeated: 2007_000001")
    (lists / "train.txt").write_text("\n")
    told(lambda: make(home).split("train"), "at least one image in", "train.txt")


def test_a_table_that_is_not_utf8(home: Path) -> None:
    (home / "image_labels.csv").write_bytes("image,classes\n2007_000001,café\n".encode("latin-1"))
    told(lambda: make(home).split("train"), "in UTF-8", "byte 0xe9", "save the file as UTF-8")


def test_broken_xml(home: Path) -> None:
    annotate(home, "2007_000001", "cat")
    (home / "Annotations" / "2007_000002.xml").write_text("<annotation><object>")
    told(lambda: make(home, labels="xml").split("train"), "an XML annotation", "2007_000002.xml", "broken XML")


def test_the_real_subset_works_as_it_is(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = real_data / "voc12-animals"
    if not root.is_dir():
        pytest.skip(f"no voc12-animals in {real_data}")
    part = make(root, "voc12-animals")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an image was opened")

    with monkeypatch.context() as patch:
        patch.setattr(PIL.Image, "open", refuse)
        sizes = {name: (len(part.split(name)), len(part.mask_files(name))) for name in ("train", "train_aug", "val")}
    assert sizes == {"train": (443, 443), "train_aug": (1543, 443), "val": (223, 223)}
    counts = [sum(tag in s.tags for s in part.split("train")) for tag in range(1, 7)]
    assert counts == [131, 62, 121, 68, 82, 63]
    read, sample = part.masks("train"), part.split("train").samples[0]
    assert read is not None and sample.id == "2007_000032"
    assert read(sample.id).shape == sample.read().shape[:2]
    assert set(np.unique(read(sample.id))) <= {0, *sample.tags, 255}

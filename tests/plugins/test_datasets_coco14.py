"""COCO's annotations become tags and masks as pycocotools and ReCAM have them, and what does not fit is named."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from matlabel_bench import kit, registry
from matlabel_bench.errors import DataError, UsageError
from matlabel_bench.fingerprint import Fingerprints
from matlabel_datasets import coco_index, coco_masks, coco_stream
from matlabel_datasets.coco14 import CATEGORIES, CLASSES, Coco14

SQUARE = [[2.0, 3.0, 8.0, 3.0, 8.0, 9.0, 2.0, 9.0]]
LATER = [[5.0, 5.0, 12.0, 5.0, 12.0, 12.0, 5.0, 12.0]]
CROWD = {"size": [20, 24], "counts": [0, 40, 440]}
"""The first two columns of 20 pixels."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATLABEL_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))


def annotation(number: int, image: int, category: int, segmentation: Any, crowd: int = 0) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": crowd,
        "area": 1.0,
        "bbox": [0, 0, 1, 1],
    }


def document() -> dict[str, Any]:
    """Image 7: a dog under a later cat, and a crowd of sheep; image 3: a crowd of persons alone; image 5: nothing."""
    found = {
        "info": {"year": 2014},
        "images": [
            {"id": n, "file_name": f"COCO_train2014_{n:012d}.jpg", "height": 20, "width": 24} for n in (7, 3, 5)
        ],
        "licenses": [],
        "annotations": [
            annotation(11, 7, 18, SQUARE),
            annotation(12, 3, 1, CROWD, 1),
            annotation(10, 7, 17, LATER),
            annotation(13, 7, 20, CROWD, 1),
        ],
        "categories": [{"id": i, "name": name, "supercategory": "thing"} for i, name in CATEGORIES.items()],
    }
    return copy.deepcopy(found)


def write(root: Path, found: Any, name: str = "train", text: str | None = None) -> Coco14:
    """The data set with these annotations, and an image for each that they list."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / f"{name}2014").mkdir(exist_ok=True)
    text = json.dumps(found) if text is None else text
    (root / "annotations" / f"instances_{name}2014.json").write_text(text, encoding="utf-8")
    for image in found["images"]:
        PIL.Image.new("RGB", (24, 20)).save(root / f"{name}2014" / image["file_name"])
    return Coco14(root=str(root))


def test_the_part_is_registered_and_has_the_80_classes() -> None:
    part = registry.start()[0].make("dataset", "coco14", root="/data/coco")
    assert isinstance(part, Coco14) and part.class_names() == CLASSES and len(set(CLASSES)) == 80
    assert CATEGORIES[1] == "person" and CATEGORIES[90] == "toothbrush"  # the ends of the map from 91 to 80
    assert list(CATEGORIES).index(13) == 11 and CATEGORIES[13] == "stop sign"
    assert list(CATEGORIES).index(67) == 60 and CATEGORIES[67] == "dining table"


def test_splits_in_the_order_of_image_numbers_with_tags_of_what_is_no_crowd(tmp_path: Path) -> None:
    part = write(tmp_path, document())
    assert part.split_names() == ("train", "train_aug")
    split = part.split("train")
    assert [(s.id[-2:], s.tags) for s in split] == [("03", ()), ("05", ()), ("07", (16, 17))]
    assert split.samples[0].path == tmp_path / "train2014" / "COCO_train2014_000000000003.jpg"
    assert part.split("train_aug").samples == split.samples


def test_masks_lay_later_annotations_over_earlier_ones_and_leave_crowds_out(tmp_path: Path) -> None:
    read = write(tmp_path, document()).masks("train")
    assert read is not None
    wanted = np.zeros((20, 24), np.uint8)
    wanted[3:9, 2:8] = 17  # the dog
    wanted[5:12, 5:12] = 16  # the cat, later in the file although its id is lower
    assert np.array_equal(read("COCO_train2014_000000000007"), wanted)
    assert not read("COCO_train2014_000000000003").any() and not read("COCO_train2014_000000000005").any()


def test_crowds_are_ignored_where_no_object_covers_them_on_request(tmp_path: Path) -> None:
    found = document()
    found["annotations"][0]["segmentation"] = [[0.0, 3.0, 8.0, 3.0, 8.0, 9.0, 0.0, 9.0]]
    write(tmp_path, found)
    read = Coco14(root=str(tmp_path), crowd="ignore").masks("train")
    assert read is not None
    label = read("COCO_train2014_000000000007")
    assert (label[3:9, :5] == 17).all()
    assert (np.delete(label, np.s_[3:9], axis=0)[:, :2] == 255).all() and (label == 255).sum() == 40 - 12


def test_images_without_an_object_can_be_dropped(tmp_path: Path) -> None:
    write(tmp_path, document())
    part = Coco14(root=str(tmp_path), label_free="drop")
    assert [s.id[-1] for s in part.split("train")] == ["7"]
    assert list(part.mask_files("train")) == ["COCO_train2014_000000000007"]


@pytest.mark.parametrize("kind", ["polygons", "runs", "text", "bytes of a crowd"])
def test_every_kind_of_segmentation_equals_pycocotools_called_by_hand(tmp_path: Path, kind: str) -> None:
    from pycocotools import mask

    rng = np.random.default_rng(3)
    if kind == "polygons":
        segmentation: Any = rng.uniform(0, 20, (2, 14)).round(2).tolist()
        codes = [mask.frPyObjects([s], 20, 24)[0] for s in segmentation]
        wanted = mask.decode(codes[0]) | mask.decode(codes[1])
    else:
        wanted = np.asfortranarray(rng.random((20, 24)) < 0.4, np.uint8)
        wanted[:, 4:12] = 0  # a run of 160 pixels: two characters
        if kind == "text":
            segmentation = {"size": [20, 24], "counts": mask.encode(wanted)["counts"].decode()}
        else:
            flat = np.concatenate([[0], wanted.ravel(order="F"), [1 - wanted[-1, -1]]])
            ends = np.flatnonzero(np.diff(flat)).tolist()
            segmentation = {"size": [20, 24], "counts": np.diff([0, *ends]).tolist()}
    found = document()
    found["annotations"] = [annotation(1, 7, 1, segmentation, crowd=kind == "bytes of a crowd")]
    write(tmp_path, found)
    read = Coco14(root=str(tmp_path), crowd="ignore").masks("train")
    assert read is not None
    value = 255 if kind == "bytes of a crowd" else 1
    assert np.array_equal(read("COCO_train2014_000000000007"), wanted * value)


def test_the_reader_travels_to_workers(tmp_path: Path) -> None:
    read = write(tmp_path, document()).masks("train")
    assert read is not None
    again = pickle.loads(pickle.dumps(read))  # noqa: S301 - our own bytes
    assert np.array_equal(again("COCO_train2014_000000000007"), read("COCO_train2014_000000000007"))
    with pytest.raises(DataError, match=r"an image of split 'train'\n.*'COCO_val2014_1'"):
        read("COCO_val2014_1")


def test_a_corrected_annotation_changes_the_digest_of_masks_and_of_nothing_else(tmp_path: Path) -> None:
    def digests(folder: str, found: dict[str, Any], touched: int) -> tuple[str, str, str]:
        part = write(tmp_path / folder, found)
        prints, files = Fingerprints(tmp_path / "store"), part.mask_files("train")
        of_image = prints.files({"one": files[f"COCO_train2014_{touched:012d}"]})
        return prints.split(part.split("train")), prints.files(files), of_image

    corrected = document()
    corrected["annotations"][0]["segmentation"][0][0] = 1.0
    before, after = digests("a", document(), 3), digests("b", corrected, 3)
    assert before[0] == after[0] and before[2] == after[2] and before[1] != after[1]
    assert digests("c", document(), 3) == before
    assert digests("a", corrected, 7)[1] == after[1]  # the same file, overwritten


def test_annotations_are_taken_apart_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = write(tmp_path, document())
    first = part.split("train")
    monkeypatch.setattr(coco_stream._Text, "members", lambda self: pytest.fail("read again"))
    assert Coco14(root=str(tmp_path), crowd="ignore").split("train") == first


def test_a_cache_that_cannot_be_written_or_was_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = write(tmp_path / "coco", document())
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MATLABEL_BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"to write the index of instances_train2014\.json") as err:
        part.split("train")
    assert err.value.remedy == "free space, or choose another folder with MATLABEL_BENCH_CACHE"
    monkeypatch.setenv("MATLABEL_BENCH_CACHE", str(tmp_path / "cache"))
    read, files = part.masks("train"), part.mask_files("train")
    assert read is not None
    files["COCO_train2014_000000000003"].write_text("{")
    files["COCO_train2014_000000000005"].unlink()
    for name in ("COCO_train2014_000000000003", "COCO_train2014_000000000005"):
        with pytest.raises(DataError, match=f"annotations of image {name}") as err:
            read(name)
        assert "it is made again" in err.value.remedy
    (files["COCO_train2014_000000000003"].parent.parent / "index.json").write_text("[]")
    coco_index._load.cache_clear()
    with pytest.raises(DataError, match=r"an index of COCO in (.|\n)*delete this folder"):
        part.split("train")


def broken(change: Any) -> dict[str, Any]:
    found = document()
    change(found)
    return found


def polygon(*values: Any) -> Any:
    return lambda d: d["annotations"][0].update(segmentation=[list(values)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (polygon(1.0, 1.0, 5.0, 5.0), "annotation 11 of COCO_train2014_000000000007: a polygon of 4 coordinates"),
        (polygon(1.0, 1.0, 5.0, 5.0, 4.0, 4.0, 2.0), "a polygon of 7 coordinates"),
        (polygon(1.0, 1.0, 5.0, 5.0, None, 4.0), "something else than finite numbers"),
        (polygon(1.0, 1.0, 5.0, 5.0, float("nan"), 4.0), "something else than finite numbers"),
        (polygon(1.0, 1.0, 5.0, 1e9, 4.0, 4.0), r"far outside the image \(1 to 1e\+09 of 20 pixels\)"),
        (lambda d: d["annotations"][0].update(segmentation=[]), "no segmentation"),
        (lambda d: d["annotations"][0].pop("segmentation"), "no segmentation"),
        (
            lambda d: d["annotations"][1].update(segmentation={"size": [24, 20], "counts": [480]}),
            r"a run-length code of size \[24, 20\] for an image of 20 x 24",
        ),
        (
            lambda d: d["annotations"][1].update(segmentation={"size": [20, 24], "counts": [3, 99]}),
            "run lengths of 102 pixels in all for an image of 480",
        ),
        (
            lambda d: d["annotations"][1].update(segmentation={"size": [20, 24], "counts": [-3, 483]}),
            "a run-length code of something else than whole numbers",
        ),
        (
            lambda d: d["annotations"][1].update(segmentation={"size": [20, 24], "counts": "zz"}),
            "a run-length code of something else than whole numbers",
        ),
        (
            lambda d: d["annotations"][1].update(segmentation={"size": [20, 24]}),
            "a run-length code of something else than whole numbers",
        ),
    ],
)
def test_what_cannot_be_painted_is_named_before_anything_runs(tmp_path: Path, change: Any, words: str) -> None:
    part = write(tmp_path, broken(change))
    with pytest.raises(DataError, match=words) as err:
        part.split("train")
    assert "1 that cannot" in err.value.got and "--set coco14.broken=skip" in err.value.remedy


def test_what_cannot_be_painted_is_left_out_on_request_with_its_tag(tmp_path: Path) -> None:
    write(tmp_path, broken(polygon(1.0, 1.0)))
    part = Coco14(root=str(tmp_path), broken="skip")
    assert part.split("train").samples[2].tags == (16,)
    read = part.masks("train")
    assert read is not None and set(np.unique(read("COCO_train2014_000000000007"))) == {0, 16}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["categories"].pop(), r"80 categories of COCO in .*\n.*no 'toothbrush' \(id 90\)"),
        (lambda d: d["categories"][1].update(name="bike"), r"'bike' instead of 'bicycle' \(id 2\)"),
        (lambda d: d["categories"].append({"id": 91, "name": "bycicle"}), r"id 91; did you mean 'bicycle'"),
        (lambda d: d["annotations"][1].update(image_id=99), "of the 3 images that .*\n.*1 of 1 others: 99"),
        (lambda d: d["annotations"][1].update(category_id=12), "category_id 12 in annotation 12"),
        (lambda d: d["annotations"][1].pop("category_id"), r"annotation 12 with category_id None\n.*not captions_"),
        (lambda d: d["annotations"].append(3), "an annotation with image_id None"),
        (lambda d: d["images"][0].update(height="20"), "image 7 with height '20'"),
        (lambda d: d["images"].append(d["images"][0]), "image 7 twice"),
        (lambda d: d["images"].append(d["images"][0] | {"id": 8}), "4 images, 3 different names"),
        (lambda d: d.update(images=[], annotations=[]), "0 images, 0 different names"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(tmp_path: Path, change: Any, words: str) -> None:
    part = write(tmp_path, broken(change))
    with pytest.raises(DataError, match=words):
        part.split("train")
    assert not [p for p in (tmp_path / "annotations").iterdir() if p.suffix != ".json"]


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        (lambda t: t[: len(t) // 2], "broken JSON"),
        (lambda t: t + "}", "more text after its end"),
        (lambda t: "[1]", "instead of {"),
    ],
)
def test_broken_json_is_named(tmp_path: Path, cut: Any, words: str) -> None:
    part = write(tmp_path, document(), text=cut(json.dumps(document())))
    with pytest.raises(DataError, match=words) as err:
        part.split("train")
    assert "instances_train2014.json" in err.value.expected and "download" in err.value.remedy


def test_missing_images_are_counted_and_named(tmp_path: Path) -> None:
    part = write(tmp_path, document())
    (tmp_path / "train2014" / "COCO_train2014_000000000005.jpg").unlink()
    with pytest.raises(
        DataError, match=r"image file for each of the 3 ids.*\n.*1 without: COCO_train2014_000000000005"
    ):
        part.split("train")


def test_roots_and_splits_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data root"):
        Coco14().split("train")
    with pytest.raises(DataError, match=r"with nothing in it\n.*--data-root DIR"):
        Coco14(root=str(tmp_path)).split("train")
    write(tmp_path / "coco", document())
    part = Coco14(root=str(tmp_path))
    assert len(part.split("train")) == 3
    with pytest.raises(DataError, match=r"instances_val2014.json\n.*No such file"):
        part.split("val")
    with pytest.raises(DataError, match="did you mean 'train'"):
        part.split("trian")
    with pytest.raises(DataError, match=f"give --data-root {tmp_path / 'coco'}"):
        Coco14(root=str(tmp_path / "coco" / "train2014")).split("train")


def test_images_may_lie_below_a_folder_images(tmp_path: Path) -> None:
    part = write(tmp_path, document())
    (tmp_path / "images").mkdir()
    (tmp_path / "train2014").rename(tmp_path / "images" / "train2014")
    assert part.split("train").samples[0].path.is_file()


def test_without_pycocotools_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = write(tmp_path, document())
    monkeypatch.setattr(coco_masks, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pycocotools to be installed\n(.|\n)*pip install"):
        part.masks("train")


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_the_stream_reads_what_json_reads_wherever_chunks_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    found = {"a": [1234, -5.25e3, "x\\u00e9\\n", None, [], {"b": [True]}], "c": {"d": 12}, "e": [], "f": 678}
    path = tmp_path / "x.json"
    path.write_text("\n " + json.dumps(found, indent=1) + " \n", encoding="utf-8")
    monkeypatch.setattr(coco_stream, "CHUNK", chunk)
    wanted = [("a", v) for v in found["a"]] + [("c", found["c"]), ("f", 678)]  # type: ignore[union-attr]
    assert list(coco_stream.elements(path)) == wanted
    path.write_text("{ }")
    assert not list(coco_stream.elements(path))


@pytest.mark.parametrize("name", ["train", "val"])
def test_real_annotations_equal_pycocotools_painting_of_them(real_data: Path, name: str) -> None:
    root = real_data / "coco14-mini"
    if not root.is_dir():
        pytest.skip(f"no COCO images: {root} is absent")
    from pycocotools import mask

    part = Coco14(root=str(root))
    split, read = part.split(name), part.masks(name)
    assert len(split) == 70 and read is not None
    found = json.loads((root / "annotations" / f"instances_{name}2014.json").read_text())
    images, numbers = {i["file_name"][:-4]: i for i in found["images"]}, list(CATEGORIES)
    for sample in split:
        image = images[sample.id]
        rows = [a for a in found["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        wanted = np.zeros((image["height"], image["width"]), np.uint8)
        for row in rows:
            code = mask.merge(mask.frPyObjects(row["segmentation"], *wanted.shape))
            wanted[mask.decode(code) == 1] = numbers.index(row["category_id"]) + 1
        label = read(sample.id)
        assert np.array_equal(label, wanted) and set(np.unique(label)) <= {0, *sample.tags}
        assert sample.tags == tuple(sorted({numbers.index(r["category_id"]) + 1 for r in rows}))
    with PIL.Image.open(split.samples[0].path) as picture:
        assert read(split.samples[0].id).shape == picture.size[::-1]


def test_every_promise_is_kept_on_real_images(real_data: Path) -> None:
    if not (root := real_data / "coco14-mini").is_dir():
        pytest.skip(f"no COCO images: {root} is absent")
    entry = registry.start()[0].get("dataset", "coco14")
    assert {f.name: f.message for f in kit.check(entry, {"root": str(root)}) if not f.ok} == {}

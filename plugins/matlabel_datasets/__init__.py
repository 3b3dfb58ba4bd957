"""Built-in data sets: embedded scenes, PASCAL VOC 2012, MS COCO 2014, and a folder of one's own images."""

from __future__ import annotations

from matlabel_bench.registry import Registry
from matlabel_bench.spec import hookimpl
from matlabel_datasets.coco14 import Coco14
from matlabel_datasets.folder import Folder
from matlabel_datasets.shapes import Shapes
from matlabel_datasets.voc12 import Voc12, Voc12Animals


@hookimpl
def matlabel_register(registry: Registry) -> None:
    """Register the data sets of this package."""
    registry.add("dataset", "shapes", Shapes)
    registry.add("dataset", "coco14", Coco14)
    registry.add("dataset", "voc12", Voc12)
    registry.add("dataset", "voc12-animals", Voc12Animals)
    registry.add("dataset", "folder", Folder)

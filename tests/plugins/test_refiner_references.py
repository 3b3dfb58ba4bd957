"""What `bench perf` measures refiners beside: a CRF over all labels, a walk by a dense matrix."""

from __future__ import annotations

import numpy as np
from test_knn_native import picture

from matlabel_bench.contracts import check_scores
from matlabel_refiners import irn_walk
from matlabel_refiners.crf import Crf
from matlabel_refiners.irn import Irn
from matlabel_refiners.irn_measured import Walk


def test_a_crf_over_all_labels_tells_scores_of_the_tags() -> None:
    image, tags = picture(30, 40), np.array([3, 7], np.uint8)
    scores = np.random.default_rng(0).random((3, 30, 40)).astype(np.float32)
    scores /= scores.sum(axis=0)
    found = Crf().reference().open(None)(image, tags, scores)
    check_scores(found, 3, (30, 40), "every label")
    ours = Crf().open(None)(image, tags, scores)
    assert (found.argmax(axis=0) == ours.argmax(axis=0)).mean() > 0.99


def test_the_dense_walk_is_the_sparse_one(monkeypatch) -> None:
    walk = Irn().piece()
    assert walk == Walk(5, 10.0, 8, 0.25)
    image, tags = picture(44, 60), np.array([1, 2], np.uint8)
    maps = np.random.default_rng(0).random((2, 44, 60)).astype(np.float32)
    walked = []
    label = irn_walk.label
    monkeypatch.setattr(irn_walk, "label", lambda planes, *rest: walked.append(planes) or label(planes, *rest))
    for part in (walk, walk.reference()):
        assert set(np.unique(part.open(None)(image, tags, maps))) <= {0, 1, 2}
    sparse, dense = walked
    assert np.abs(sparse - dense).max() < 1e-4 * dense.max()

"""A handful of tagged pictures on disk, of odd sizes, for parts that train."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from matlabel_bench.types import Sample, Split

COLOURS = ((200, 40, 40), (40, 180, 60))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Twelve noisy pictures; class 1 is a red square, class 2 a green one; one picture has both, one neither."""
    folder = tmp_path_factory.mktemp("scenes")
    samples = []
    for index in range(12):
        rng = np.random.default_rng(index)
        height, width = (int(side) for side in rng.integers(37, 75, 2))
        image = rng.integers(90, 140, (height, width, 3)).astype(np.uint8)
        tags = {10: (1, 2), 11: ()}.get(index, (index % 2 + 1,))
        for tag in tags:
            y, x = (int(rng.integers(0, side - 20)) for side in (height, width))
            image[y : y + 18, x : x + 18] = COLOURS[tag - 1]
        path = folder / f"{index}.png"
        PIL.Image.fromarray(image).save(path)
        samples.append(Sample(str(index), path, tags))
    return Split("scenes", "train", ("red", "green"), tuple(samples))

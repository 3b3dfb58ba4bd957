"""Equivariant D2CAM: D2CAM's generator, taught by a classifier that stands still and by images of other sizes.

Not of the paper. Four readings of what it leaves open, and one loss it does not have, which together made better maps
than D2CAM's and as good as ReCAM's (docs/d2cam.md):

- the classifier learns first and then stands still as the judge of masked features (D2CAM's `judge`);
- the generator reads the last features and starts as the classifying layer, so that its first maps are the CAM;
- the hinge of equation 5 never closes, and area is not free below a margin: what a cell adds to the class's evidence
  is weighed against what it costs, for large objects as for small ones;
- L_d2, area and overlap reach the features, and grow to their weight over the first batches, because without
  that one of three seeds lost a class's channel at the start;
- maps of the image made smaller must be the maps made smaller. That loss is SEAM's equivariance (Wang et al., CVPR
  2020, equation 3; reference YudeWang/SEAM at 3212261, MIT, read for behaviour), here between sigmoid maps of one
  branch at a scale of a half or three quarters, without SEAM's attention and without its second branch's own labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from matlabel_bench.fields import knob
from matlabel_cams.d2cam import D2Cam


@dataclass(frozen=True)
class EqD2Cam(D2Cam):
    """D2CAM with a frozen judge and equivariance under scaling; every field is D2CAM's."""

    published_in: ClassVar[str] = "this project, docs/d2cam.md, after D2CAM (ICCV 2023) and SEAM (CVPR 2020)"

    warmup: int = knob(4, "epochs of a CAM classifier that learns first; trained once for all that begin alike", low=1)
    ramp: int = knob(32, "batches over which the losses of the maps grow to their weight", low=0)
    judge: str = knob("frozen", "who classifies masked features; see d2cam", choices=("live", "frozen"))
    sees: str = knob("last", "stage whose output the generator reads; see d2cam")
    start: str = knob("head", "first weights of the generator; see d2cam", choices=("xavier", "head"))
    beta: float = knob(1.0, "weight of the background's cross-entropy (eq. 5)", low=0)
    hinge: float = knob(10.0, "margin of the hinge (eq. 5); 10 is never reached", low=0)
    area: str = knob("plain", "area loss; see d2cam", choices=("margin", "plain", "own"))
    equal: float = knob(2.0, "weight of equivariance under scaling", low=0)
    gradient: str = knob(
        "bas", "where the losses stop on their way to the features; see d2cam", choices=("literal", "bas", "phi_only")
    )

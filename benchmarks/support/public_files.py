"""Public model files that others timed on a cv181x, known by their git blobs. None of them is part of this project.

Times and ION are those of sophgo/tdl_models README.md @2fc4768 ("inference ms", "ION"), which gives no board and no
method. yolov8n and yolov10n are the PMU's figures of the TDL SDK's guide. cls_hand_gesture and feartrack are from
README.md @5f58c8a; the latter says that its time is the TPU's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class PublicFile:
    """One row of the table: what a call of forward took, or the TPU alone."""

    name: str
    blob: str
    """First digits of the file's git blob."""
    ms: float
    ion_mib: str
    """As printed."""
    dram_mib: float | None = None
    """Moved by one inference, where the YOLO guide has it."""
    tpu_alone: bool = False
    same: Literal["ION", "size", "name"] = "ION"
    """What says that the file is the timed one: its ION to two digits after the point, or at least its size; a name
    alone says little, since files were compiled anew under their names."""


PUBLIC_FILES = (
    PublicFile("c10_lightv2_mse40_mix", "c1b8a0d72559", 3.12, "0.62"),
    PublicFile("cviface-v6-s", "16b9e349f9c7", 7.96, "2.97"),
    PublicFile("hand_det_qat_640x384", "a659893a47ff", 16.6, "2.82", same="size"),
    PublicFile("hand_kpt_128x128", "2ca1afe65df2", 0.829, "0.84"),
    PublicFile("hand_kpt_cls9", "6033bd7d683e", 0.255, "0.05"),
    PublicFile("hardhat_720_1280", "ad7259327534", 38.4, "7.48", same="size"),
    PublicFile("mask_classifier", "dd946335f1ed", 4.88, "3.11"),
    PublicFile("mobiledetv2-pedestrian-d0-ls-448", "c5eb5b97ef42", 10.3, "2.12"),
    PublicFile("scrfd_500m_bnkps_432_768", "24c29065f7bd", 10.9, "4.50"),
    PublicFile("topformer_tiny", "529bf77f1ab6", 27.6, "5.2", same="name"),
    PublicFile("yolov8n_384_640_person_vehicle", "53f2d4d4643f", 28.5, "5.58", same="name"),
    PublicFile("yolov8n_coco80_cv181x", "8d5d0dc8d33a", 45.62, "7.54", 31.56, tpu_alone=True),
    PublicFile("yolov10n_det_coco80_640_640", "b52d30d77f7c", 45.3, "7.08", 42.86, tpu_alone=True),
    PublicFile("cls_hand_gesture_128_128", "c4c006e62c88", 1.09, "1.16"),
    PublicFile("tracking_feartrack_128_128_256_256", "0d3558a08c88", 8.59, "2.93", tpu_alone=True),
)
RETINAFACE_608 = "7e1f72b94384"
"""retinaface_mnet0.25 at 608x608, by a compiler of the old kind (tpu_rel_v1.5.0-902)."""


def by_blob(folder: Path) -> dict[str, Path]:
    """The .cvimodel files anywhere in `folder` by the first 12 digits of their git blobs."""
    return {_blob(path): path for path in sorted(folder.rglob("*.cvimodel"))}


def _blob(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()[:12]


def found(folder: Path) -> Iterator[tuple[PublicFile, Path]]:
    """Each row whose file is in `folder`."""
    paths = by_blob(folder)
    yield from ((row, paths[row.blob]) for row in PUBLIC_FILES if row.blob in paths)

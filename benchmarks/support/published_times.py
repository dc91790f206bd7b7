"""Times that others measured on boards, with their sources. None was measured by this project."""

from __future__ import annotations

from dataclasses import dataclass

EVB = "sophgo/cviruntime scripts/evb/best_performance_{chip}.csv @ef80449"
TDL = "sophgo/tdl_sdk docs/source/8_Yolo_Development_Guide.rst @a93e3c6"
CHIPS = ("cv180x", "cv181x", "cv182x", "cv183x")


@dataclass(frozen=True)
class Published:
    """One measurement: milliseconds from the first start to the last end on the TPU, and MiB of DRAM traffic where
    given; the runtime prints those as MB (sophgo/cviruntime src/soc/*/tpu_pmu.cpp)."""

    network: str
    board: str
    ms: float
    source: str
    dram_mib: float | None = None


_EVB_MS: dict[str, tuple[float | None, ...]] = {
    "resnet18": (136.03, 18.26, 12.73, 4.21),
    "resnet50": (None, None, 31.03, 10.19),
    "mobilenet_v1": (37.60, 7.18, 5.30, 1.80),
    "mobilenet_v2": (31.68, 7.07, None, None),
    "squeezenet1_1": (27.45, None, 3.59, 1.31),
    "shufflenet_v2_x0.5": (4.94, 1.53, None, None),
    "googlenet": (119.58, 19.63, 13.94, 5.04),
    "densenet_121": (198.20, 36.66, None, None),
    "efficientnet_lite0": (29.19, 6.91, 5.62, 1.69),
    "yolo_v3_tiny": (None, 26.81, 19.01, 6.15),
    "arcface_res50": (None, 63.10, 45.42, 15.91),
}
_TDL_MS_MIB: dict[str, tuple[tuple[float, float] | None, ...]] = {
    "yolov8n_tdl": ((299, 78.78), (45.62, 31.56), (32.8, 32.8), (12.61, 28.64)),
    "yolov8s_tdl": (None, (135.55, 89.53), (95.95, 89.53), (32.88, 58.44)),
    "yolov5s_tdl": (None, (87.76, 85.74), (65.33, 87.99), (22.86, 58.38)),
}
PUBLISHED: tuple[Published, ...] = (
    *(
        Published(network, f"{chip}-evb", ms, EVB.format(chip=chip))
        for network, row in _EVB_MS.items()
        for chip, ms in zip(CHIPS, row, strict=True)
        if ms is not None
    ),
    *(
        Published(network, f"{chip}-evb", cell[0], TDL, cell[1])
        for network, row in _TDL_MS_MIB.items()
        for chip, cell in zip(CHIPS, row, strict=True)
        if cell is not None
    ),
    Published("efficientnet_lite0", "recamera", 24.276, "a reCamera log, bf16, median of its runs"),
)

MAIXCAM_FRAMES_PER_S = {"mobilenet_v2": 130.0, "resnet18": 62.0, "resnet50": 28.0}
"""Whole frames a second, camera and post-processing included, on an SG2002 at 700 MHz (sipeed/MaixPy README.md
@0008607)."""


def published(network: str, board: str) -> Published | None:
    """The measurement of `network` on `board`, if there is one."""
    return next((row for row in PUBLISHED if (row.network, row.board) == (network, board)), None)

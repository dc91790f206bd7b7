"""What benchmarks need from outside the repository."""

from __future__ import annotations

from benchmarks.claim import ModelNeed, ModuleNeed, PathNeed

CVI_LIB = PathNeed(
    "CVI_LIB", "the folder with the vendor's libcvicmodel.so, libcvikernel.so and libcviruntime.so (of tpu-mlir 1.30.2)"
)
NETWORKS = PathNeed(
    "NPUSIM_NETWORKS",
    "a folder of compiled networks, each NETWORK_CHIP_FORMAT.cvimodel with its inputs in NETWORK.in.npz",
)
TIMING_FILES = PathNeed(
    "NPUSIM_TIMING_FILES",
    "a folder with NETWORK_CHIP_int8.cvimodel.xz of the networks at 224x224 that docs/timing.md names",
)
PUBLIC_MODELS = PathNeed(
    "NPUSIM_PUBLIC_MODELS",
    "a folder with the .cvimodel files of every commit of sophgo/tdl_models (benchmarks/support/public_files.py)",
)
PMU_TRACE = PathNeed(
    "NPUSIM_PMU_TRACE",
    "resnet50_des.csv of sophgo/tpu_compiler @6299ea0 (python/cvi_toolkit/performance/performance_viewer/example)",
)
INFINITEBENCH = PathNeed("NPUSIM_INFINITEBENCH", "a clone of the repository OpenBMB/InfiniteBench")
SMOLLM2 = ModelNeed("smollm2")
WITH_TORCH = tuple(ModuleNeed(name, name) for name in ("torch", "transformers", "accelerate"))
"""transformers reads a GGUF file with accelerate."""
NUMBA = ModuleNeed("numba", "numba")
LLAMA_CPP = ModuleNeed("llama_cpp", "llama-cpp-python")

"""Commands carry the names of the file's tensors, found by where their results end."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from npusim.insn import TDMA_OPERANDS, TIU_OPERANDS
from npusim.isa.opcodes import TransDir
from npusim.isa.regs import tdma_columns
from npusim.profile import Profile, profile_program
from npusim.profile.names import NOBODY
from npusim.profile.page import profile_page
from npusim.profile.report import report_data
from npusim.profile.trace import trace_text

DATA = Path(__file__).parents[2] / "golden" / "data"


@pytest.fixture(scope="module", params=["conv_cv181x_int8", "conv_cv180x_bf16", "mix_cv183x_int8", "step_cv182x_int8"])
def profile(request: pytest.FixtureRequest) -> Profile:
    return profile_program(DATA / "functional" / f"{request.param}.cvimodel")


def test_every_command_works_for_a_tensor_that_the_program_writes(profile: Profile) -> None:
    names = profile.names
    assert names is not None
    inputs = {names.names.index(name) for name in profile.model.programs[0].inputs if name in names.names}  # type: ignore[union-attr]
    for of in names.of:
        assert NOBODY not in of and not inputs & set(of.tolist())


def test_a_tensor_is_stored_where_it_lies(profile: Profile) -> None:
    names, model = profile.names, profile.model
    assert names is not None and model is not None
    columns = tdma_columns(profile.cmdbufs[0].chip, profile.cmdbufs[0].tdma)
    tensors = [tensor for tensor in model.programs[0].tensors if tensor.offset >= 0]
    stores = np.flatnonzero(columns["trans_dir"] == TransDir.L2G)
    for at in stores.tolist():
        tensor = tensors[names.of.tdma[at]]
        begins = tensor.offset & ((1 << 40) - 1)
        address = int(columns["dst_base_addr_low"][at] + (columns["dst_base_addr_high"][at] << 32))
        address -= profile.cmdbufs[0].chip.gmem_base
        assert tensor.offset >> 40 == columns["dst_base_reg_sel"][at]
        assert begins <= address < begins + np.prod(tensor.shape) * tensor.dtype.numpy.itemsize


def test_what_makes_a_stores_bytes_works_for_the_tensor_that_is_stored(profile: Profile) -> None:
    """Where the TIU command right in front of a transfer made what the transfer reads."""
    names, work = profile.names, profile.timeline.workload
    assert names is not None
    result, source = (list(names_).index(name) for names_, name in ((TIU_OPERANDS, "res0"), (TDMA_OPERANDS, "src")))
    made, read = work.lmem.tiu[:, result], work.lmem.tdma[:, source]
    checked = 0
    for at in np.flatnonzero(read[:, 1] > 0).tolist():
        maker = np.flatnonzero(work.index.tiu == work.index.tdma[at] - 1)
        if len(maker) and made[maker[0], 0] <= read[at, 0] < made[maker[0], 1]:
            checked += 1
            assert names.of.tiu[maker[0]] == names.of.tdma[at]
    assert checked


def test_outputs_are_worked_for_and_shares_of_tensors_add_up(profile: Profile) -> None:
    assert profile.model is not None
    offsets = Counter(tensor.offset for tensor in profile.model.programs[0].tensors)
    alone = {t.name for t in profile.model.programs[0].tensors if t.offset >= 0 and offsets[t.offset] == 1}
    assert set(profile.model.programs[0].outputs) & alone <= {share.name for share in profile.tensors}
    assert sum(share.ps for share in profile.tensors) == sum(share.ps for share in profile.layers)
    assert sum(share.num_commands for share in profile.tensors) == profile.timeline.workload.num_commands


def test_report_trace_and_page_name_a_layers_tensor(profile: Profile) -> None:
    report = report_data(profile)
    by_layer = {row["layer"]: row["tensor"] for row in report["layers"]}
    assert set(by_layer.values()) <= {row["tensor"] for row in report["tensors"]}
    events = json.loads(trace_text(profile))["traceEvents"]
    shown = Counter(event["name"] for event in events if event.get("cat") == "layer")
    assert set(shown) <= {f"layer {layer} for {tensor}" for layer, tensor in by_layer.items()}
    page = profile_page(profile)
    assert all(json.dumps(row["tensor"])[1:-1] in page for row in report["tensors"])


def test_bare_commands_have_no_names() -> None:
    profile = profile_program(DATA / "functional" / "mlp_cv181x_int8.cvimodel")
    bare = Profile("bare", profile.timeline, profile.cmdbufs)
    assert bare.names is None and not bare.tensors and {layer.tensor for layer in bare.layers} == {""}

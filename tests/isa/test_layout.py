"""One descriptor of plain integers and columns of many are the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npusim import UsageError
from npusim.chip import CV181X, CV183X
from npusim.isa.descriptors import layout_of
from npusim.isa.layout import Layout
from npusim.isa.opcodes import ENGINES

LAYOUTS = [layout_of(chip, engine) for chip in (CV181X, CV183X) for engine in ENGINES]


@given(layout=st.sampled_from(LAYOUTS), data=st.data())
def test_one_descriptor_is_encoded_as_columns_of_length_1_are(layout: Layout, data: st.DataObject) -> None:
    values = {field.name: data.draw(st.integers(0, field.limit - 1)) for field in layout.fields}
    columns = {name: np.array([value]) for name, value in values.items()}
    assert layout.encode_one(values) == layout.encode(columns, 1).tobytes()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("value", [-1, None])
def test_a_value_that_its_field_cannot_hold_is_refused_by_name(layout: Layout, value: int | None) -> None:
    field = layout.fields[0]
    with pytest.raises(UsageError, match=f"field {field.name} is"):
        layout.encode_one({field.name: field.limit if value is None else value})

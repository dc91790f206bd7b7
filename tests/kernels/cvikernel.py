"""cvikernel itself, by its C functions: the command buffer that the vendor's library makes of the same calls.

Structures are those of wwwuxy/cvikernel include/cvikernel/cvikernel.h. CVI_LIB names the directory of libcvikernel.so.
"""

from __future__ import annotations

import ctypes as C
import os
from typing import Any

from npusim.kernels import Fmt, Mg, Ml, Tg, Tl

U8, U16, U32, I32, U64, P = C.c_uint8, C.c_uint16, C.c_uint32, C.c_int32, C.c_uint64, C.c_void_p
_FMT = {Fmt.I8: 4, Fmt.U8: 10, Fmt.BF16: 11}
_OPS_OFFSET = 80
"""Of the table of operations in the context: behind the chip's description."""


def _struct(name: str, *fields: tuple[str, Any]) -> type[C.Structure]:
    return type(name, (C.Structure,), {"_fields_": list(fields)})


_TL = _struct(
    "tl",
    ("addr", U32),
    ("fmt", I32),
    ("cmprs_fmt", I32),
    ("shape", U32 * 4),
    ("stride", U32 * 4),
    ("rnd", U8),
    ("eu_align", U8),
)
_ML = _struct("ml", ("addr", U32), ("fmt", I32), ("shape", U32 * 4), ("stride", U32 * 3), ("rnd", U8), ("eu_align", U8))
_TG = _struct("tg", ("base_reg", U8), ("addr", U64), ("fmt", I32), ("shape", U32 * 4), ("stride", U32 * 4), ("rnd", U8))
_MG = _struct("mg", ("base_reg", U8), ("addr", U64), ("fmt", I32), ("shape", U32 * 2), ("row_stride", U32), ("rnd", U8))
_REQUEST = _struct("request", ("chip", C.c_char * 16), ("cmdbuf_size", U32), ("cmdbuf", P))

_TYPES = {"p": P, "q": U64, "i": I32, "w": U32, "h": U16, "b": U8}
_SRC_DST = "src:p dst:p layer_id:h intra_cmd_paral:w"
_CONST = "b_is_const:i b:q"
"""The union of a tensor and a constant (value, sign)."""
_POOL = "ofmap:p ifmap:p kh:h kw:h"
_PAD_STRIDE = "pad_top:b pad_bottom:b pad_left:b pad_right:b stride_h:b stride_w:b"
_INSERT = "ins_h:b ins_last_h:b ins_w:b ins_last_w:b"
_MATMUL = "res:p left:p right:p bias:p lshift_bits:b rshift_bits:b res_is_int8:i relu_enable:i add_result:i ps32_mode:b"
_SIXTEEN = "res_high:p res_low:p a_high:p a_low:p"
PARAMS = {
    "tdma_g2l_bf16_tensor_copy": _SRC_DST,
    "tdma_l2g_bf16_tensor_copy": _SRC_DST,
    "tdma_l2g_bf16_tensor_copy_nc_transposed": _SRC_DST,
    "tdma_g2l_bf16_matrix_copy": _SRC_DST,
    "tdma_l2g_bf16_matrix_copy": _SRC_DST,
    "tdma_l2l_bf16_tensor_copy": "mv_lut_idx:b mv_lut_base:b src:p dst:p outstanding:b layer_id:h",
    "tdma_g2l_bf16_tensor_fill_constant": "constant:h dst:p layer_id:h",
    "tiu_mul": f"res_high:p res_low:p a:p {_CONST} rshift_bits:b relu_enable:i layer_id:h",
    "tiu_mac": f"res_high:p res_low:p a:p {_CONST} res_is_int8:i relu_enable:i lshift_bits:b rshift_bits:b layer_id:h",
    "tiu_add": f"{_SIXTEEN} {_CONST} b_low:q rshift_bits:b relu_enable:i layer_id:h",
    "tiu_sub": f"{_SIXTEEN} b_high:p b_low:p rshift_bits:b layer_id:h",
    "tiu_max": f"max:p a:p {_CONST} layer_id:h",
    "tiu_min": f"min:p a:p {_CONST} layer_id:h",
    "tiu_copy": "src:p dst:p layer_id:h",
    "tiu_lookup_table": "ofmap:p ifmap:p table:p layer_id:h",
    "tiu_max_pooling": f"{_POOL} {_PAD_STRIDE} ins_val:b ins_fp:h layer_id:h",
    "tiu_average_pooling": (
        f"{_POOL} {_INSERT} {_PAD_STRIDE} avg_pooling_const:h rshift_bits:b layer_id:h ins_val:b ins_fp:h"
    ),
    "tiu_pt_depthwise_convolution": (
        f"ofmap:p ifmap:p weight:p bias:p weight_is_const:i weight_const:i weight_is_signed:i {_INSERT} dilation_h:b "
        "dilation_w:b "
        f"{_PAD_STRIDE} rshift_bits:b relu_enable:i layer_id:h cmd_pre_exe_typ:b cmd_pre_exe:b ps32_mode:b ins_val:b "
        "ins_fp:h"
    ),
    "tiu_matrix_multiplication": f"{_MATMUL} layer_id:h",
    "tiu_convolution": (
        f"ofmap:p ifmap:p weight:p chl_quan_param:p {_INSERT} {_PAD_STRIDE} dilation_h:b dilation_w:b has_bias:b "
        "relu_enable:b ps32_mode:b "
        "w_is_const:b layer_id:h cmd_pre_exe_typ:b cmd_pre_exe:b ins_val:b ins_fp:h"
    ),
}
"""Fields of each call's parameter structure: name and type."""


class Cvikernel:
    """One context of the vendor's library; calls append to its command buffer."""

    def __init__(self, chip: str) -> None:
        self._lib = C.CDLL(f"{os.environ['CVI_LIB']}/libcvikernel.so")
        self._chip = chip
        self._room = C.create_string_buffer(1 << 20)
        self._lib.cvikernel_register.restype = P
        request = _REQUEST(chip.encode(), len(self._room), C.addressof(self._room))
        self._context = self._lib.cvikernel_register(C.byref(request))
        assert self._context, f"cvikernel does not know {chip}"
        self._keep: list[Any] = []

        getattr(self._lib, f"cvk{chip}_set_layer_id")(P(self._context), U16(0))  # not set by cvikernel_register

    def call(self, name: str, **values: Any) -> None:
        """Calls `name` with a parameter structure of `values`; tensors become pointers, what is not given is 0."""
        fields = [field.split(":") for field in PARAMS[name].split()]
        kind = _struct(name, *((field, _TYPES[letter]) for field, letter in fields))
        given = {
            field: self._pointer(value) if isinstance(value, Tl | Ml | Tg | Mg) else value
            for field, value in values.items()
        }
        param = kind(**given)
        getattr(self._lib, f"cvk{self._chip}_{name}")(P(self._context), C.byref(param))

    def cmdbuf(self) -> bytes:
        ops = C.cast(C.c_void_p.from_address(self._context + _OPS_OFFSET).value or 0, C.POINTER(P))
        acquire = C.CFUNCTYPE(P, P, C.POINTER(U32))(ops[2])
        size = U32()
        start = acquire(P(self._context), C.byref(size))
        return C.string_at(start, size.value)

    def _pointer(self, t: Tl | Ml | Tg | Mg) -> int:
        fmt = _FMT[t.fmt]
        if isinstance(t, Tl):
            made = _TL(t.addr, fmt, fmt, (U32 * 4)(*t.shape), (U32 * 4)(*t.stride), 0, 1)
        elif isinstance(t, Ml):
            shape = (t.shape.n, t.shape.c, t.shape.w, t.shape.col)
            made = _ML(
                t.addr, fmt, (U32 * 4)(*shape), (U32 * 3)(t.n_stride, t.c_stride, t.shape.w * t.fmt.itemsize), 0, 1
            )
        elif isinstance(t, Tg):
            made = _TG(t.base_reg, t.addr, fmt, (U32 * 4)(*t.shape), (U32 * 4)(*t.stride), 0)
        else:
            made = _MG(t.base_reg, t.addr, fmt, (U32 * 2)(t.row, t.col), t.stride, 0)
        self._keep.append(made)
        return C.addressof(made)

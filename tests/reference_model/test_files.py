"""Every kind of model file: a written model is loaded again unchanged, a damaged one is refused in one sentence."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import dequantize, quantize

import reference_model
from reference_model import ModelError
from reference_model.files.gguf_header import read_header

DATA = Path(__file__).parent / "data"
SIZES = {"vocab": 270, "hidden": 32, "mlp": 64, "layers": 2, "heads": 4, "kv_heads": 2, "context": 64}


def tensors(vocab: int = SIZES["vocab"], tied: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    d, ffn, kv = SIZES["hidden"], SIZES["mlp"], SIZES["hidden"] // 2
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (vocab, d), "output_norm": (d,)}
    for layer in range(SIZES["layers"]):
        at = f"blk.{layer}."
        shapes |= {at + "attn_norm": (d,), at + "attn_q": (d, d), at + "attn_k": (kv, d), at + "attn_v": (kv, d)}
        shapes |= {at + "attn_output": (d, d), at + "ffn_norm": (d,)}
        shapes |= {at + "ffn_gate": (ffn, d), at + "ffn_up": (ffn, d), at + "ffn_down": (d, ffn)}
    shapes |= {} if tied else {"output": (vocab, d)}
    return {f"{name}.weight": (rng.standard_normal(shape) * 0.2).astype(np.float32) for name, shape in shapes.items()}


def byte_pieces() -> list[str]:
    """GPT-2's 256 printable stand-ins for bytes, and enough more to fill the vocabulary."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    return ["<|end|>", *alphabet, *(f"{a}{b}" for a in "abc" for b in "abcd"), "zz"][: SIZES["vocab"]]


def write_gguf(
    path: Path,
    kind: GGMLQuantizationType = GGMLQuantizationType.Q8_0,
    arch: str = "llama",
    values: dict[str, np.ndarray] | None = None,
) -> None:
    writer = GGUFWriter(path, arch)
    writer.add_block_count(SIZES["layers"])
    writer.add_context_length(SIZES["context"])
    writer.add_embedding_length(SIZES["hidden"])
    writer.add_feed_forward_length(SIZES["mlp"])
    writer.add_head_count(SIZES["heads"])
    writer.add_head_count_kv(SIZES["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    pieces = byte_pieces()
    writer.add_token_list(pieces)
    writer.add_token_types([3] + [1] * (len(pieces) - 1))
    writer.add_token_merges([f"{a} {b}" for a in "abc" for b in "abcd"])
    writer.add_eos_token_id(0)
    for name, value in (values if values is not None else tensors()).items():
        stored = kind if value.ndim == 2 else GGMLQuantizationType.F32
        writer.add_tensor(name, quantize(value, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    "kind", [GGMLQuantizationType[name] for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")]
)
def test_gguf_weights_are_what_the_library_dequantises(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    write_gguf(tmp_path / "m.gguf", kind)
    model, values = reference_model.load(tmp_path / "m.gguf"), tensors()
    stored = {
        name: dequantize(quantize(value, kind), kind) if value.ndim == 2 else value for name, value in values.items()
    }
    layer = model.weights.layers[1]
    np.testing.assert_array_equal(model.weights.embedding, stored["token_embd.weight"])
    qkv = np.concatenate([stored[f"blk.1.attn_{part}.weight"] for part in "qkv"])
    np.testing.assert_array_equal(layer.qkv, qkv)
    np.testing.assert_array_equal(
        layer.gate_up, np.concatenate([stored[f"blk.1.ffn_{part}.weight"] for part in ("gate", "up")])
    )
    np.testing.assert_array_equal(layer.down, stored["blk.1.ffn_down.weight"])
    assert model.weights.head is model.weights.embedding


@pytest.mark.parametrize("kind", [GGMLQuantizationType.Q4_0, GGMLQuantizationType.F16], ids=lambda kind: kind.name)
def test_gguf_header_is_what_the_library_reads(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    write_gguf(tmp_path / "m.gguf", kind)
    header, library = read_header(tmp_path / "m.gguf"), GGUFReader(tmp_path / "m.gguf")
    theirs = {name: field.contents() for name, field in library.fields.items() if not name.startswith("GGUF.")}
    assert header.fields == theirs
    assert list(header.tensors) == [tensor.name for tensor in library.tensors]
    for place, tensor in zip(header.tensors.values(), library.tensors, strict=True):
        assert place.shape == tuple(reversed(tensor.shape.tolist())) and place.kind == tensor.tensor_type
        assert place.offset == tensor.data_offset and place.row_bytes * np.prod(place.shape[:-1]) == tensor.n_bytes


def test_gguf_tokenizer_merges_splits_digits_and_round_trips(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    tokenizer = reference_model.load(tmp_path / "m.gguf").tokenizer
    pieces = [byte_pieces()[token] for token in tokenizer.encode("ab 12<|end|>")]
    assert pieces == ["ab", "Ġ", "1", "2", "<|end|>"]
    assert tokenizer.decode(tokenizer.encode("naïve 東京 ab\n")) == "naïve 東京 ab\n"
    assert tokenizer.eos == (0,)


@pytest.mark.parametrize("kind", ["gguf", "bin"])
def test_the_bytes_of_pieces_say_what_the_tokenizer_decodes(kind: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    write_llama2c(tmp_path / "m.bin", tensors(), tied=True)
    tokenizer = reference_model.load(tmp_path / f"m.{kind}").tokenizer
    text = "ab naïve 東京 a\n12"
    said = b"".join(tokenizer.pieces()[token] for token in tokenizer.encode(text, special=False)).decode()
    assert said.removeprefix(" ") == text


@pytest.mark.parametrize("tied", [True, False])
def test_llama2c_and_gguf_of_the_same_values_give_the_same_logits(tmp_path: Path, tied: bool) -> None:
    values = tensors(tied=tied)
    write_gguf(tmp_path / "m.gguf", GGMLQuantizationType.F32, values=values)
    write_llama2c(tmp_path / "m.bin", values, tied)
    ids = [3, 200, 17, 17, 4]
    np.testing.assert_array_equal(
        reference_model.load(tmp_path / "m.gguf").forward(ids), reference_model.load(tmp_path / "m.bin").forward(ids)
    )


def write_llama2c(path: Path, values: dict[str, np.ndarray], tied: bool) -> None:
    vocab = SIZES["vocab"] if tied else -SIZES["vocab"]
    header = [
        SIZES["hidden"],
        SIZES["mlp"],
        SIZES["layers"],
        SIZES["heads"],
        SIZES["kv_heads"],
        vocab,
        SIZES["context"],
    ]
    parts = [struct.pack("<7i", *header), values["token_embd.weight"].tobytes()]
    for name in (
        "attn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_norm",
        "ffn_gate",
        "ffn_down",
        "ffn_up",
    ):
        parts += [values[f"blk.{layer}.{name}.weight"].tobytes() for layer in range(SIZES["layers"])]
    parts += [values["output_norm.weight"].tobytes(), np.zeros((SIZES["context"], 8), np.float32).tobytes()]
    parts += [] if tied else [values["output.weight"].tobytes()]
    path.write_bytes(b"".join(parts))
    pieces = [
        b"<unk>",
        b"\n<s>\n",
        b"\n</s>\n",
        *(b"<0x%02X>" % byte for byte in range(256)),
        b" ",
        b"a",
        b"b",
        b" a",
        b"ab",
        b" ab",
    ]
    pieces += [b"x%d" % index for index in range(SIZES["vocab"] - len(pieces))]
    scored = [(-float(index), piece) for index, piece in enumerate(pieces)]
    path.with_name("tokenizer.bin").write_bytes(
        struct.pack("<i", 9) + b"".join(struct.pack("<fi", score, len(piece)) + piece for score, piece in scored)
    )


def test_sentencepiece_merges_by_score_and_falls_back_to_bytes(tmp_path: Path) -> None:
    """` a` (score -262) is better than `ab` (-263), so ` ab` is reached through ` a`; é is no piece, so it is two
    bytes."""
    write_llama2c(tmp_path / "m.bin", tensors(), True)
    tokenizer = reference_model.load(tmp_path / "m.bin").tokenizer
    assert tokenizer.encode("ab") == [1, 264]
    assert tokenizer.encode("é", special=False) == [259, 3 + 0xC3, 3 + 0xA9]
    assert tokenizer.decode(tokenizer.encode("ab é")) == "ab é"


def test_llama2c_of_another_size_than_its_header_says_is_refused(tmp_path: Path) -> None:
    write_llama2c(tmp_path / "m.bin", tensors(), True)
    data = (tmp_path / "m.bin").read_bytes()
    (tmp_path / "m.bin").write_bytes(data[:-4])
    with pytest.raises(ModelError, match=f"has {len(data) - 4} bytes, its header calls for {len(data)}"):
        reference_model.load(tmp_path / "m.bin")


def damaged_copies(data: bytes, count: int, first_bytes: int) -> list[bytes]:
    """Truncations anywhere, and flips of one bit in the first bytes, where the structure is."""
    rng = np.random.default_rng(11)
    cut = [data[:end] for end in rng.integers(0, len(data), count // 4)]
    flipped = []
    for place, bit in zip(rng.integers(0, first_bytes, count), rng.integers(0, 8, count), strict=True):
        copy = bytearray(data)
        copy[place] ^= 1 << bit
        flipped.append(bytes(copy))
    return cut + flipped


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_damaged_gguf_loads_or_is_refused_in_one_sentence(tmp_path: Path) -> None:
    write_gguf(tmp_path / "good.gguf", GGMLQuantizationType.Q8_0)
    refused = 0
    for index, data in enumerate(damaged_copies((tmp_path / "good.gguf").read_bytes(), 160, 3000)):
        path = tmp_path / f"bad{index}.gguf"
        path.write_bytes(data)
        try:
            reference_model.load(path)
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)
        path.unlink()
    assert refused >= 40


def test_damaged_safetensors_load_or_are_refused_in_one_sentence(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    shutil.copytree(DATA / "tiny_llama", directory)
    good = (directory / "model.safetensors").read_bytes()
    refused = 0
    for data in damaged_copies(good, 160, 2000):
        (directory / "model.safetensors").write_bytes(data)
        try:
            reference_model.load(directory)
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused >= 40


def test_gguf_counts_beyond_the_end_of_the_file_are_refused_at_once(tmp_path: Path) -> None:
    """The library would otherwise append empty elements for ever."""
    write_gguf(tmp_path / "m.gguf")
    data = bytearray((tmp_path / "m.gguf").read_bytes())
    key = b"tokenizer.ggml.token_type"
    count_at = data.index(key) + len(key) + 4 + 4
    assert struct.unpack_from("<Q", data, count_at) == (SIZES["vocab"],)
    struct.pack_into("<Q", data, count_at, 1 << 60)
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(ModelError, match="ends before"):
        reference_model.load(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"token_embd.weight": None}, "no tensor token_embd.weight"),
        ({"blk.1.ffn_up.weight": None}, "no tensor blk.1.ffn_up.weight"),
        (
            {"blk.1.attn_q.weight": (32, 64)},
            r"blk.1.attn_q.weight .*shape \(32, 64\), its configuration says \(32, 32\)",
        ),
    ],
)
def test_gguf_without_a_tensor_or_with_one_of_another_shape_is_refused(
    tmp_path: Path, change: dict[str, tuple[int, ...] | None], sentence: str
) -> None:
    values = tensors()
    for name, shape in change.items():
        del values[name]
        if shape:
            values[name] = np.ones(shape, np.float32)
    write_gguf(tmp_path / "m.gguf", values=values)
    with pytest.raises(ModelError, match=sentence):
        reference_model.load(tmp_path / "m.gguf")


def test_unknown_architectures_are_named(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", arch="mamba")
    with pytest.raises(ModelError, match="'mamba': this program knows llama and gemma3"):
        reference_model.load(tmp_path / "m.gguf")
    shutil.copytree(DATA / "tiny_llama", tmp_path / "hub")
    edit_config(tmp_path / "hub", model_type="mixtral")
    with pytest.raises(ModelError, match="'mixtral': this program knows"):
        reference_model.load(tmp_path / "hub")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden_size": 32}, "shape .* its configuration says"),
        ({"num_attention_heads": 5}, "5 query heads cannot share 2 KV heads"),
        ({"vocab_size": "many"}, "lacks a number or has a bad one"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "scales RoPE"),
        ({"attention_bias": True}, "biases"),
        ({"num_hidden_layers": 3}, "no tensor blk.2.attn_norm.weight"),
    ],
)
def test_configuration_that_contradicts_the_tensors_is_refused(
    tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    shutil.copytree(DATA / "tiny_llama", tmp_path / "hub")
    edit_config(tmp_path / "hub", **change)
    with pytest.raises(ModelError, match=sentence):
        reference_model.load(tmp_path / "hub")


def edit_config(directory: Path, **change: object) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_directory_without_one_of_its_files_is_refused(tmp_path: Path, missing: str) -> None:
    shutil.copytree(DATA / "tiny_llama", tmp_path / "hub")
    (tmp_path / "hub" / missing).unlink()
    with pytest.raises(ModelError, match=r"hub"):
        reference_model.load(tmp_path / "hub")


def test_path_of_nothing_says_what_may_be_given() -> None:
    with pytest.raises(ModelError, match=r"no model at nowhere: give builtin, smollm2, a \.gguf"):
        reference_model.load("nowhere")

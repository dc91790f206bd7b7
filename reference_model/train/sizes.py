"""The recipe that suits a text, by its length, when the caller does not choose."""

from __future__ import annotations

from dataclasses import dataclass

from reference_model.errors import ModelError
from reference_model.train.recipe import Recipe, curriculum

HEAD_DIM = 32


@dataclass(frozen=True)
class Size:
    """A recipe's numbers for texts of at least min_chars characters.

    intermediate_size is 8/3 of the hidden size, as in Llama."""

    min_chars: int
    num_steps: int
    vocab_size: int
    hidden_size: int
    num_layers: int
    batch_tokens: int


# A small text is soon learnt by heart, the sooner the larger the model: sizes and steps grow with it. Of a text of
# 8,000 characters the held-out part was predicted best after 40 rounds, and worse from there on.
SIZES = (
    Size(1_000_000, num_steps=1500, vocab_size=1024, hidden_size=192, num_layers=4, batch_tokens=4096),
    Size(200_000, num_steps=600, vocab_size=512, hidden_size=128, num_layers=4, batch_tokens=2048),
    Size(0, num_steps=300, vocab_size=384, hidden_size=96, num_layers=3, batch_tokens=2048),
)
MAX_ROUNDS, CHARS_PER_TOKEN, MIN_STEPS = 40, 2.5, 50
MIN_CONTEXT, MAX_CONTEXT = 32, 1024
CHARS_FOR_CONTEXT = (
    150  # a twentieth of the text is held out and must fill two contexts, of up to 3.5 characters a token
)


def recipe_for(
    num_chars: int, context: int | None = None, recall: bool = False, hidden_size: int | None = None
) -> Recipe:
    """The recipe that suits a text of this many characters; what the caller gives replaces the default."""
    size = next(size for size in SIZES if num_chars >= size.min_chars)
    fitting = MAX_CONTEXT
    while fitting > MIN_CONTEXT and fitting * CHARS_FOR_CONTEXT > num_chars:
        fitting //= 2
    rounds_end = int(MAX_ROUNDS * num_chars / CHARS_PER_TOKEN / size.batch_tokens)
    return Recipe(
        num_steps=min(size.num_steps, max(rounds_end, MIN_STEPS)),
        vocab_size=size.vocab_size,
        num_layers=size.num_layers,
        batch_tokens=size.batch_tokens,
        phases=curriculum(context or fitting, recall),
        **shape_of(hidden_size or size.hidden_size),
    )


def shape_of(hidden_size: int) -> dict[str, int]:
    """The sizes that go with a hidden size.

    Heads of 32, three or two of them to a KV head where that divides; SwiGLU of 8/3 in steps of 32."""
    heads, rest = divmod(hidden_size, HEAD_DIM)
    if heads < 1 or rest:
        raise ModelError(
            f"hidden size {hidden_size} does not divide into heads of {HEAD_DIM}: use a multiple of {HEAD_DIM}"
        )
    group = next(group for group in (3, 2, 1) if heads % group == 0)
    intermediate = -(-hidden_size * 8 // (3 * HEAD_DIM)) * HEAD_DIM
    return {
        "hidden_size": hidden_size,
        "intermediate_size": intermediate,
        "num_heads": heads,
        "num_kv_heads": heads // group,
    }

"""Haystacks in which needles are hidden, and words for needles."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import numpy as np

from kv.errors import KVError
from kv.tasks.passkey import NOISE

MAX_TEXT_BYTES = 256 << 20
NOISE_SENTENCES = tuple(re.findall(r"[^.]+\.", NOISE.replace(". ", ".")))

_ADJECTIVES = """
able amber ample basic bitter bold brave brief bright broad calm careful cheap clean clever cloudy cold common cruel
curious daily damp dark deep dense eager early empty equal exact faint famous fancy fierce final firm flat fluffy fond
fresh gentle glad golden grand great green happy harsh heavy hollow honest humble icy idle jolly keen kind large lazy
light lively lonely loud lucky mellow merry mild modern narrow neat noble odd old pale plain polite proud quick quiet
rapid rare ready rich ripe rough round royal rusty sacred sharp shiny short silent simple sleepy slow smooth soft solid
sour spare steady steep stiff strange strong sturdy sweet swift tall tame tender thick tidy
"""
_NOUNS = """
anchor apple arrow badge barrel basket beacon bell bench blanket boat bottle bridge brush bucket button cabin candle
canyon carpet castle cellar chair cliff clock cloud coat comet corner cotton cradle crown curtain desert dragon drum
eagle engine fabric falcon feather fence field flame flute forest fountain garden gate glove hammer harbor helmet hill
island jacket jungle kettle ladder lantern lemon library marble meadow mirror mountain needle nest oar ocean orchard
oven paddle palace pebble pencil pepper piano pillow planet pocket pond quilt rabbit raft ribbon river rocket saddle
sail shell shovel silver spoon stone storm table temple thimble tower tractor trumpet tunnel valley
"""

ADJECTIVES, NOUNS = _ADJECTIVES.split(), _NOUNS.split()


def read_sentences(path: Path) -> tuple[str, ...]:
    """The sentences of a plain text file, for a haystack. Raises KVError if it cannot be read, is too large or has
    none."""
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise KVError(f"{path} is larger than {MAX_TEXT_BYTES >> 20} MiB: give a part of it")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise KVError(f"{path} cannot be read: {error.strerror or error}") from error
    sentences = tuple(" ".join(part.split()) for part in re.split(r"(?<=[.!?])\s+|\n\s*\n", text) if part.strip())
    if not sentences:
        raise KVError(f"{path} has no sentences: give a text with at least one")
    return sentences


def word_pairs(rng: np.random.Generator, count: int) -> list[str]:
    """`count` different keys of an adjective and a noun, or all that there are."""
    num_pairs = len(ADJECTIVES) * len(NOUNS)
    drawn = rng.choice(num_pairs, min(count, num_pairs), replace=False)
    return [f"{ADJECTIVES[i // len(NOUNS)]}-{NOUNS[i % len(NOUNS)]}" for i in drawn.tolist()]


def numbers(rng: np.random.Generator, count: int, digits: int = 7) -> list[str]:
    """`count` random numbers with `digits` digits, as text."""
    return [str(number) for number in rng.integers(10 ** (digits - 1), 10**digits, count).tolist()]


def uuids(rng: np.random.Generator, count: int) -> list[str]:
    """`count` random UUIDs."""
    return [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(count)]


def pseudo_words(rng: np.random.Generator, count: int, syllables: int = 3) -> list[str]:
    """`count` different invented words, in which consonants and vowels alternate."""
    consonants, vowels = "bdfgklmnprstvz", "aeiou"
    base = len(consonants) * len(vowels)
    drawn = rng.choice(base**syllables, count, replace=False)[:, None] // base ** np.arange(syllables) % base
    return ["".join(consonants[s // len(vowels)] + vowels[s % len(vowels)] for s in word) for word in drawn.tolist()]

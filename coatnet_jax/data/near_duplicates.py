"""Pictures that are trained on and held out as well, or nearly the same ones.

Such pictures make a model look better than it is. Files are compared by their
content, pixels by a hash of 64 bits for where a small picture becomes brighter,
and what has nearly the same hash by the small picture itself. All of it stops
when its time is over.
"""

import concurrent.futures
import dataclasses
import hashlib
import time
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from coatnet_jax.data.decoding import CorruptImageError, decode_example
from coatnet_jax.data.image_source import ImageSource, find_sizes
from coatnet_jax.errors import UserError

# The longest that each of the two comparisons takes.
SECONDS = 1.5
_MOST_LOOKED_AT = 4000
# Files whose sizes are asked for: a disk tells some ten thousand in a second.
_MOST_FILES = 100_000
# What may differ: bits of the hashes, and levels of the small pictures' pixels.
_MOST_BITS = 4
_MOST_LEVELS = 4.0
# A picture that is plainer than that is like any other.
_LEAST_DEVIATION = 8.0
_SIDE = 16


@dataclasses.dataclass(frozen=True)
class Duplicates:
  """What a comparison of two splits found.

  Attributes:
    pairs: number of the held-out image, and of one that is trained on which is
      the same or nearly the same; by the first.
    num_compared: number of images trained on, and of those held out, whose
      pixels were compared.
  """

  pairs: dict[int, int]
  num_compared: tuple[int, int]


def find_duplicates(
  train: ImageSource, evaluation: ImageSource, num_threads: int = 4
) -> Duplicates:
  """Compares the images of two splits, in some seconds.

  Of large splits a sample is compared, the same one every time.

  Args:
    train: images that are trained on.
    evaluation: images that are held out.
    num_threads: number of threads that decode.
  """
  pairs = _find_same_files(train, evaluation)
  end = time.monotonic() + SECONDS
  with concurrent.futures.ThreadPoolExecutor(max(num_threads, 1)) as pool:
    # Half of the time each, but what the first does not need.
    held_out = _look(evaluation, pool, end - SECONDS / 2)
    trained = _look(train, pool, end)
  pairs = {**_find_near(trained, held_out), **pairs}
  return Duplicates(
    dict(sorted(pairs.items())), (trained.num_seen, held_out.num_seen)
  )


def _find_same_files(
  train: ImageSource, evaluation: ImageSource
) -> dict[int, int]:
  """Returns pairs whose files have the same content."""
  if len(train) + len(evaluation) > _MOST_FILES:
    return {}
  end = time.monotonic() + SECONDS
  by_size: dict[int, list[int]] = {}
  for index, size in _list_sizes(train):
    by_size.setdefault(size, []).append(index)
  pairs: dict[int, int] = {}
  hashes: dict[int, bytes | None] = {}
  for index, size in _list_sizes(evaluation):
    candidates = by_size.get(size, ())
    own = _hash_file(evaluation, index) if candidates else None
    if own is None:
      continue
    for other in candidates:
      if time.monotonic() > end:
        return pairs
      if other not in hashes:
        hashes[other] = _hash_file(train, other)
      if own == hashes[other]:
        pairs[index] = other
        break
  return pairs


def _list_sizes(source: ImageSource) -> Iterator[tuple[int, int]]:
  """Yields the number and size of each example's file, if it is a file."""
  paths = [source.find_path(index) for index in range(len(source))]
  known = [(i, path) for i, path in enumerate(paths) if path is not None]
  sizes = find_sizes(path for _, path in known)
  yield from ((i, size) for (i, _), size in zip(known, sizes) if size > 0)


def _hash_file(source: ImageSource, index: int) -> bytes | None:
  path = source.find_path(index)
  if path is None:
    return None
  try:
    with path.open('rb') as file:
      return hashlib.file_digest(file, 'blake2b').digest()
  except OSError:
    return None


@dataclasses.dataclass(frozen=True)
class _Looks:
  """What images look like: their numbers, hashes [N] and thumbnails."""

  indices: Sequence[int]
  hashes: np.ndarray
  thumbnails: np.ndarray
  num_seen: int


def _look(
  source: ImageSource, pool: concurrent.futures.Executor, end: float
) -> _Looks:
  """Returns what a source's images look like, as many as time allows."""
  indices = (
    np.random.default_rng(0)
    .choice(len(source), min(len(source), _MOST_LOOKED_AT), replace=False)
    .tolist()
  )

  def look(index):
    if time.monotonic() > end:
      return None
    try:
      image, _ = decode_example(source, index, exact=False)
    except (CorruptImageError, UserError):
      return 0, None
    return compute_hash(image), _shrink(image, (_SIDE, _SIDE))

  seen = [
    (index, *found)
    for index, found in zip(indices, pool.map(look, indices))
    if found is not None
  ]
  whole = [
    (index, code, small)
    for index, code, small in seen
    if small is not None and small.std() >= _LEAST_DEVIATION
  ]
  thumbnails = [small for _, _, small in whole]
  return _Looks(
    [index for index, _, _ in whole],
    np.array([code for _, code, _ in whole], np.uint64),
    np.array(thumbnails, np.int16).reshape(-1, _SIDE, _SIDE, 3),
    len(seen),
  )


def _shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def compute_hash(image: np.ndarray) -> int:
  """Returns 64 bits: where, from left to right, a small picture is brighter.

  >>> compute_hash(np.zeros((20, 20, 3), np.uint8))
  0

  Args:
    image: picture, [H, W, 3] uint8.
  """
  grey = _shrink(image, (9, 8)).astype(np.int32).sum(-1)
  bits = np.packbits(grey[:, 1:] > grey[:, :-1])
  return int.from_bytes(bits.tobytes(), 'big')


def _find_near(trained: _Looks, held_out: _Looks) -> dict[int, int]:
  """Returns pairs that look nearly the same, the likest of each."""
  pairs: dict[int, int] = {}
  if not len(trained.indices):
    return pairs
  for row, index in enumerate(held_out.indices):
    bits = np.bitwise_count(trained.hashes ^ held_out.hashes[row])
    near = np.flatnonzero(bits <= _MOST_BITS)
    if not near.size:
      continue
    levels = np.abs(trained.thumbnails[near] - held_out.thumbnails[row])
    distances = levels.mean((1, 2, 3))
    if distances.min() <= _MOST_LEVELS:
      pairs[index] = trained.indices[int(near[distances.argmin()])]
  return pairs

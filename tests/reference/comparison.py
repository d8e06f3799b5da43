"""Whether two runs have the same numbers, and if not, what the other is like.

A run's numbers are those of `training.run`. A digest has one number for each
array, its product with a random vector of length 1, so that two arrays with the
same digest are the same; scalars are kept as they are.
"""

import zlib
from collections.abc import Iterator, Mapping

import numpy as np

# As a part of the largest number of an array. The project computes in float32:
# the largest difference is 4e-7 of parameters, statistics and averages, 1.3e-5
# of Adam's averages, where a gradient is small beside others.
TOLERANCE = 1e-5
ADAM_TOLERANCE = 1e-4
# How much more is let pass in digests, of which there are many: in some runs
# rounding decides which of two numbers max-pooling takes, and the gradient goes
# another way. That moved Adam's averages by 3e-3, parameters by 5e-5.
DIGEST_SLACK = 10
ADAM_DIGEST_SLACK = 100
# Numbers this far below the largest of their collection are rounding: the
# gradient of a bias before BatchNorm, say, which is 0.
NEGLIGIBLE = 1e-3

Numbers = Mapping[str, np.ndarray]


def compute_digest(numbers: Numbers) -> dict[str, float]:
  """Returns a number for each array, and all scalars."""
  digest = {}
  for name, array in numbers.items():
    array = np.asarray(array, np.float64)
    if name in ('steps/images', 'steps/labels'):
      array = array.reshape(len(array), -1)
      vector = _random_vector(name, array.shape[1])
      array = array @ vector
    if name.startswith(('steps/', 'evaluation/')):
      for index, value in enumerate(np.atleast_1d(array)):
        digest[f'{name}/{index}'] = float(value)
    else:
      digest[name] = float(array.ravel() @ _random_vector(name, array.size))
  return digest


def _random_vector(name: str, size: int) -> np.ndarray:
  vector = np.random.default_rng(zlib.crc32(name.encode())).normal(size=size)
  return vector / np.linalg.norm(vector)


def find_differences(actual: Numbers, expected: Numbers) -> Iterator[str]:
  """Yields a line for each array that differs, the first cause first."""
  missing = sorted(set(actual) ^ set(expected))
  if missing:
    yield f'only one run has {", ".join(missing)}'
  scales = _collection_scales(expected)
  for name in expected:
    if name not in actual:
      continue
    one, other = (np.asarray(n[name], np.float64) for n in (actual, expected))
    if one.shape != other.shape:
      yield f'{name}: shapes {one.shape} and {other.shape}'
      continue
    difference = np.abs(one - other).max()
    scale = max(np.abs(other).max(), NEGLIGIBLE * scales[_collection(name)])
    if not difference <= _tolerance(name) * scale:
      yield f'{name}: {difference:.2g} apart, of {scale:.2g}'


def digests_agree(
  actual: Mapping[str, float],
  expected: Mapping[str, float],
  scales: Mapping[str, float],
) -> bool:
  """Returns whether two digests are of the same run.

  Args:
    actual: digest of one run.
    expected: digest of the other run.
    scales: size of each number of the digest, from `compute_scales`.
  """
  return actual.keys() == expected.keys() and all(
    abs(actual[name] - expected[name]) <= _digest_tolerance(name) * scales[name]
    for name in actual
  )


def compute_scales(numbers: Numbers) -> dict[str, float]:
  """Returns the size of each number of the run's digest."""
  scales = _collection_scales(numbers)
  sizes = {}
  for name in compute_digest(numbers):
    array = name if name in numbers else name.rpartition('/')[0]
    values = np.asarray(numbers[array], np.float64)
    sizes[name] = max(
      np.linalg.norm(values) if name in numbers else np.abs(values).max(),
      NEGLIGIBLE * scales[_collection(array)],
    )
  return sizes


def _collection(name: str) -> str:
  return name if name.startswith('steps/') else name.partition('/')[0]


def _tolerance(name: str) -> float:
  return ADAM_TOLERANCE if name.startswith(('mu/', 'nu/')) else TOLERANCE


def _digest_tolerance(name: str) -> float:
  is_adam = name.startswith(('mu/', 'nu/'))
  slack = ADAM_DIGEST_SLACK if is_adam else DIGEST_SLACK
  return slack * _tolerance(name)


def _collection_scales(numbers: Numbers) -> dict[str, float]:
  scales: dict[str, float] = {}
  for name, array in numbers.items():
    largest = float(np.abs(np.asarray(array, np.float64)).max())
    collection = _collection(name)
    scales[collection] = max(scales.get(collection, 0.0), largest)
  return scales

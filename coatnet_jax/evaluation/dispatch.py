"""How far a pass over batches runs ahead of the devices: one bound for all."""

import collections
from collections.abc import Iterable, Iterator

import jax
import numpy as np

# Batches whose results are not yet read, so that the devices need not wait.
# Without a bound the images of all batches would wait on the devices.
_BATCHES_IN_FLIGHT = 2


def read_behind(
  outputs: Iterable[dict[str, jax.Array]],
) -> Iterator[dict[str, np.ndarray]]:
  """Yields results on the host, while the devices have the next ones to do.

  Args:
    outputs: results of each batch, computed when the iterator is asked for
      them; the same on every process.
  """
  pending = collections.deque()
  for output in outputs:
    pending.append(output)
    if len(pending) > _BATCHES_IN_FLIGHT:
      yield jax.device_get(pending.popleft())
  while pending:
    yield jax.device_get(pending.popleft())

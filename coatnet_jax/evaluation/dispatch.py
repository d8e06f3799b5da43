"""What all passes over batches share: a step, and how far they run ahead."""

import collections
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from coatnet_jax.distributed import mesh as mesh_lib

# Batches whose results are not yet read, so that the devices need not wait.
# Without a bound the images of all batches would wait on the devices.
_BATCHES_IN_FLIGHT = 2


@functools.cache
def jit_step(
  step: Callable[..., Any], mesh: Mesh, **options: Any
) -> Callable[..., Any]:
  """Returns a function of arrays, compiled once for a mesh and its options.

  Args:
    step: function of arrays and options.
    mesh: devices to compute on; results are replicated over them.
    **options: keyword arguments of `step`, which can be hashed.
  """
  return mesh_lib.jit(
    functools.partial(step, **options),
    mesh,
    out_shardings=mesh_lib.create_replicated_sharding(mesh),
  )


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

"""Whether a run can fit in memory, before anything of it is allocated.

What is counted is what it takes at least: where that is more than there is, the
system would end the process minutes later, without a word.
"""

import contextlib
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import humanize
import jax

from coatnet_jax.errors import UserError

# What a worker process holds of Python and the libraries it imports, at least.
WORKER_BYTES = 200 << 20

_CGROUPS = (
  '/sys/fs/cgroup/memory.max',
  '/sys/fs/cgroup/memory/memory.limit_in_bytes',
)


def read_memory_bytes() -> float:
  """Returns the memory of this machine or container; inf if it doesn't say."""
  limits = [math.inf]
  with contextlib.suppress(OSError, KeyError, ValueError):
    text = pathlib.Path('/proc/meminfo').read_text()
    sizes = dict(line.split(':', 1) for line in text.splitlines())
    total = sum(int(sizes[k].split()[0]) for k in ('MemTotal', 'SwapTotal'))
    limits.append(total << 10)
  for path in _CGROUPS:
    with contextlib.suppress(OSError, ValueError):  # 'max', for example.
      limits.append(int(pathlib.Path(path).read_text()))
  return min(limits)


def check_host(parts: Mapping[str, int]) -> None:
  """Raises UserError for more than this machine has.

  Args:
    parts: bytes that this process takes at least, by words for what they are
      of, and the keys that change it.
  """
  _check(parts, read_memory_bytes(), 'this machine')


def check_state(state: Any, others: Mapping[str, int]) -> None:
  """Raises UserError for a state that the devices cannot hold.

  Args:
    state: tree of `jax.ShapeDtypeStruct` with shardings.
    others: what `check_host` was given: CPUs share the memory with it.
  """
  local = jax.local_devices()
  num_bytes = sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(state)
    if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  )
  name = 'parameters, averages and optimizer state (config.model.name)'
  if local[0].platform == 'cpu':
    check_host({name: num_bytes * len(local), **others})
    return
  limit = (local[0].memory_stats() or {}).get('bytes_limit', math.inf)
  _check({name: num_bytes}, limit, f'a {local[0].device_kind} device')


def _check(parts: Mapping[str, int], limit: float, where: str) -> None:
  needed = sum(parts.values())
  if needed <= limit:
    return
  listed = ', '.join(
    f'{_format(size)} for {name}'
    for name, size in sorted(parts.items(), key=lambda part: -part[1])
    if size > needed / 100
  )
  raise UserError(
    f'The run does not fit in the {_format(limit)} of memory that {where} has:'
    f' it takes at least {listed}. Lower one of these, or use a larger machine.'
  )


def _format(num_bytes: float) -> str:
  return humanize.naturalsize(num_bytes, binary=True)


def estimate_host_bytes(
  config: Mapping[str, Any], model: nn.Module
) -> dict[str, int]:
  """Returns what a run takes of this machine's memory at least, without state.

  Args:
    config: config with resolved values.
    model: model of the config.

  Returns:
    Bytes by words for what they are of, with the keys that change it.
  """
  data = config['data']
  height, width = config['preprocessing']['image_size']
  image_bytes = 3 * height * width
  batches = {
    'training': data['prefetch_batches'],  # Read ahead, where it is fast.
    'evaluation': 1,
  }
  return {
    f'pictures of {section} (config.{section}.global_batch_size,'
    ' config.data.prefetch_batches, config.preprocessing.image_size)': (
      count
      * config[section]['global_batch_size']
      // jax.process_count()
      * image_bytes
    )
    for section, count in batches.items()
  } | {
    'worker processes (config.data.num_workers)': (
      data['num_workers'] * WORKER_BYTES
    ),
    'position tables of attention (config.preprocessing.image_size)': max(
      (
        # float32 [2 * side - 1, side, side]: which offset each pair has.
        8 * (side // stride) ** 3
        for stride in getattr(model.variant, 'attention_strides', ())
        for side in (height, width)
      ),
      default=0,
    ),
  }

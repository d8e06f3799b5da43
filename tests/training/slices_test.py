"""Gradients that devices compute alone are those of the whole batch."""

import pytest

from tests.virtual_devices import run_script

# Prints, for each case, whether a network's gradients, statistics and loss are
# computed by another program with the exchange, and how far apart they are.
SCRIPT = """
import functools, json, sys
import flax.linen as nn
import jax, jax.numpy as jnp
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.models.layers import StochasticDepth, drop_branch
from coatnet_jax.models.norms import BatchNorm
from coatnet_jax.training import accumulation, slices

class Model(nn.Module):
  group: int
  images_per_group: int | None
  batch_norm_momentum: float = 0.5

  @nn.compact
  def __call__(self, x, key):
    for width in (5, 3):  # No number of devices divides these.
      x = nn.Dense(width)(x)
      x = BatchNorm(False, 0.5, 1e-3, jnp.float32, group_size=self.group)(x)
      x = drop_branch(nn.gelu(x), StochasticDepth(key, 0.4), width)
    return x

key = jax.random.key(0)
x = 3 + jax.random.normal(key, (64, 4))

def compute_both(group, mesh_sizes, images_per_group):
  model = Model(group, images_per_group)
  variables = model.init(key, x, key)
  mesh = mesh_lib.create_mesh(**mesh_sizes)

  def compute(params, batch_stats, part, index):
    def loss_fn(params):
      y, updates = model.apply(
        {'params': params, 'batch_stats': batch_stats},
        part, jax.random.fold_in(key, index), mutable=['batch_stats'])
      return jnp.square(y).mean(), updates['batch_stats']
    (loss, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    return grads, stats, {'loss': loss}

  def take(exchanges, *arguments):
    function = functools.partial(accumulation.accumulate_gradients, compute,
      num_parts=2, batch_norm_momentum=model.batch_norm_momentum)
    if exchanges:
      function = slices.exchange_once(function, model, part_size=32)
    return function(*arguments)

  batch = jax.device_put(x, mesh_lib.create_batch_sharding(mesh))
  arguments = variables['params'], variables['batch_stats'], batch
  results, texts = [], []
  for exchanges in (False, True):
    step = mesh_lib.jit(functools.partial(take, exchanges), mesh)
    texts.append(step.lower(*arguments).as_text())
    results.append(step(*arguments))
  off = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), *results)
  return texts[0] != texts[1], max(jax.tree.leaves(off))

print(json.dumps([compute_both(*case) for case in json.loads(sys.argv[1])]))
"""
SLICES = {'replica': 2, 'data': 4, 'fsdp': 1, 'tensor': 1}
# Number of images in a group, mesh, what the model says of the first.
CHANGED = [(group, SLICES, group) for group in (0, 2, 4)]
AS_BEFORE = [
  # A group on two devices, parameters in parts, a model that cannot, a slice.
  (8, SLICES, 8),
  (4, {**SLICES, 'data': 2, 'fsdp': 2}, 4),
  (4, {**SLICES, 'data': 2, 'tensor': 2}, 4),
  (4, SLICES, None),
  (4, {**SLICES, 'replica': 1, 'data': 8}, 4),
]


@pytest.fixture(name='results', scope='module')
def fixture_results():
  return run_script(SCRIPT, 8, CHANGED + AS_BEFORE)


def test_results_are_those_of_the_whole_batch(results):
  for is_changed, off in results[: len(CHANGED)]:
    assert is_changed
    assert off < 1e-6


def test_elsewhere_the_compiler_shards(results):
  for is_changed, off in results[len(CHANGED) :]:
    assert not is_changed
    assert off == 0

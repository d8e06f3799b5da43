"""Activations are divided by images: by which axes, and that they stay so."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from coatnet_jax.ops import batch_sharding

ROOT = pathlib.Path(__file__).parents[2]

# Compiles wide blocks, three of them in a loop, for eight devices; prints the
# shapes of what these exchange.
SCRIPT = """
import json, re
import jax, numpy as np
from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.distributed.state_sharding import compute_state_shardings
from coatnet_jax import create_model
from coatnet_jax.models import variants

variants.VARIANTS['wide'] = variants.Variant(
  stem=variants.StemOptions(widths=(8,)),
  stages=(
    variants.Stage((variants.BlockGroup('mbconv', 1, 64),)),
    variants.Stage((variants.BlockGroup('transformer', 3, 256),)),
  ),
)
model = create_model(
  'wide', num_classes=10, image_size=(40, 40), scan_blocks=True)
mesh = mesh_lib.create_mesh(replica=1, data=1, fsdp=8, tensor=1)
images = jax.ShapeDtypeStruct(
  (64, 40, 40, 3), np.float32, sharding=mesh_lib.create_batch_sharding(mesh))
variables = jax.eval_shape(
  lambda: model.init(jax.random.key(0), np.zeros((1, 40, 40, 3)), train=False))
shardings = compute_state_shardings(variables, mesh)
variables = jax.tree.map(
  lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
  variables, shardings)

def loss(params, batch_stats, images):
  logits, _ = model.apply(
    {'params': params, 'batch_stats': batch_stats}, images, train=True,
    mutable=['batch_stats'], rngs={'dropout': jax.random.key(0)})
  return (logits ** 2).sum()

gradient = mesh_lib.jit(
  jax.grad(loss), mesh, out_shardings=shardings['params'])
lowered = gradient.lower(
  variables['params'], variables['batch_stats'], images)
exchanged = re.findall(
  r' = (.*?) (?:all-gather|all-to-all|collective-permute)(?:-start)?[(]',
  lowered.compile().as_text())
print(json.dumps([
  [int(n) for n in shape.split(',') if n]
  for result in exchanged
  for shape in re.findall(r'[a-z]+[0-9]+[[]([0-9,]*)[]]', result)]))
"""


def test_without_a_mesh_nothing_is_done():
  assert batch_sharding.find_batch_axes(8) == ()
  x = jnp.zeros((8, 2))
  assert batch_sharding.shard_batch(x) is x


@pytest.mark.parametrize(
  ('batch_size', 'axes'),
  [
    (24, ('replica', 'data', 'fsdp')),
    # 'data' does not divide what is left.
    (4, ('replica', 'fsdp')),
    (3, ('data',)),
    (5, ()),
  ],
)
def test_axes_that_divide_the_batch(batch_size, axes):
  mesh = AbstractMesh((2, 3, 2, 5), ('replica', 'data', 'fsdp', 'tensor'))
  with jax.sharding.use_abstract_mesh(mesh):
    assert batch_sharding.find_batch_axes(batch_size) == axes


def test_manual_axes_are_left_alone():
  mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ('data', 'tensor'))
  seen = []

  def inside(x):
    seen.append(batch_sharding.list_free_axes())
    return batch_sharding.shard_batch(x)

  jax.shard_map(
    inside, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec()
  )(jnp.zeros(2))
  assert seen == [[]]


@pytest.mark.slow
@pytest.mark.rotating
def test_parameters_are_gathered_and_activations_are_not():
  result = subprocess.run(
    [sys.executable, '-c', SCRIPT],
    cwd=ROOT,
    env={
      **os.environ,
      'XLA_FLAGS': '--xla_force_host_platform_device_count=8'
      ' --xla_backend_optimization_level=0',
      'JAX_PLATFORMS': 'cpu',
    },
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  exchanged = json.loads(result.stdout)
  # The feed-forward part's parameters: [C, 4C], and back.
  assert [256, 1024] in exchanged
  assert [1024, 256] in exchanged
  # The blocks' maps are of 5 x 5 positions, which nothing else is.
  assert not [shape for shape in exchanged if 5 in shape or 25 in shape]


@pytest.mark.parametrize('name', ['batch', batch_sharding.SLICES_AXIS])
def test_in_the_program_of_others_nothing_is_averaged(name):
  # As where a model is a part of somebody's own `shard_map`.
  mesh = Mesh(np.array(jax.devices()[:1]), (name,))
  seen = []

  def compute(x):
    seen.append(batch_sharding.has_own_images())
    return batch_sharding.draw_for_batch(jnp.ones, len(x))

  jax.shard_map(
    compute,
    mesh=mesh,
    in_specs=PartitionSpec(name),
    out_specs=PartitionSpec(name),
  )(jnp.zeros(3))
  assert seen == [False]

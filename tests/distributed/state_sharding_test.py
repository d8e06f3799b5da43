"""Every variant's shardings on several meshes, against a golden file.

    python -m tests.distributed.state_sharding_test

writes the file anew; what changed is to be read.
"""

import gzip
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from coatnet_jax import list_variants
from coatnet_jax.distributed.mesh import AXES
from coatnet_jax.distributed.state_sharding import (
  compute_state_shardings,
  find_rule,
)
from coatnet_jax.errors import UserError
from coatnet_jax.initial_state import abstract_train_state
from coatnet_jax.run import create_run
from configs import coatnet_0
from tests.quick_models import create_traced_model

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'shardings.json.gz'
MESHES = {
  'data 8': (1, 8, 1, 1),
  'fsdp 8': (1, 1, 8, 1),
  'data 4, fsdp 64': (1, 4, 64, 1),
  '2 replicas, data 2, fsdp 16, tensor 2': (2, 2, 16, 2),
}


def create_mesh(**sizes):
  return AbstractMesh(tuple(sizes.get(axis, 1) for axis in AXES), AXES)


def list_leaves(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def compute_shapes(name):
  model = create_traced_model(name)
  return jax.eval_shape(
    lambda key: model.lazy_init(
      key,
      jax.ShapeDtypeStruct((1, *model.variant.image_size, 3), jnp.float32),
      train=False,
    ),
    jax.random.key(0),
  )


def describe_shardings(name):
  """Returns for each mesh the shardings of what is divided."""
  shapes = compute_shapes(name)
  described = {}
  for mesh_name, sizes in MESHES.items():
    try:
      shardings = compute_state_shardings(shapes, AbstractMesh(sizes, AXES))
    except UserError as error:
      described[mesh_name] = str(error)
      continue
    described[mesh_name] = {
      name: list(sharding.spec)
      for name, sharding in list_leaves(shardings).items()
      if sharding.spec
    }
  return described


def test_every_variant_is_in_the_golden_file():
  golden = json.loads(gzip.decompress(GOLDEN.read_bytes()))
  assert sorted(golden) == sorted(list_variants())


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize('part', range(3))
def test_every_variant_on_several_meshes(part):
  golden = json.loads(gzip.decompress(GOLDEN.read_bytes()))
  for name in sorted(golden)[part::3]:
    assert describe_shardings(name) == golden[name], name


@pytest.mark.parametrize('name', ['coatnet_0', 'coatnet_7', 'cnn_stem_vit'])
def test_a_variant_on_several_meshes(name):
  golden = json.loads(gzip.decompress(GOLDEN.read_bytes()))
  assert describe_shardings(name) == golden[name]


def test_optimizer_state_and_averages_follow_their_parameters():
  array = jax.ShapeDtypeStruct((256, 1024), jnp.float32)
  tree = {'s3_block_1': {'ffn_expand': {'kernel': array}}}
  state = {
    'params': tree,
    'opt_state': ({'mu': tree, 'nu': tree, 'count': jnp.zeros(())},),
    'ema': {'params': tree},
  }
  shardings = list_leaves(
    compute_state_shardings(state, create_mesh(fsdp=4, tensor=2))
  )
  assert shardings.pop('opt_state/0/count').spec == PartitionSpec()
  assert {s.spec for s in shardings.values()} == {
    PartitionSpec('fsdp', 'tensor')
  }
  assert len(shardings) == 4


@pytest.mark.parametrize(
  ('shape', 'spec'),
  [
    ((256, 1024), PartitionSpec(None, 'fsdp')),
    ((1024, 256), PartitionSpec(None, 'fsdp')),
    # The axis of the rule cannot be divided; the other one can.
    ((256, 1023), PartitionSpec('fsdp')),
    ((255, 1023), PartitionSpec()),
    ((64, 64), PartitionSpec()),
  ],
)
def test_fsdp_takes_an_axis_that_it_divides(shape, spec):
  tree = {'expand': {'kernel': jax.ShapeDtypeStruct(shape, jnp.float32)}}
  shardings = compute_state_shardings(tree, create_mesh(data=2, fsdp=4))
  assert shardings['expand']['kernel'].spec == spec


def test_an_eighth_of_a_state_is_on_one_of_8_devices():
  config = coatnet_0.get_config()
  config.data.source = 'synthetic'
  config.data.synthetic_examples = 1_281_167
  config.training.ema_decay = 0.9999
  _, state = abstract_train_state(create_run(config))
  arrays = list_leaves(state)
  assert {'params', 'opt_state', 'ema'} < {
    name.split('/')[0] for name in arrays
  }
  shardings = list_leaves(compute_state_shardings(state, create_mesh(fsdp=8)))
  whole = sum(array.size for array in arrays.values())
  part = sum(
    math.prod(shardings[name].shard_shape(array.shape))
    for name, array in arrays.items()
  )
  assert part <= whole / 7


def test_a_tensor_axis_must_divide_the_heads():
  with pytest.raises(
    UserError, match=r'tensor is 8; .* divide the 12 heads .*s3_block_0'
  ):
    compute_state_shardings(compute_shapes('coatnet_0'), create_mesh(tensor=8))


def test_a_parameter_without_a_rule_is_an_error():
  with pytest.raises(ValueError, match=r'No rule .* for params/token_mixer'):
    find_rule('params/token_mixer', (4, 4))
  with pytest.raises(ValueError, match='is for 2 axes; x/ffn_expand/kernel'):
    find_rule('x/ffn_expand/kernel', (4,))


if __name__ == '__main__':
  shardings = {name: describe_shardings(name) for name in list_variants()}
  text = json.dumps(shardings, indent=0, sort_keys=True).encode()
  GOLDEN.write_bytes(gzip.compress(text, mtime=0))

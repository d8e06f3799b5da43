"""Frozen parameters and parts: in masks, in a train step, in a run."""

import collections
import functools
import re
import shutil
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

import train
from coatnet_jax.checkpoints import resuming, saving
from coatnet_jax.checkpoints.metadata import Metadata, Progress
from coatnet_jax.distributed.mesh import AXES
from coatnet_jax.distributed.state_sharding import compute_state_shardings
from coatnet_jax.errors import UserError
from coatnet_jax.initial_state import abstract_train_state
from coatnet_jax.models import variants
from coatnet_jax.models.compute_options import ComputeOptions
from coatnet_jax.models.factory import create_model
from coatnet_jax.run import create_run
from coatnet_jax.training import freezing
from coatnet_jax.training.train_step import train_step
from configs import quickstart
from tests.quick_configs import create_quick_config
from tests.quick_models import apply_in_training

PARAMS = {
  's0_norm': {'bias': 0, 'scale': 0},
  's1_block_0': {'expand': {'kernel': 0}, 'shrink': {'bias': 0}},
  's1_block_10': {'expand': {'kernel': 0}},
  'position_embedding': 0,
  'head_logits': {'kernel': 0},
}


def test_a_pattern_is_searched_in_the_whole_name():
  mask = freezing.compute_frozen_mask(
    PARAMS, ('^s1_block_1', r'expand/k', 'ed')
  )
  assert mask == {
    's0_norm': {'bias': False, 'scale': False},
    's1_block_0': {'expand': {'kernel': True}, 'shrink': {'bias': False}},
    's1_block_10': {'expand': {'kernel': True}},
    'position_embedding': True,
    'head_logits': {'kernel': False},
  }


def test_a_part_is_frozen_if_all_of_it_is():
  patterns = ('expand', 'position', 'norm/')
  assert set(freezing.find_frozen_modules(PARAMS, patterns)) == {
    's0_norm',
    's1_block_10',
    'position_embedding',
  }


def test_frozen_numbers_are_counted():
  params = {
    's0': {'kernel': np.ones((3, 5)), 'bias': np.ones(5)},
    'head': np.ones(7),
  }
  assert freezing.count_frozen(params, ('s0',)) == 20
  assert freezing.count_frozen(params, ('kernel', 'd$')) == 22


def test_patterns_that_match_nothing_are_named():
  with pytest.raises(
    UserError, match=r"frozen has '\^S1', 'conv', found .* head_logits/kernel"
  ):
    freezing.compute_frozen_mask(PARAMS, ('^S1', 'norm', 'conv'))


@pytest.mark.parametrize('patterns', [('',), ('^s', 'pos', 'head')])
def test_freezing_everything_is_refused(patterns):
  with pytest.raises(UserError, match='freezes all 7 parameters'):
    freezing.compute_frozen_mask(PARAMS, patterns)


def _config(frozen, **training):
  config = create_quick_config(
    {'model.stochastic_depth_rate': 0.5, 'optimizer.frozen': frozen}
  )
  config.training.global_batch_size = 12
  config.training.ema_decay = 0.9
  config.training.update(training)
  return config


def _abstract(frozen, **training):
  run = create_run(_config(frozen, **training))
  return run, abstract_train_state(run)


def _count_operations(function, *arguments):
  """Counts the products and convolutions of a compiled program."""
  text = jax.jit(function).lower(*arguments).compile().as_text()
  return collections.Counter(re.findall(r' (dot|convolution)\(', text))


@pytest.mark.usefixtures('tiny_variant')
def test_a_step_moves_what_is_not_frozen():
  # S0 whole; of S1 only a part, so that it is trained.
  frozen = ('^s0_', '^s1_block_0/expand/')
  run, (_, abstract_state) = _abstract(frozen, gradient_accumulation_steps=3)
  rng = np.random.default_rng(0)
  # Statistics too, whose mean over three parts is not always exact.
  state = jax.tree.map(
    lambda x: rng.uniform(0.01, 0.1, x.shape).astype(x.dtype),
    abstract_state.replace(key=None),
  ).replace(key=jax.random.key(0))
  batch = {
    'image': rng.integers(0, 256, (12, 28, 28, 3), np.uint8),
    'label': np.arange(12, dtype=np.int32) % 10,
  }
  new_state, metrics = jax.jit(functools.partial(train_step, run=run))(
    state, batch
  )
  assert np.isfinite(float(metrics['gradient_norm']))
  moved = {
    jax.tree_util.keystr(path, simple=True, separator='/'): bool(
      (after != before).any()
    )
    for (path, after), before in zip(
      jax.tree_util.tree_leaves_with_path(new_state.variables),
      jax.tree.leaves(state.variables),
      strict=True,
    )
  }
  still = ('params/s0_', 'params/s1_block_0/expand/', 'batch_stats/s0_')
  for name, has_moved in moved.items():
    assert has_moved != name.startswith(still), name
  assert moved['batch_stats/s1_block_0/pre_norm/mean']


@pytest.mark.usefixtures('tiny_variant')
def test_a_linear_probe_computes_one_forward_pass_and_a_product():
  run, (_, abstract_state) = _abstract(('^(?!head_logits/)',))
  step = _count_operations(
    functools.partial(train_step, run=run), abstract_state, run.abstract_batch
  )
  forward = _count_operations(
    lambda variables, images: run.model.apply(variables, images, train=False),
    abstract_state.variables,
    jax.ShapeDtypeStruct((12, 28, 28, 3), jnp.float32),
  )
  # The gradient of the kernel; that of the features is not wanted.
  assert step['dot'] == forward['dot'] + 1
  assert step['convolution'] == forward['convolution'] > 0


def _create_variables(model):
  """Returns random variables, and images."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(
    lambda key: model.lazy_init(
      key, jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32), train=False
    ),
    jax.random.key(0),
  )
  variables = jax.tree.map(
    lambda leaf: rng.uniform(0.1, 0.5, leaf.shape).astype(np.float32), shapes
  )
  return variables, rng.normal(size=(4, 8, 8, 3)).astype(np.float32)


KEY = jax.random.key(1)
SMALL = {
  'coatnet_0': {
    'stem': {'widths': (4, 4)},
    'stages': (variants.Stage((variants.BlockGroup('mbconv', 4, 4),), 1),),
  },
  'cnn_stem_vit': {'stem_widths': (4,), 'width': 8, 'depth': 2, 'num_heads': 2},
}


@pytest.mark.parametrize('name', SMALL)
def test_a_frozen_model_is_computed_as_in_evaluation(name):
  model = create_model(
    name, num_classes=3, stochastic_depth_rate=0.9, **SMALL[name]
  )
  variables, images = _create_variables(model)
  frozen = freezing.freeze_modules(
    model, variables['params'], ('^(?!head_logits/)',)
  )

  @jax.jit
  def compute(variables):
    logits, updates = apply_in_training(frozen, variables, images, KEY)
    return (
      model.apply(variables, images, train=False),
      logits,
      updates['batch_stats'],
    )

  expected, found, batch_stats = compute(variables)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  jax.tree.map(
    np.testing.assert_array_equal, batch_stats, variables['batch_stats']
  )


def test_some_of_equal_blocks_are_frozen_scanned_or_not():
  model = create_model(
    'coatnet_0', num_classes=3, stochastic_depth_rate=0.9, **SMALL['coatnet_0']
  )
  variables, images = _create_variables(model)
  names = ('s1_block_1', 's1_block_2')

  @jax.jit
  def compute(variables):
    return [
      apply_in_training(
        model.clone(
          frozen=names, compute=ComputeOptions(scan_blocks=scan_blocks)
        ),
        variables,
        images,
        KEY,
      )
      for scan_blocks in (False, True)
    ]

  plain, scanned = compute(variables)
  np.testing.assert_allclose(plain[0], scanned[0], rtol=1e-4)
  for _, updates in (plain, scanned):
    for name, stats in updates['batch_stats'].items():
      for after, before in zip(
        jax.tree.leaves(stats),
        jax.tree.leaves(variables['batch_stats'][name]),
        strict=True,
      ):
        assert bool((after == before).all()) == (name in names), name


def test_moments_lie_where_their_parameters_do():
  array = jax.ShapeDtypeStruct((256, 1024), jnp.float32)
  params = {
    's3_block_1': {'ffn_expand': {'kernel': array}},
    's4_block_1': {'ffn_expand': {'kernel': array}},
  }
  tx = optax.chain(freezing.freeze(optax.adamw(0.1), ('s3',)), optax.identity())
  mesh = AbstractMesh((1, 1, 4, 2), AXES)
  shardings = jax.tree.leaves(
    compute_state_shardings(jax.eval_shape(tx.init, params), mesh)
  )
  specs = [sharding.spec for sharding in shardings]
  assert specs.count(PartitionSpec('fsdp', 'tensor')) == 2
  assert specs.count(PartitionSpec()) == len(specs) - 2


@flax.struct.dataclass
class State:
  step: jax.Array
  opt_state: Any


def test_a_frozen_state_is_saved_and_restored(tmp_path):
  params = {'s0_conv_0': {'kernel': jnp.ones(2)}, 'head_logits': jnp.ones(3)}
  tx = freezing.freeze(optax.adamw(0.1), ('s0',))
  state = jax.tree.map(lambda x: x + 1, tx.init(params))
  manager = saving.open_checkpoints(
    str(tmp_path),
    saving.CheckpointOptions(**quickstart.get_config().checkpoint),
    print,
  )
  saving.save_checkpoint(
    manager,
    State(jnp.int32(1), state),
    step=1,
    progress=Progress(),
    metadata=Metadata(model={}, preprocessing={}, class_names=(), config={}),
  )
  manager.wait_until_finished()
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  restored, _ = resuming.restore_newest(
    manager,
    jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
      State(jnp.int32(0), state),
    ),
    print,
    examples_per_step=0,
  )
  restored = restored.opt_state
  manager.close()
  jax.tree.map(np.testing.assert_array_equal, restored, state)
  # The moments of the head, and how often they were updated.
  assert [leaf.shape for leaf in jax.tree.leaves(restored)] == [(), (3,), (3,)]


@pytest.mark.usefixtures('tiny_variant')
def test_bad_patterns_are_refused_before_anything_is_written(tmp_path):
  with pytest.raises(UserError, match="'encoder', found in the name of no"):
    train.train_and_evaluate(_config(('encoder',)), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
@pytest.mark.usefixtures('tiny_variant')
def test_a_frozen_run_goes_on(tmp_path):
  config = _config(('^s[01]_',), num_steps=2)
  config.data.eval_split = 'test[:50]'
  config.checkpoint.every_steps = 1
  config.optimizer.layer_decay = 0.5
  config.optimizer.name = 'lamb'
  workdir = str(tmp_path / 'run')
  state = train.train_and_evaluate(config, workdir)
  # As if the run had been killed after its first step.
  shutil.rmtree(tmp_path / 'run/checkpoints/2')
  again = train.train_and_evaluate(config, workdir)
  jax.tree.map(
    np.testing.assert_array_equal,
    (again.params, again.opt_state, again.ema),
    (state.params, state.opt_state, state.ema),
  )

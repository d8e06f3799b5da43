"""What is not finite is found wherever it lies, named, and not saved."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.training import finite, training_log
from coatnet_jax.training.train_state import TrainState
from tests.training.quick_log import create_quick_log


def create_state():
  """A state with every part that there is, of three layers."""
  params = {
    'head_logits': {'kernel': jnp.ones((2, 3))},
    's0_norm': {'scale': jnp.ones(2)},
    's1_block_0': {'expand': {'kernel': jnp.ones((2, 2))}},
  }
  batch_stats = {'s0_norm': {'mean': jnp.zeros(2), 'var': jnp.ones(2)}}
  return TrainState(
    step=jnp.int32(4),
    params=params,
    batch_stats=batch_stats,
    opt_state=({'mu': params, 'count': jnp.int32(4)},),
    ema={'params': params, 'batch_stats': batch_stats},
    key=jax.random.key(0),
  )


def poison(state, name, value):
  """Returns the state with one number of one array replaced."""

  def change(path, leaf):
    if jax.tree_util.keystr(path, simple=True, separator='/') != name:
      return leaf
    return leaf.ravel().at[-1].set(value).reshape(leaf.shape)

  return jax.tree_util.tree_map_with_path(change, state)


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
  'name',
  [
    'params/head_logits/kernel',
    'batch_stats/s0_norm/var',
    'opt_state/0/mu/s1_block_0/expand/kernel',
    'ema/params/s0_norm/scale',
    'ema/batch_stats/s0_norm/mean',
  ],
)
def test_one_number_anywhere_ends_the_run(name, value):
  log = create_quick_log()
  log.add(4, {'loss': np.float32(1), 'learning_rate': np.float32(0.25)})
  log.report()
  log.check_state(4, create_state())
  with pytest.raises(training_log.DivergenceError) as error:
    log.check_state(4, poison(create_state(), name, value))
  assert (
    f'Training diverged at step 4 or before: {name} is not finite;'
    ' learning rate 0.25, loss 1.'
  ) in str(error.value)
  assert error.value.step == 4


def test_the_first_is_the_one_nearest_to_the_image():
  broken = jax.tree.map(lambda leaf: leaf / 0, create_state().params)
  names = finite.find_not_finite(broken)
  assert names == [
    's0_norm/scale',
    's1_block_0/expand/kernel',
    'head_logits/kernel',
  ]
  assert finite.describe_names(names) == (
    's0_norm/scale and 2 other arrays are not finite'
  )


def test_every_dtype_of_a_state_is_looked_at_or_has_no_nan():
  tree = {
    'a': jnp.array([1, jnp.nan], jnp.bfloat16),
    'b': jnp.array([1, jnp.inf], jnp.float16),
    'c': jnp.int32(2**31 - 1),
    'd': jax.random.key(3),
    'e': np.array([np.nan]),
    'f': np.full(3, np.finfo(np.float32).max),
  }
  assert finite.find_not_finite(tree) == ['a', 'b', 'e']

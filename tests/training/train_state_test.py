import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import coatnet_jax
from coatnet_jax.training.train_state import TrainState, create_train_state


def _state(ema, step=0):
  variables = {'params': {'w': jnp.float32(3)}, 'batch_stats': {}}
  return TrainState(
    step=jnp.int32(step),
    params=variables['params'],
    batch_stats={'mean': jnp.float32(8)},
    opt_state=(),
    ema=ema and {'params': {'w': jnp.float32(1)}, 'batch_stats': {'mean': 0.0}},
    key=jax.random.key(0),
  )


def test_averages_cover_parameters_and_batch_statistics():
  ema = _state(True, step=10**6).update_ema(0.75, warmup=True).ema
  assert float(ema['params']['w']) == pytest.approx(0.75 * 1 + 0.25 * 3)
  assert float(ema['batch_stats']['mean']) == pytest.approx(0.25 * 8)


@pytest.mark.parametrize(
  ('step', 'decay'), [(1, 2 / 11), (10, 11 / 20), (90, 0.9), (1000, 0.9)]
)
def test_averages_forget_the_start(step, decay):
  ema = _state(True, step).update_ema(0.9, warmup=True).ema
  expected = decay * 1 + (1 - decay) * 3
  if step == 90:
    expected = 0.9 * 1 + 0.1 * 3
  assert float(ema['params']['w']) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('step', [0, 1, 10, 1000])
@pytest.mark.parametrize('decay', [0.5, 0.9, 0.9999])
def test_without_warmup_the_decay_is_the_same_at_every_step(step, decay):
  ema = _state(True, step).update_ema(decay, warmup=False).ema
  expected = decay * 1 + (1 - decay) * 3
  assert float(ema['params']['w']) == pytest.approx(expected, rel=1e-6)


def test_evaluation_uses_averages_where_there_are_any():
  state = _state(True)
  assert state.eval_variables is state.ema
  state = _state(None).update_ema(0.9, warmup=True)
  assert state.ema is None
  assert state.eval_variables == {
    'params': state.params,
    'batch_stats': state.batch_stats,
  }


def test_initialisation_is_that_of_the_model():
  model = coatnet_jax.create_model('coatnet_mini', num_classes=3)
  state = jax.jit(
    lambda key: create_train_state(
      key,
      model=model,
      tx=optax.sgd(0.1, momentum=0.9),
      image_size=(28, 28),
      use_ema=True,
    )
  )(jax.random.key(7))
  images = np.zeros((1, 28, 28, 3), np.float32)
  init_key, _ = jax.random.split(jax.random.key(7))
  expected = jax.jit(lambda x: model.init(init_key, x, train=False))(images)

  def assert_close(actual, desired):
    np.testing.assert_allclose(actual, desired, rtol=1e-6)

  jax.tree.map(assert_close, state.variables, dict(expected))
  jax.tree.map(np.testing.assert_array_equal, state.ema, state.variables)
  assert int(state.step) == 0


class _NoBatchNorm(nn.Module):
  @nn.compact
  def __call__(self, images, *, train):
    return nn.Dense(2)(images.mean((1, 2)))


def test_a_model_without_batch_norm_has_no_statistics():
  state = jax.eval_shape(
    lambda key: create_train_state(
      key,
      model=_NoBatchNorm(),
      tx=optax.sgd(0.1),
      image_size=(4, 4),
      use_ema=True,
    ),
    jax.random.key(0),
  )
  assert state.batch_stats == {}
  assert state.ema == state.variables

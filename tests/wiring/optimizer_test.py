"""`config.optimizer`: what it does to parameters, with the rates of a run."""

import jax
import numpy as np
import pytest

from tests.wiring import runs
from tests.wiring.registry import proves

RATE = 0.01
# A parameter of each depth, of those that decay and those that do not.
PARAMS = {
  's0_conv_0': {'kernel': np.full(4, 2.0, np.float32)},
  's1_block_0': {
    'expand': {'kernel': np.full(4, 2.0, np.float32)},
    'norm': {'scale': np.full(4, 2.0, np.float32)},
  },
  'head_logits': {
    'kernel': np.full(4, 2.0, np.float32),
    'bias': np.full(4, 2.0, np.float32),
  },
}


def _gradient(value):
  return jax.tree.map(lambda leaf: np.full_like(leaf, value), PARAMS)


def _update(*gradients, **optimizer):
  """Returns the first number of each parameter's last update."""
  changes = {f'optimizer.{name}': value for name, value in optimizer.items()}
  a_run = runs.create_run(changes)
  updates = runs.apply_updates(
    a_run, PARAMS, [_gradient(value) for value in gradients]
  )
  return jax.tree.map(lambda leaf: float(leaf[0]), updates[-1])


def _head(*gradients, **optimizer):
  return _update(*gradients, **optimizer)['head_logits']


def _adam(gradients, b1=0.9, b2=0.999, eps=1e-8):
  """Returns Adam's update (arXiv 1412.6980, Algorithm 1), written anew."""
  first = second = 0.0
  for gradient in gradients:
    first = b1 * first + (1 - b1) * gradient
    second = b2 * second + (1 - b2) * gradient**2
  count = len(gradients)
  first, second = first / (1 - b1**count), second / (1 - b2**count)
  return -RATE * first / (second**0.5 + eps)


def _check_memory(**decay):
  """Compares with Adam's, with a changed decay and with the defaults."""
  gradients = (1.0, -2.0, 0.5)
  for optimizer in (decay, {}):
    update = _head(*gradients, **optimizer)
    expected = _adam(gradients, **optimizer)
    assert update['bias'] == pytest.approx(expected, rel=1e-3)


@proves('optimizer.name')
def test_lamb_moves_kernels_by_their_own_size():
  adam, lamb = _head(3.0, name='adamw'), _head(3.0, name='lamb')
  assert adam == pytest.approx({'kernel': -RATE, 'bias': -RATE}, rel=1e-4)
  assert lamb == pytest.approx({'kernel': -2 * RATE, 'bias': -RATE}, rel=1e-4)


@proves('optimizer.b1')
@pytest.mark.parametrize('b1', [0.0, 0.5])
def test_b1_is_how_long_gradients_are_remembered(b1):
  _check_memory(b1=b1)


@proves('optimizer.b2')
@pytest.mark.parametrize('b2', [0.5, 0.95])
def test_b2_is_how_long_squares_are_remembered(b2):
  _check_memory(b2=b2)


@proves('optimizer.eps')
def test_eps_holds_small_gradients_back():
  assert _head(1e-3)['bias'] == pytest.approx(-RATE, rel=1e-3)
  assert _head(1e-3, eps=1e-3)['bias'] == pytest.approx(-RATE / 2, rel=1e-3)


@proves('optimizer.weight_decay')
def test_kernels_lose_a_part_of_themselves_times_the_rate():
  for decay in (0.0, 0.3):
    update = _head(0.0, weight_decay=decay)
    assert update == pytest.approx(
      {'kernel': -RATE * decay * 2.0, 'bias': 0}, rel=1e-4
    )


@proves('optimizer.clip_norm')
def test_gradients_are_scaled_down_to_a_norm():
  # 20 numbers of 1 have a norm of 4.47; eps shows the size that Adam sees.
  for clip_norm, gradient in ((0.0, 1.0), (0.5, 0.5 / 20**0.5), (9.0, 1.0)):
    update = _head(1.0, clip_norm=clip_norm, eps=1.0)
    assert update['bias'] == pytest.approx(_adam([gradient], eps=1.0), rel=1e-4)


@proves('optimizer.layer_decay')
def test_layers_learn_slower_the_nearer_they_are_to_the_picture():
  for decay in (1.0, 0.5):
    update = _update(1.0, layer_decay=decay)
    assert update['head_logits'] == pytest.approx(
      {'kernel': -RATE, 'bias': -RATE}, rel=1e-4
    )
    block = update['s1_block_0']
    assert block['norm']['scale'] == pytest.approx(-RATE * decay, rel=1e-4)
    assert block['expand']['kernel'] == pytest.approx(-RATE * decay, rel=1e-4)
    assert update['s0_conv_0']['kernel'] == pytest.approx(
      -RATE * decay**2, rel=1e-4
    )

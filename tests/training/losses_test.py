"""Losses against float64 definitions, gradients, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.training import losses


def _options(kind='softmax', label_smoothing=0.0):
  return losses.LossOptions(kind=kind, label_smoothing=label_smoothing)


def _random_examples(batch=5, num_classes=7):
  rng = np.random.default_rng(1)
  logits = 3 * rng.normal(size=(batch, num_classes))
  targets = rng.dirichlet(np.ones(num_classes), size=batch)
  return logits.astype(np.float32), targets.astype(np.float32)


def _smooth(kind, targets, smoothing):
  targets = np.float64(targets)
  if kind == 'softmax':
    return (1 - smoothing) * targets + smoothing / targets.shape[1]
  # Present: 1 - s; absent: s.
  return targets * (1 - smoothing) + (1 - targets) * smoothing


def _compute_in_float64(kind, logits, targets, smoothing):
  logits, targets = np.float64(logits), _smooth(kind, targets, smoothing)
  if kind == 'softmax':
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return -(targets * np.log(probabilities)).sum(1)
  probabilities = 1 / (1 + np.exp(-logits))
  return -(
    targets * np.log(probabilities) + (1 - targets) * np.log(1 - probabilities)
  ).sum(1)


@pytest.mark.parametrize(
  ('kind', 'smoothing', 'expected'),
  [
    # Logits (log 2, 0, 0) are probabilities 1/2, 1/4, 1/4; class 0 is right.
    ('softmax', 0.0, np.log(2)),
    # Targets 0.8, 0.1, 0.1.
    ('softmax', 0.3, 0.8 * np.log(2) + 0.2 * np.log(4)),
    # Binary probabilities 2/3, 1/2, 1/2.
    ('sigmoid', 0.0, np.log(1.5) + 2 * np.log(2)),
    # Targets 0.9, 0.1, 0.1.
    ('sigmoid', 0.1, 0.9 * np.log(1.5) + 0.1 * np.log(3) + 2 * np.log(2)),
  ],
)
def test_known_answers(kind, smoothing, expected):
  loss = losses.compute_loss(
    jnp.array([[np.log(2), 0.0, 0.0]]),
    jnp.array([[1.0, 0.0, 0.0]]),
    options=_options(kind, smoothing),
  )
  np.testing.assert_allclose(loss, [expected], rtol=1e-6)


@pytest.mark.parametrize('smoothing', [0.0, 0.0001, 0.1])
@pytest.mark.parametrize('kind', ['softmax', 'sigmoid'])
def test_equals_the_float64_definition(kind, smoothing):
  logits, targets = _random_examples()
  loss = jax.jit(losses.compute_loss, static_argnames='options')(
    logits, targets, options=_options(kind, smoothing)
  )
  assert loss.shape == (5,)
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(
    loss, _compute_in_float64(kind, logits, targets, smoothing), rtol=1e-5
  )


@pytest.mark.parametrize('kind', ['softmax', 'sigmoid'])
def test_gradient_is_probability_minus_target(kind):
  logits, targets = _random_examples()
  gradient = jax.grad(
    lambda x: losses.compute_loss(x, targets, options=_options(kind, 0.1)).sum()
  )(logits)
  z = np.float64(logits)
  probabilities = {
    'softmax': np.exp(z) / np.exp(z).sum(1, keepdims=True),
    'sigmoid': 1 / (1 + np.exp(-z)),
  }[kind]
  np.testing.assert_allclose(
    gradient, probabilities - _smooth(kind, targets, 0.1), atol=1e-6
  )


@pytest.mark.parametrize(
  ('kind', 'smoothing', 'expected'),
  [
    ('softmax', 0.0, 2e4),
    # Targets 1/20, 1/20, 18/20, of which the last has the largest logit less
    # 20,000; the middle one is 10,000 less.
    ('softmax', 0.15, 0.9 * 2e4 + 0.05 * 1e4),
    # The first is wrong by 10,000, the last too; the middle one is a coin.
    ('sigmoid', 0.0, 2e4 + np.log(2)),
  ],
)
def test_logits_of_ten_thousand(kind, smoothing, expected):
  logits = jnp.array([[1e4, 0.0, -1e4]])
  targets = jnp.array([[0.0, 0.0, 1.0]])
  loss, gradient = jax.value_and_grad(
    lambda x: losses.compute_loss(
      x, targets, options=_options(kind, smoothing)
    ).sum()
  )(logits)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize('kind', ['softmax', 'sigmoid'])
def test_bfloat16_logits_are_computed_in_float32(kind):
  logits, targets = _random_examples()
  rounded = jnp.asarray(logits, jnp.bfloat16)
  loss = losses.compute_loss(rounded, targets, options=_options(kind, 0.1))
  assert loss.dtype == jnp.float32
  np.testing.assert_array_equal(
    loss,
    losses.compute_loss(
      rounded.astype(jnp.float32), targets, options=_options(kind, 0.1)
    ),
  )


def test_integer_labels_become_one_hot():
  targets = losses.create_soft_targets(jnp.array([2, 0], jnp.int32), 3)
  assert targets.dtype == jnp.float32
  np.testing.assert_array_equal(targets, [[0, 0, 1], [1, 0, 0]])


def test_soft_labels_stay():
  soft = jnp.array([[0.25, 0.75], [1.0, 0.0]], jnp.bfloat16)
  targets = losses.create_soft_targets(soft, 2)
  assert targets.dtype == jnp.float32
  np.testing.assert_array_equal(targets, [[0.25, 0.75], [1.0, 0.0]])


@pytest.mark.parametrize(
  'labels',
  [
    jnp.zeros((2, 4)),
    jnp.zeros((2, 3), jnp.int32),
    jnp.zeros(2),
    jnp.zeros((2, 3, 1)),
  ],
)
def test_other_labels_are_refused(labels):
  with pytest.raises(ValueError, match=r'\[B\] integers or \[B, 3\] floats'):
    losses.create_soft_targets(labels, 3)


@pytest.mark.parametrize(
  ('logits', 'targets'), [((4, 3), (1, 3)), ((4, 3), (4, 1)), ((3,), (3,))]
)
def test_other_shapes_are_refused(logits, targets):
  with pytest.raises(ValueError, match=r'both must be \[B, K\]'):
    losses.compute_loss(
      jnp.zeros(logits), jnp.zeros(targets), options=_options()
    )


@pytest.mark.parametrize(
  ('kind', 'smoothing', 'message'),
  [
    (
      'sofmax',
      0.1,
      "'sofmax'; it must be one of softmax, sigmoid; did you mean softmax",
    ),
    ('softmax', 1.0, 'label_smoothing is 1.0; .* below 1'),
    ('softmax', -0.1, 'label_smoothing is -0.1; .* at least 0'),
    ('softmax', float('nan'), 'label_smoothing is nan; it must be a number'),
    ('sigmoid', 0.5, "below 0.5 where config.loss.kind is 'sigmoid'"),
  ],
)
def test_options_refuse(kind, smoothing, message):
  with pytest.raises(UserError, match=message):
    _options(kind, smoothing)

"""Learning rates at known steps, durations, and what is refused."""

import itertools
import math

import jax
import jax.numpy as jnp
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.training import schedules

# The paper's ImageNet-1k recipe: 300 epochs of 1,281,167 images in batches of
# 4096, of which 10,000 steps are warm-up.
IMAGENET_STEPS_PER_EPOCH = 1_281_167 / 4096
IMAGENET_STEPS = 93_835

# Of a run of 110 steps with 10 of warm-up, 0.5 -> 0.1.
TWELVE_STEPS = (0, 1, 5, 9, 10, 11, 35, 60, 85, 109, 110, 500)


def _create(**changes):
  options = {
    'peak_learning_rate': 0.5,
    'min_learning_rate': 0.1,
    'warmup_steps': 10,
    'warmup_epochs': 0.0,
    'max_warmup_fraction': 0.0,
    'decay': 'cosine',
    'steps_per_epoch': 11,
    'num_steps': 110,
  }
  return schedules.create_learning_rate_schedule(**{**options, **changes})


def _expected(decay, step):
  if step < 10:
    return 0.05 * step
  done = min((step - 10) / 100, 1.0)
  return {
    # cos^2(x/2) = (1 + cos x) / 2
    'cosine': 0.1 + 0.4 * math.cos(math.pi * done / 2) ** 2,
    'linear': 0.5 - 0.4 * done,
    'constant': 0.5,
  }[decay]


@pytest.mark.parametrize('decay', ['cosine', 'linear', 'constant'])
def test_twelve_steps(decay):
  schedule = _create(decay=decay)
  for step in TWELVE_STEPS:
    expected = pytest.approx(_expected(decay, step), rel=1e-6, abs=1e-9)
    assert float(schedule(step)) == expected, step
    # As the train step calls it.
    traced = jax.jit(schedule)(jnp.int32(step))
    assert traced.dtype == jnp.float32
    assert float(traced) == expected, step


@pytest.mark.parametrize(
  ('step', 'expected'),
  [
    (0, 0.0),
    (1, 1e-7),
    (2_500, 2.5e-4),
    (5_000, 5e-4),
    (9_999, 9.999e-4),
    (10_000, 1e-3),
    # A quarter, a half, three quarters of the 83,835 steps of decay:
    # 1e-5 + 9.9e-4 * (1 + cos(pi * done)) / 2.
    (10_000 + 83_835 // 4, 8.55021e-4),
    (10_000 + 83_835 // 2, 5.05009e-4),
    (10_000 + 83_835 * 3 // 4, 1.54985e-4),
    (IMAGENET_STEPS - 1, 1e-5),
    (IMAGENET_STEPS, 1e-5),
    (IMAGENET_STEPS + 1, 1e-5),
  ],
)
def test_paper_imagenet_1k(step, expected):
  num_steps = schedules.resolve_steps(
    name='training.num',
    steps=0,
    epochs=300.0,
    steps_per_epoch=IMAGENET_STEPS_PER_EPOCH,
  )
  assert num_steps == IMAGENET_STEPS
  schedule = _create(
    peak_learning_rate=1e-3,
    min_learning_rate=1e-5,
    warmup_steps=10_000,
    steps_per_epoch=IMAGENET_STEPS_PER_EPOCH,
    num_steps=num_steps,
  )
  assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)


def test_paper_finetuning_is_constant_from_the_first_step():
  schedule = _create(
    peak_learning_rate=5e-5,
    min_learning_rate=5e-5,
    warmup_steps=0,
    decay='constant',
  )
  assert [float(schedule(step)) for step in (0, 55, 110)] == [5e-5] * 3


def test_warmup_in_epochs_is_the_same_schedule():
  in_steps, in_epochs = (
    _create(warmup_steps=22),
    _create(warmup_steps=0, warmup_epochs=2.0),
  )
  for step in range(0, 111, 10):
    assert float(in_epochs(step)) == float(in_steps(step))
  assert float(in_epochs(22)) == 0.5


@pytest.mark.parametrize('decay', ['cosine', 'linear', 'constant'])
def test_warmup_may_be_the_whole_run(decay):
  schedule = _create(decay=decay, warmup_steps=110)
  assert float(schedule(55)) == pytest.approx(0.25)
  assert float(schedule(110)) == pytest.approx(0.5)


@pytest.mark.parametrize('decay', ['cosine', 'linear'])
def test_decay_never_rises(decay):
  rates = [float(_create(decay=decay)(step)) for step in range(10, 120)]
  assert all(a >= b for a, b in itertools.pairwise(rates))


@pytest.mark.parametrize(
  ('steps', 'epochs', 'expected'),
  [
    (7, 0, 7),
    (0, 2, 6),
    (0, 0.5, 2),
    (0, 90.4, 271),
    (0, 0.0, 0),
    # A period is never 0 steps by rounding.
    (0, 0.01, 1),
  ],
)
def test_resolve_steps(steps, epochs, expected):
  resolved = schedules.resolve_steps(
    name='evaluation.every', steps=steps, epochs=epochs, steps_per_epoch=3
  )
  assert resolved == expected
  assert type(resolved) is int


@pytest.mark.parametrize(
  ('steps', 'epochs', 'message'),
  [
    (1, 2.0, r'every_steps is 1 and config\.evaluation\.every_epochs is 2\.0'),
    (0, 1e9, r'every_epochs is 1000000000.0, which is 3,000,000,000 steps'),
  ],
)
def test_resolve_steps_refuses(steps, epochs, message):
  with pytest.raises(UserError, match=message):
    schedules.resolve_steps(
      name='evaluation.every', steps=steps, epochs=epochs, steps_per_epoch=3
    )


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'decay': 'cosin'}, 'one of cosine, linear, constant'),
    ({'warmup_epochs': 1.0}, 'schedule.warmup_epochs is 1.0; set the one'),
    ({'warmup_steps': 111}, '111 steps, more than the 110'),
    ({'num_steps': 0}, 'has 0 steps; it must have at least one'),
    ({'peak_learning_rate': 0.0}, 'peak_learning_rate is 0.0; .* above 0'),
    ({'peak_learning_rate': math.nan}, 'peak_learning_rate is nan'),
    ({'min_learning_rate': 0.6}, 'min_learning_rate is 0.6; .* at most'),
    ({'min_learning_rate': -0.1}, 'min_learning_rate is -0.1; .* at least'),
  ],
)
def test_schedule_refuses(changes, message):
  with pytest.raises(UserError, match=message):
    _create(**changes)


@pytest.mark.parametrize(
  ('num_steps', 'fraction', 'expected'),
  [
    (1000, 0.2, 78),
    (40, 0.2, 8),
    (3, 0.2, 0),
    (1, 0.2, 0),
    (100, 1.0, 78),
    (50, 1.0, 50),
    (78, 0.0, 78),
  ],
)
def test_warm_up_gives_way_where_it_may(num_steps, fraction, expected):
  warmup = schedules.resolve_warmup(
    warmup_steps=0,
    warmup_epochs=1.0,
    max_warmup_fraction=fraction,
    steps_per_epoch=78.125,
    num_steps=num_steps,
  )
  assert warmup == (expected, 78)

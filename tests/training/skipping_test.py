"""Steps that are not finite are skipped, counted, and not too many."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from coatnet_jax.checkpoints.metadata import Progress
from coatnet_jax.training import skipping, training_log
from tests.training.finite_test import create_state, poison
from tests.training.quick_log import create_quick_log

_METRICS = {'loss': 1.0, 'gradient_norm': 2.0, 'parameter_norm': 3.0}


def _skip(new_state, **metrics):
  metrics = {k: jnp.float32(v) for k, v in (_METRICS | metrics).items()}
  return skipping.skip_unless_finite(new_state, create_state(), metrics)


def _arrays(state):
  return jax.device_get(jax.tree.leaves(state.replace(key=None, step=None)))


@pytest.mark.parametrize(
  ('name', 'metrics'),
  [
    ('', {'loss': math.nan}),
    ('', {'gradient_norm': math.inf}),
    ('', {'parameter_norm': math.inf}),
    ('batch_stats/s0_norm/var', {}),
  ],
)
def test_what_is_not_finite_leaves_everything_but_the_step(name, metrics):
  before = create_state()
  new = jax.tree.map(lambda leaf: leaf + 1, before.replace(key=None))
  new = new.replace(key=before.key)
  for is_fine in (True, False):
    after, told = (
      _skip(new) if is_fine else _skip(poison(new, name, math.inf), **metrics)
    )
    assert float(told['skipped']) == (not is_fine)
    assert int(after.step) == 5
    expected = _arrays(new if is_fine else before)
    for one, other in zip(_arrays(after), expected, strict=True):
      np.testing.assert_array_equal(one, other)


def _add(log, step, *losses):
  for number, loss in enumerate(losses, step):
    metrics = {'loss': loss, 'skipped': not math.isfinite(loss)}
    log.add(number, {k: np.float32(v) for k, v in metrics.items()})


def test_skipped_steps_are_counted_and_in_no_mean():
  log = create_quick_log(max_skipped=3, skipped_before=1)
  _add(log, 1, 4.0, math.nan, 2.0)
  log.report()
  ((step, scalars),) = [a.args for a in log._writer.write_scalars.mock_calls]
  assert step == 3
  assert scalars['train/loss'] == 3
  assert scalars['train/skipped_steps'] == 2
  assert 'train_skipped' not in scalars
  (line,) = log._terminal.line.mock_calls[0].args
  assert line == (
    'step 2: skipped, as it is not finite (loss nan); 2 of at most 3'
  )
  assert log.progress['skipped_steps'] == 1
  progress = Progress(skipped_steps=1).after(**log.progress)
  assert progress.skipped_steps == 2
  # A row of nothing else has no loss.
  _add(log, 4, math.inf)
  log.report()
  _, scalars = log._writer.write_scalars.mock_calls[-1].args
  assert 'train/loss' not in scalars
  assert scalars['train/skipped_steps'] == 3


@pytest.mark.parametrize('before', [0, 1, 2])
def test_one_more_than_are_allowed_ends_the_run(before):
  log = create_quick_log(max_skipped=2, skipped_before=before)
  _add(log, 1, *[math.nan] * (2 - before), 1.0)
  log.report()
  _add(log, 8, math.nan)
  with pytest.raises(training_log.DivergenceError) as error:
    log.report()
  assert 'diverged at step 8: loss nan. 2 steps were skipped before.' in str(
    error.value
  )

"""Rows of the training log: rates, times, means and the pictures."""

import math
from unittest import mock

import numpy as np
import pytest

from coatnet_jax.training import training_log
from tests.training.quick_log import QUICK_OPTIONS

BATCH_SIZE = 10


class _Clock:
  def __init__(self, monkeypatch):
    self.now = 100.0
    monkeypatch.setattr(training_log.time, 'monotonic', lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
  return _Clock(monkeypatch)


def _create_log(**options):
  writer, terminal = mock.Mock(), mock.Mock()
  log = training_log.TrainingLog(
    writer,
    terminal,
    options=QUICK_OPTIONS,
    **{'first_step': 0, 'num_steps': 100, 'global_batch_size': 10, **options},
  )
  return log, writer, terminal


def _take_steps(log, steps, losses):
  for step, loss in zip(steps, losses, strict=True):
    log.add(step, {'loss': np.float32(loss), 'learning_rate': np.float32(step)})


def test_a_row_has_the_mean_loss_and_the_rate_of_all_its_steps(clock):
  log, writer, _ = _create_log()
  _take_steps(log, [1, 2, 3, 4], [4.0, 1.0, 1.0, 1.0])
  clock.now += 2.0
  log.report()
  ((step, scalars),) = [call.args for call in writer.write_scalars.mock_calls]
  assert step == 4
  assert scalars['train/loss'] == pytest.approx(1.75)
  assert scalars['train/learning_rate'] == 4
  assert scalars['speed/images_per_second'] == pytest.approx(4 * BATCH_SIZE / 2)


def test_the_pause_between_rows_is_nobodys(clock):
  log, writer, _ = _create_log()
  _take_steps(log, [1, 2], [1.0, 1.0])
  clock.now += 4.0
  log.report()
  clock.now += 50.0  # An evaluation.
  log.start_clock()
  _take_steps(log, [3, 4], [1.0, 1.0])
  clock.now += 2.0
  log.report()
  rates = [
    call.args[1]['speed/images_per_second']
    for call in writer.write_scalars.mock_calls
  ]
  assert rates == pytest.approx([5.0, 10.0])
  assert log.progress == {
    'examples': 4 * BATCH_SIZE,
    'seconds': 56.0,
    'seconds_in_steps': 6.0,
    'skipped_steps': 0,
  }


@pytest.mark.parametrize(
  ('first_step', 'left'), [(0, '3 min 10 s'), (60, '1 min 10 s')]
)
def test_the_time_left_is_of_this_processs_own_steps(clock, first_step, left):
  log, _, terminal = _create_log(first_step=first_step)
  _take_steps(log, [first_step + 5], [1.0])
  clock.now += 10.0  # Two seconds a step.
  log.report()
  line, done = terminal.moving_line.mock_calls[0].args
  assert line.endswith(f'{left} left')
  assert f'step {first_step + 5}/100 ({first_step + 5}%)' in line
  assert done == (first_step + 5) / 100


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('place', [0, 1, 2])
def test_no_step_of_a_row_may_diverge(bad, place):
  log, writer, _ = _create_log()
  losses = [1.0, 1.0, 1.0]
  losses[place] = bad
  _take_steps(log, [1, 2, 3], losses)
  with pytest.raises(
    training_log.DivergenceError, match=f'at step {place + 1}:'
  ):
    log.report()
  writer.write_scalars.assert_not_called()


def test_pictures_lie_side_by_side():
  log, writer, _ = _create_log()
  images = np.arange(5 * 2 * 3 * 3, dtype=np.uint8).reshape(5, 2, 3, 3)
  log.write_images(1, images)
  (grid,) = writer.write_images.mock_calls[0].args[1]['train/images']
  assert grid.shape == (4, 6, 3)
  for number, (top, left) in enumerate([(0, 0), (0, 3), (2, 0), (2, 3)]):
    np.testing.assert_array_equal(
      grid[top : top + 2, left : left + 3], images[number]
    )


def test_a_row_is_due_early_and_then_regularly():
  log, _, _ = _create_log(first_step=1)
  due = [step for step in range(2, 21) if log.is_due(step)]
  assert due == [4, 8, 11, 12, 16, 20]


def test_steps_that_wait_for_images_are_told_with_what_to_do(clock):
  log, writer, terminal = _create_log(num_workers=3)
  for row, wait in enumerate((9.0, 1.0, 1.0, 1.0, 1.0)):
    _take_steps(log, range(4 * row, 4 * row + 4), [1.0] * 4)
    log.add_wait(wait / 2)
    log.add_wait(wait / 2)
    clock.now += 10.0
    log.report()
  shares = [
    call.args[1]['speed/data_wait'] for call in writer.write_scalars.mock_calls
  ]
  assert shares == pytest.approx([0.9, 0.1, 0.1, 0.1, 0.1])
  assert 'data wait 10%' in terminal.moving_line.call_args.args[0]
  # Once, and without the row in which the first batches were made.
  [told] = [
    call.args[0] for call in terminal.line.mock_calls if 'wait' in call.args[0]
  ]
  assert told.startswith('Steps wait 10% of the time for images')
  assert 'which 3 worker processes prepare: a larger config.data.num' in told


def test_steps_that_hardly_wait_are_not_told(clock):
  log, _, terminal = _create_log()
  for row in range(9):
    _take_steps(log, range(4 * row, 4 * row + 4), [1.0] * 4)
    log.add_wait(0.4)
    clock.now += 10.0
    log.report()
  assert not [c for c in terminal.line.mock_calls if 'wait' in c.args[0]]

"""The loop, with steps that cost nothing: where it begins, saves and ends."""

import contextlib
import types
from unittest import mock

import jax
import numpy as np
import pytest

import train
from coatnet_jax.checkpoints.metadata import Progress
from coatnet_jax.data.workers import WorkerError
from coatnet_jax.errors import UserError
from coatnet_jax.stopping import StoppedError
from coatnet_jax.training.training_log import DivergenceError
from tests.wiring import runs
from tests.wiring.pictures import Pictures

BATCH_SIZE = 2
_CHANGES = {
  'model.name': 'coatnet_mini',
  'training.num_steps': 7,
  'training.global_batch_size': BATCH_SIZE,
  'evaluation.every_steps': 3,
  'preprocessing.image_size': (4, 4),
}


class _Loop:
  """A loop whose steps count, and what it does."""

  def __init__(self, monkeypatch, source=None, **changes):
    if source is None:
      pictures = np.arange(14 * 4 * 4 * 3, dtype=np.uint8)
      source = Pictures(pictures.reshape(14, 4, 4, 3))
    self.run = runs.create_run({**_CHANGES, **changes}, source=source)
    self.batches, self.evaluated, self.saved = [], [], {}
    self.stops_after = self.diverges_at = self.broken_at = None
    self.is_unevaluated = self.stops_early = False
    self.check_lease = lambda: None
    monkeypatch.setattr(train, 'evaluate', self._evaluate)
    monkeypatch.setattr(train, 'StopSignal', self._create_stop_signal)

  def go(self, step=0, examples_seen=0, every_steps=100):
    """Returns the state after the last step."""
    self.taken = step
    log = mock.Mock()
    log.progress = {'examples': 6, 'seconds': 2.0, 'seconds_in_steps': 1.0}
    log.is_due = lambda step: step % every_steps == 0
    log.report.side_effect = self._report
    log.check_state.side_effect = self._check_state
    self.log = log
    return train.train_loop(
      self.run,
      self._state(),
      Progress(examples_seen=examples_seen, seconds=10.0),
      self._take_step,
      log=log,
      checkpoints=self,
      profile=lambda step: None,
      check_lease=self.check_lease,
    )

  def _state(self):
    return types.SimpleNamespace(
      step=self.taken,
      variables=f'parameters {self.taken}',
      eval_variables=f'averages {self.taken}',
    )

  def _take_step(self, state, batch):
    assert state.step == self.taken
    self.batches.append(jax.device_get(batch['image']))
    self.taken += 1
    return self._state(), {'loss': np.float32(1)}

  def _evaluate(self, variables, batches, **_):
    assert sum(int(batch['mask'].sum()) for batch in batches) == 14
    self.evaluated.append(variables)
    return {'loss': 1.0, 'top1': 0.5, 'top5': 0.5, 'count': 14}

  def save(self, state, step, progress):
    assert state.step == step
    self.saved[step] = progress, None

  def save_evaluation(self, step, metrics):
    self.saved[step] = self.saved[step][0], metrics

  def lacks_evaluation(self):
    return self.is_unevaluated

  def should_save(self, step):
    return False

  def check(self):
    pass

  @property
  def saved_step(self):
    return max(self.saved, default=0)

  def _report(self):
    if self.taken == self.diverges_at:
      raise DivergenceError('diverged')

  def _check_state(self, step, state):
    assert state.step == step == self.taken
    if step == self.broken_at:
      raise DivergenceError('not finite')

  def _create_stop_signal(self):
    signal = mock.MagicMock()
    signal.__enter__.return_value.is_due = lambda: (
      self.taken == self.stops_after
    )
    return signal


@pytest.fixture
def loop(monkeypatch):
  return _Loop(monkeypatch)


def test_it_evaluates_the_averages_at_times_and_at_the_end(loop):
  assert loop.go().step == 7
  assert loop.evaluated == ['averages 3', 'averages 6', 'averages 7']
  assert list(loop.saved) == [3, 6, 7]
  assert all(metrics['top1'] == 0.5 for _, metrics in loop.saved.values())


def test_going_on_reads_what_comes_next(loop, monkeypatch):
  loop.go()
  rest = _Loop(monkeypatch)
  assert rest.go(step=4, examples_seen=4 * BATCH_SIZE).step == 7
  assert len(rest.batches) == 3
  np.testing.assert_array_equal(rest.batches, loop.batches[4:])
  # The data position says where, and not the step.
  moved = _Loop(monkeypatch)
  moved.go(step=4, examples_seen=2 * BATCH_SIZE)
  np.testing.assert_array_equal(moved.batches, loop.batches[2:5])


def test_the_seed_says_in_which_order(loop, monkeypatch):
  loop.go()
  other = _Loop(monkeypatch, seed=1)
  other.go()
  assert not np.array_equal(other.batches, loop.batches)


def test_progress_adds_up_to_what_was_before(loop):
  loop.go(step=4, examples_seen=8)
  progress, _ = loop.saved[7]
  assert progress == Progress(
    examples_seen=14, seconds=12.0, seconds_in_steps=1.0
  )


def test_a_workdir_that_is_lost_is_not_written_to(loop):
  def check_lease():
    if loop.taken == 5:
      raise UserError('taken over')

  loop.check_lease = check_lease
  with pytest.raises(UserError, match='taken over'):
    loop.go()
  assert loop.taken == 5
  assert list(loop.saved) == [3]


def test_a_step_is_saved_before_it_is_evaluated(loop):
  with (
    mock.patch.object(loop, 'save_evaluation', side_effect=KeyError),
    pytest.raises(KeyError),
  ):
    loop.go()
  assert list(loop.saved) == [3]


@pytest.mark.parametrize('step', [3, 7])
def test_an_evaluation_that_is_missing_is_made_up_for(monkeypatch, step):
  loop = _Loop(monkeypatch)
  loop.is_unevaluated = True
  loop.saved[step] = None, None
  assert loop.go(step=step, examples_seen=step * BATCH_SIZE).step == 7
  assert loop.evaluated[0] == f'averages {step}'
  assert list(loop.saved) == ([3, 6, 7] if step == 3 else [7])
  # Others are none of this.
  loop = _Loop(monkeypatch)
  loop.is_unevaluated = True
  loop.go(step=4, examples_seen=4 * BATCH_SIZE)
  assert loop.evaluated == ['averages 6', 'averages 7']


def test_asked_to_stop_it_does_not_evaluate(loop):
  loop.stops_after = 3
  assert loop.go().step == 3
  assert list(loop.saved) == [3]
  assert not loop.evaluated


@pytest.mark.parametrize('error', [StoppedError, WorkerError])
def test_what_ends_its_waiting_lets_it_save_first(monkeypatch, loop, error):
  create = train.read_train_batches

  def create_two(*args):
    with contextlib.closing(create(*args)) as batches:
      yield next(batches)
      yield next(batches)
      raise error

  monkeypatch.setattr(train, 'read_train_batches', create_two)
  if error is WorkerError:
    with pytest.raises(WorkerError):
      loop.go()
  else:
    assert loop.go().step == 2
  assert list(loop.saved) == [2]


def test_asked_to_stop_it_saves_and_ends(loop):
  loop.stops_after = 2
  assert loop.go().step == 2
  assert list(loop.saved) == [2]
  assert not loop.evaluated


@pytest.mark.parametrize('step', [2, 3, 7])
def test_what_diverged_is_not_saved(monkeypatch, step):
  loop = _Loop(monkeypatch, **{'checkpoint.every_steps': 1})
  loop.diverges_at = step
  with pytest.raises(DivergenceError):
    loop.go()
  assert list(loop.saved) == list(range(1, step))


@pytest.mark.parametrize('step', [2, 3, 7])
def test_a_state_that_is_not_finite_is_neither_saved_nor_evaluated(
  monkeypatch, step
):
  loop = _Loop(monkeypatch, **{'checkpoint.every_steps': 1})
  loop.broken_at = step
  with pytest.raises(DivergenceError):
    loop.go()
  assert list(loop.saved) == list(range(1, step))
  assert f'averages {step}' not in loop.evaluated


def test_images_that_cannot_be_decoded_stop_it(monkeypatch):
  damaged = Pictures([b'no picture'] * 2 + [np.zeros((4, 4, 3), np.uint8)] * 12)
  loop = _Loop(monkeypatch, damaged, **{'evaluation.every_steps': 100})
  with pytest.raises(UserError, match='cannot be decoded'):
    loop.go()

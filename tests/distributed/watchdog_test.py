"""Who is named when a run ends; the processes are tests/processes_test.py's."""

import dataclasses

import pytest

from coatnet_jax.distributed import watchdog
from coatnet_jax.distributed.watchdog import Beat, Judge

HANG = 600.0


class _Run:
  """Beats of three processes, at the times that a test says."""

  def __init__(self):
    self.judge = Judge(3, hang_seconds=HANG, now=0.0)
    self.beats = {i: Beat(host=f'host-{i}') for i in range(3)}

  def beat(self, now, **changes):
    """Everybody beats; `changes` maps 'p0'.. to fields that change."""
    for index in self.beats:
      fields = changes.get(f'p{index}', {})
      if fields is None:  # It does not beat.
        continue
      number = self.beats[index].number + 1
      self.beats[index] = dataclasses.replace(
        self.beats[index], number=number, **fields
      )
    self.judge.update(self.beats, now)
    return self.judge.reach_verdict(now)


def test_nothing_is_wrong_while_all_beat():
  run = _Run()
  for now in range(0, int(HANG), 2):
    assert run.beat(now) == ''


def test_who_does_not_beat_is_named():
  run = _Run()
  training = {'begun': 1, 'doing': 'taking step 7'}
  run.beat(0, p0=training, p1=training, p2=training)
  now = watchdog.SILENCE_SECONDS
  assert run.beat(now, p1=None) == ''
  assert run.beat(now + 1, p1=None) == (
    'Process 1 (host-1) has not been heard of for 41 s: it was killed, or its'
    ' machine is gone or stopped; it was taking step 7.'
  )


def test_who_has_never_beaten_is_named_too():
  judge = Judge(2, hang_seconds=HANG, now=0.0)
  judge.update({0: Beat(host='a', number=1)}, 41.0)
  assert judge.reach_verdict(41.0).startswith(
    'Process 1 (unknown) has not been'
  )


def test_the_watchdog_speaks_before_jax_aborts():
  # JAX gives up a heartbeat after half of it; a verdict may take some beats.
  earliest = watchdog.HEARTBEAT_SECONDS / 2
  assert earliest > watchdog.SILENCE_SECONDS + 5 * watchdog.BEAT_SECONDS


def test_a_broken_collective_is_soon_laid_to_who_does_not_beat():
  run = _Run()
  broken = {'error': 'connection closed', 'is_broken': True}
  run.beat(0)
  assert run.beat(1, p0=broken, p2=None) == ''
  now = watchdog.BROKEN_SECONDS + 1
  assert run.beat(now, p2=None).startswith('Process 2 (host-2) has not been')


def test_who_has_said_its_error_is_not_called_silent():
  run = _Run()
  broken = {'error': 'connection closed', 'is_broken': True}
  run.beat(0)
  assert run.beat(1, p1=broken) == ''
  # It has nothing more to say, and the others wait on.
  for now in (2, watchdog.BROKEN_SECONDS + 2, watchdog.SILENCE_SECONDS + 2):
    verdict = run.beat(now, p1=None)
    assert 'has not been heard of' not in verdict


def test_a_broken_collective_of_all_is_its_own():
  run = _Run()
  broken = {'error': 'out of order', 'is_broken': True}
  run.beat(0, p0=broken, p1=broken, p2=broken)
  assert run.beat(44) == ''
  assert run.beat(46) == 'Process 0 (host-0) ended by an error: out of order'


def test_who_is_behind_is_named():
  run = _Run()
  ahead = {'begun': 5, 'doing': 'taking step 5'}
  behind = {'begun': 4, 'doing': 'taking step 4'}
  run.beat(0, p0=ahead, p1=behind, p2=ahead)
  assert run.beat(HANG) == ''
  assert run.beat(HANG + 1) == (
    'Process 1 (host-1) has been taking step 4 for 601 s, and the others wait.'
  )


def test_who_is_behind_is_named_sooner_where_a_collective_has_given_up():
  run = _Run()
  broken = {'begun': 5, 'error': 'Timed out.', 'is_broken': True}
  behind = {'begun': 4, 'doing': 'taking step 4'}
  run.beat(0, p1=behind)
  run.beat(100, p0=broken, p2={'begun': 5})
  assert run.beat(130) == ''
  assert run.beat(131) == (
    'Process 1 (host-1) has been taking step 4 for 131 s, and Process 0'
    ' (host-0) has waited in vain: Timed out.'
  )


def test_who_is_behind_may_take_long_for_each_thing():
  run = _Run()
  for begun in range(1, 5):
    fast, slow = {'begun': 9}, {'begun': begun}
    assert run.beat(begun * (HANG - 1), p0=fast, p1=slow, p2=fast) == ''


def test_the_slowest_of_those_behind_has_its_time():
  run = _Run()
  run.beat(0, p0={'begun': 9}, p1={'begun': 4})
  assert run.beat(100, p2={'begun': 4}) == ''
  assert run.beat(HANG + 1) == ''
  assert run.beat(HANG + 101).startswith(
    'Process 1 (host-1), Process 2 (host-2) have been starting for 601 s'
  )


def test_nobody_gets_on():
  run = _Run()
  same = {'begun': 3, 'doing': 'compiling the train step'}
  run.beat(0, p0=same, p1=same, p2=same)
  assert run.beat(HANG + 1) == (
    'No process has got any further for 601 s; all 3 are compiling the train'
    ' step.'
  )


def test_those_who_have_finished_wait_for_ever():
  run = _Run()
  finished = {'begun': 9, 'doing': 'finished', 'is_finished': True}
  run.beat(0, p0=finished, p1=finished, p2=finished)
  assert run.beat(10 * HANG) == ''
  run = _Run()
  run.beat(0, p0=finished, p1=finished, p2={'begun': 8, 'doing': 'saving'})
  assert run.beat(HANG + 1).startswith('Process 2 (host-2) has been saving')


def test_an_error_of_all_is_that_of_process_0():
  run = _Run()
  same = {'error': 'Training diverged.'}
  assert run.beat(0, p1=same) == ''  # Process 0 may have it too.
  assert run.beat(2, p0=same, p2=same) == 'Training diverged.'


@pytest.mark.parametrize('index', [1, 2])
def test_an_error_of_one_names_it(index):
  run = _Run()
  run.beat(0, **{f'p{index}': {'error': 'No space left.'}})
  assert run.beat(watchdog.GRACE_SECONDS + 1) == (
    f'Process {index} (host-{index}) ended by an error: No space left.'
  )

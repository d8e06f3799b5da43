"""Checkpoints beside what others put there, saved by a clock nobody sets."""

import itertools
import os
import time

import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest
from etils import epath
from jax.experimental import multihost_utils

from coatnet_jax.checkpoints import folder, retention, saving
from coatnet_jax.checkpoints.trained_model import find_checkpoint
from coatnet_jax.errors import UserError

FOREIGN = (
  '.ipynb_checkpoints',
  '3 (copy)',
  '3_backup',
  'backup_3',
  '03',
  'lost+found',
  '３',
)


def _open(workdir, report=print, **options):
  options = {
    'every_steps': 0,
    'every_seconds': 0.0,
    'max_to_keep': 1,
    'best_metric': 'top1',
    **options,
  }
  return saving.open_checkpoints(
    str(workdir), saving.CheckpointOptions(**options), report
  )


def _save(manager, step):
  manager.save(
    step,
    args=ocp.args.Composite(state=ocp.args.StandardSave({'a': jnp.ones(2)})),
    force=True,
  )
  manager.wait_until_finished()


def test_what_others_put_there_is_left_alone(tmp_path):
  directory = tmp_path / 'checkpoints'
  with _open(tmp_path) as manager:
    _save(manager, 3)
  for name in FOREIGN:
    (directory / name).mkdir()
    (directory / name / 'precious').touch()
  (directory / '5').write_text('a file')
  unfinished = directory / '4.orbax-checkpoint-tmp-123'
  unfinished.mkdir()
  told = []
  with _open(tmp_path, told.append) as manager:
    assert told == [
      'Checkpoint 4.orbax-checkpoint-tmp-123 was not written to its end;'
      ' removed.'
    ]
    assert manager.all_steps() == [3]
    assert folder.find_steps(directory) == [3]
    assert find_checkpoint(tmp_path) == directory / '3'
    _save(manager, 8)
    assert folder.find_steps(directory) == [8]
  assert sorted(os.listdir(directory)) == sorted([*FOREIGN, '5', '8'])
  for name in FOREIGN:
    assert os.listdir(directory / name) == ['precious']


def test_in_a_bucket_others_are_left_alone_too(tmp_path, monkeypatch):
  # There a folder is finished if a file in it says so, which others lack.
  monkeypatch.setattr(
    ocp.utils, 'is_checkpoint_finalized', lambda path: path.name == '3'
  )
  for name in ('3', '4', *FOREIGN):
    (tmp_path / name).mkdir()
  assert folder.find_steps(epath.Path(tmp_path)) == [3]
  told = []
  folder.remove_unfinished(epath.Path(tmp_path), told.append)
  assert told == ['Checkpoint 4 was not written to its end; removed.']
  assert sorted(os.listdir(tmp_path)) == sorted(['3', *FOREIGN])


@pytest.mark.parametrize('name', FOREIGN)
def test_a_copy_is_no_checkpoint_of_the_run(tmp_path, name):
  (tmp_path / 'checkpoints' / name / 'state').mkdir(parents=True)
  assert not saving.has_checkpoint(tmp_path)
  with pytest.raises(UserError, match='has no checkpoint'):
    find_checkpoint(tmp_path)
  # It can be named itself.
  path = tmp_path / 'checkpoints' / name
  assert find_checkpoint(path) == path


def test_nobody_but_the_loop_asks_whether_to_stop(tmp_path, monkeypatch):
  monkeypatch.setattr(
    multihost_utils, 'reached_preemption_sync_point', pytest.fail
  )
  with _open(tmp_path, every_seconds=60.0) as manager:
    assert manager.should_save(1)


@pytest.mark.parametrize('hours', [-30, 2, 24 * 365])
def test_a_host_clock_that_was_wrong_does_not_matter(
  tmp_path, hours, monkeypatch
):
  with _open(tmp_path) as manager:
    _save(manager, 3)
  then = time.time() + 3600 * hours
  for root, folders, files in os.walk(tmp_path):
    for name in (*folders, *files):
      os.utime(os.path.join(root, name), (then, then))
  now = 1000.0
  monkeypatch.setattr(retention, '_clock', lambda: now)
  with _open(tmp_path, every_seconds=60.0) as manager:
    assert not manager.should_save(4)
    now += 59
    assert not manager.should_save(5)
    now += 2
    assert manager.should_save(6)
    _save(manager, 6)
    assert not manager.should_save(7)
    now += 59
    assert not manager.should_save(8)
    now += 2
    assert manager.should_save(9)


def test_a_clock_that_is_set_forth_ends_no_save(tmp_path, monkeypatch):
  hours = itertools.count()
  now = time.time()
  with _open(tmp_path) as manager:
    # Each time that it is read, an hour later.
    monkeypatch.setattr(time, 'time', lambda: now + 3600 * next(hours))
    _save(manager, 1)
  assert next(hours) > 9
  assert folder.find_steps(tmp_path / 'checkpoints') == [1]

"""Damage to the files of a checkpoint: what is noticed, and what is used."""

import collections
import errno
import hashlib
import json
import os
import random
import shutil

import jax
import numpy as np
import pytest
from etils import epath

from coatnet_jax.checkpoints import (
  checksums,
  folder,
  orbax_metadata,
  reading,
  resuming,
  saving,
)
from coatnet_jax.checkpoints.metadata import Progress
from coatnet_jax.errors import UserError
from tests.checkpoints.saved_run import (
  EXAMPLES_PER_STEP,
  OPTIONS,
  create_state,
  save_run,
)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  """Returns a workdir of two steps; not to be changed."""
  return save_run(tmp_path_factory.mktemp('saved'))


@pytest.fixture
def workdir(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'run')


def _restore(workdir):
  """Returns the state, the progress and the lines of a restart."""
  lines = []
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
    create_state(0),
  )
  with saving.open_checkpoints(str(workdir), OPTIONS, lines.append) as manager:
    restored = resuming.restore_newest(
      manager, abstract, lines.append, examples_per_step=EXAMPLES_PER_STEP
    )
  return *restored, '\n'.join(lines)


def _list_files(directory):
  return sorted(
    str(path.relative_to(directory))
    for path in directory.rglob('*')
    if path.is_file()
  )


def _check_restart(workdir, what):
  """Checks that a restart takes a whole state, and says what is damaged."""
  state, progress, said = _restore(workdir)
  step = int(state.step)
  np.testing.assert_array_equal(state.w, create_state(step).w, err_msg=what)
  assert progress.examples_seen == EXAMPLES_PER_STEP * step, what
  assert progress.seconds in (9.5 * step, 0.0), what
  assert step == 4 or 'step 4 is damaged' in said, (what, said)
  return step, said


def test_every_file_is_listed_and_nothing_is_damaged(saved):
  directory = saved / 'checkpoints' / '4'
  listed = json.loads((directory / 'checksums.json').read_text())['files']
  assert set(_list_files(directory)) - set(listed) == {
    '_CHECKPOINT_METADATA',
    'checksums.json',
    'commit_success.txt',
    *(f'{item}/commit_success.txt' for item in ('metadata', 'progress')),
    'state/commit_success.txt',
  }
  assert checksums.find_damage(epath.Path(directory)) == {}
  step, said = _check_restart(saved, 'undamaged')
  assert (step, said) == (4, 'Resuming from the checkpoint of step 4.')


@pytest.mark.parametrize(
  'seed', [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))]
)
def test_flipped_bits_are_noticed_or_have_no_effect(saved, tmp_path, seed):
  """Single bits, spread over all files of the newest checkpoint."""
  choose = random.Random(seed)
  noticed = 0
  for name in _list_files(saved / 'checkpoints' / '4'):
    workdir = shutil.copytree(saved, tmp_path / 'run')
    path = workdir / 'checkpoints' / '4' / name
    content = bytearray(path.read_bytes())
    bit = choose.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    _, said = _check_restart(workdir, f'{name}, bit {bit}')
    noticed += 'damaged' in said
    shutil.rmtree(workdir)
  assert noticed >= 10


@pytest.mark.parametrize(
  'damage',
  [
    'cut',
    *(
      pytest.param(damage, marks=pytest.mark.slow)
      for damage in ('emptied', 'deleted', 'longer')
    ),
  ],
)
def test_every_file_that_is_not_whole_is_noticed(saved, tmp_path, damage):
  for name in _list_files(saved / 'checkpoints' / '4'):
    workdir = shutil.copytree(saved, tmp_path / 'run')
    path = workdir / 'checkpoints' / '4' / name
    content = path.read_bytes()
    path.write_bytes(
      {'cut': content[:-1], 'longer': content + b'\n'}.get(damage, b'')
    )
    if damage == 'deleted':
      path.unlink()
    step, said = _check_restart(workdir, f'{name} {damage}')
    if name.startswith('state/') and not name.endswith('success.txt'):
      assert step == 2, name
      assert f'step 4 is damaged ({name} ' in said
    # White space after JSON says nothing, and nothing reads the other.
    is_harmless = name.endswith('commit_success.txt') or (
      name in ('_CHECKPOINT_METADATA', 'checksums.json') and damage == 'longer'
    )
    assert 'damaged' in said or is_harmless, name
    shutil.rmtree(workdir)


def _remove(path):
  path.unlink()


def _leave_one_out(path):
  sums = json.loads(path.read_text())
  del sums['files']['state/manifest.ocdbt']
  path.write_text(json.dumps(sums))


@pytest.mark.parametrize('damage', [_remove, _leave_one_out])
def test_without_its_checksums_a_checkpoint_is_not_used(workdir, damage):
  damage(workdir / 'checkpoints' / '4' / 'checksums.json')
  step, said = _check_restart(workdir, 'no checksums')
  assert step == 2
  assert 'step 4 is damaged (checksums.json is ' in said


def test_every_part_of_a_large_file_is_compared(tmp_path, monkeypatch):
  monkeypatch.setattr(checksums, '_PART_BYTES', 64)
  monkeypatch.setattr(checksums, '_CHUNK_BYTES', 24)
  workdir = save_run(tmp_path, (2,))
  directory = epath.Path(workdir / 'checkpoints' / '2')
  name = 'metadata/metadata'
  content = (directory / name).read_bytes()
  assert 64 < len(content) < 192
  for place in range(0, len(content), 7):
    changed = bytearray(content)
    changed[place] ^= 1
    (directory / name).write_bytes(changed)
    assert checksums.find_damage(directory) == {name: 'has another checksum'}
    shares = [checksums.find_damage(directory, share=(k, 3)) for k in range(3)]
    assert sorted(map(len, shares)) == [0, 0, 1]


@pytest.mark.parametrize(
  ('item', 'word'),
  [
    ('progress', 'where the step says'),
    ('metrics', 'counts as not evaluated'),
    ('metadata', 'another step is used'),
  ],
)
def test_damage_beside_the_arrays_blocks_nothing(workdir, item, word):
  name = 'metrics' if item == 'metrics' else 'metadata'
  path = workdir / 'checkpoints' / '4' / item / name
  path.write_bytes(path.read_bytes()[:-1])
  step, said = _check_restart(workdir, item)
  assert step == 4
  assert word in said


def test_an_older_step_with_a_damaged_evaluation_is_not_lost(workdir):
  """It may be kept as the best alone, which nobody can tell now."""
  path = workdir / 'checkpoints' / '2' / 'metrics' / 'metrics'
  path.write_bytes(path.read_bytes()[:-1])
  _, said = _check_restart(workdir, 'metrics of step 2')
  aside = workdir / 'damaged_checkpoints' / '2'
  assert f'the whole step was moved to {aside}. The step counts as' in said
  assert (aside / 'state').is_dir()


def test_helpers_that_cannot_be_mended_are_said(workdir, monkeypatch):
  """As where the checkpoints are read-only."""
  path = workdir / 'checkpoints' / '4' / '_CHECKPOINT_METADATA'
  path.write_bytes(path.read_bytes().replace(b'"metrics"', b'"mEtrics"'))

  def refuse(*_):
    raise OSError(errno.EROFS, 'Read-only file system')

  lines = []
  monkeypatch.setattr(orbax_metadata, 'mend', refuse)
  folder.mend_helpers(epath.Path(workdir / 'checkpoints'), lines.append)
  assert len(lines) == 1
  assert lines[0].endswith('cannot be mended (Read-only file system).')


def test_a_progress_of_another_step_is_not_believed(workdir):
  """Older checkpoints have no checksums; the step knows all the same."""
  for path in workdir.rglob('checksums.json'):
    path.unlink()
  for path in workdir.rglob('_CHECKPOINT_METADATA'):
    path.write_text(path.read_text().replace('checksums', 'nothing'))
  path = workdir / 'checkpoints' / '4' / 'progress' / 'metadata'
  path.write_text(path.read_text().replace('32', '33'))
  _, progress, said = _restore(workdir)
  assert progress == Progress(examples_seen=32)
  assert 'it says 33 examples, and the steps take 32' in said


def test_checkpoints_without_checksums_are_read(workdir):
  for path in workdir.rglob('checksums.json'):
    path.unlink()
  for path in workdir.rglob('_CHECKPOINT_METADATA'):
    path.write_text(path.read_text().replace('checksums', 'nothing'))
  step, said = _check_restart(workdir, 'without checksums')
  assert (step, said) == (4, 'Resuming from the checkpoint of step 4.')


def test_checksums_of_an_older_version_are_compared(workdir, monkeypatch):
  monkeypatch.setattr(checksums, '_NEW_HASH', 'sha256')
  directory = epath.Path(workdir / 'checkpoints' / '4')
  checksums.write_checksums(directory)
  assert checksums.find_damage(directory) == {}
  written = json.loads((directory / 'checksums.json').read_text())['files']
  data = (directory / 'progress' / 'metadata').read_bytes()
  assert written['progress/metadata'] == {
    'bytes': len(data),
    'sha256': [hashlib.sha256(data).hexdigest()],
  }
  (directory / 'progress' / 'metadata').write_bytes(data[::-1])
  assert checksums.find_damage(directory) == {
    'progress/metadata': 'has another checksum'
  }


def test_checksums_of_a_newer_version_are_no_damage(workdir, monkeypatch):
  directory = epath.Path(workdir / 'checkpoints' / '4')
  monkeypatch.setitem(checksums._HASHES, 'blake4', hashlib.md5)
  monkeypatch.setattr(checksums, '_NEW_HASH', 'blake4')
  checksums.write_checksums(directory)
  monkeypatch.delitem(checksums._HASHES, 'blake4')
  with pytest.raises(UserError, match=r'not known here \(blake4\): a newer'):
    _restore(workdir)
  assert directory.exists()


@pytest.mark.parametrize(
  'name', ['../2/progress/metadata', '{}/2/progress/metadata']
)
def test_checksums_of_files_outside_are_damaged(workdir, monkeypatch, name):
  """Right ones, too: who writes them could ask for any file of a machine."""
  name = name.format(workdir / 'checkpoints')
  directory = epath.Path(workdir / 'checkpoints' / '4')
  names = [*checksums._list_files(directory), name]
  monkeypatch.setattr(checksums, '_list_files', lambda _: names)
  checksums.write_checksums(directory)
  assert name in json.loads((directory / 'checksums.json').read_text())['files']
  assert checksums.find_damage(directory) == {'checksums.json': 'is damaged'}


def test_a_checkpoint_under_another_number_is_none(workdir):
  directory = workdir / 'checkpoints'
  shutil.copytree(directory / '4', directory / '9')
  state, _, said = _restore(workdir)
  assert int(state.step) == 4
  assert 'step 9 is damaged (it is of step 4)' in said


@pytest.mark.parametrize('times', [1, 3, 10**6])
def test_a_disk_that_fails_for_a_moment_moves_nothing(
  workdir, monkeypatch, times
):
  """Each file of step 4 cannot be read so many times."""
  monkeypatch.setattr(reading.time, 'sleep', lambda seconds: None)
  real, failures = checksums._hash_part, collections.Counter()

  def hash_part(directory, name, *part):
    failures[name] += 1
    if directory.name == '4' and failures[name] <= times:
      raise OSError(errno.EIO, 'Input/output error')
    return real(directory, name, *part)

  monkeypatch.setattr(checksums, '_hash_part', hash_part)
  state, _, said = _restore(workdir)
  assert int(state.step) == (4 if times <= 3 else 2)
  if times <= 3:
    assert said == 'Resuming from the checkpoint of step 4.'
  else:
    assert 'cannot be read (Input/output error)' in said


def test_a_folder_that_cannot_be_listed_once_is_listed(workdir, monkeypatch):
  monkeypatch.setattr(reading.time, 'sleep', lambda seconds: None)
  real, failures = os.listdir, []

  def list_directory(path):
    if str(path).endswith('checkpoints') and len(failures) < 3:
      failures.append(path)
      raise OSError(errno.EIO, 'Input/output error', str(path))
    return real(path)

  monkeypatch.setattr(os, 'listdir', list_directory)
  assert folder.find_steps(epath.Path(workdir / 'checkpoints')) == [2, 4]
  assert len(failures) == 3


def test_where_nothing_is_whole_it_is_said(workdir):
  for path in workdir.rglob('manifest.ocdbt'):
    os.truncate(path, 3)
  with pytest.raises(UserError, match=r'step 4: state/.*has 3 bytes instead'):
    _restore(workdir)

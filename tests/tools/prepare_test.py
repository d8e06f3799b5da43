import hashlib
import pathlib
import re
import subprocess
import sys
import time

import pytest

from coatnet_jax.data.preparation import shards
from coatnet_jax.data.tfds_source import create_tfds_source
from coatnet_jax.errors import UserError
from tests.data.preparation.archive_examples import (
  SYNSETS,
  class_archives,
  jpeg,
  tar,
)
from tools.prepare import main

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def images(tmp_path):
  for name in ('ant', 'bee'):
    (tmp_path / 'insects' / name).mkdir(parents=True)
    for i in range(8):
      (tmp_path / 'insects' / name / f'{i}.jpg').write_bytes(jpeg(i))
  return tmp_path / 'insects'


def folder_arguments(images, *more):
  return [
    'folder',
    f'--source_dir={images}',
    f'--output_dir={images.parent / "out"}',
    '--eval_fraction=0.3',
    '--num_workers=1',
    *more,
  ]


def test_a_folder_becomes_a_data_set(images, capsys):
  assert main(folder_arguments(images)) == 0
  output = capsys.readouterr()
  assert 'insects/1.0.0 is complete; see report.txt' in output.out
  assert re.search(r'To write: 2 shards, about [\d.]+ kB; ', output.err)
  assert 'shard 2 of 2, 16 of 16 images' in output.err
  out = str(images.parent / 'out')
  assert (
    sum(
      len(create_tfds_source('insects', out, split))
      for split in ('train', 'validation')
    )
    == 16
  )


def test_ctrl_c_says_how_to_go_on(images, capsys, monkeypatch):
  def interrupt(data, *_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(shards, 'verify_image', interrupt)
    assert main(folder_arguments(images)) == 130
  assert 'run the same command again' in capsys.readouterr().err
  assert main(folder_arguments(images)) == 0


def test_a_dry_run_writes_nothing(images, capsys):
  assert main(folder_arguments(images, '--dry_run')) == 0
  assert re.search(
    r'will have 2 shards of about [\d.]+ kB together', capsys.readouterr().err
  )
  assert not (images.parent / 'out').exists()


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--name=my-set'], "'my-set' is no name for a data set"),
    (['--num_workers=0'], 'num_workers is 0'),
    (['--max_pixels=0'], 'max_pixels is 0'),
    (['--eval_fraction=1.5'], 'eval_fraction is 1.5'),
  ],
)
def test_impossible_arguments(images, arguments, message):
  with pytest.raises(UserError, match=message):
    main(folder_arguments(images, *arguments))


def test_beam_is_asked_for_and_not_installed(images, monkeypatch):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  with pytest.raises(UserError, match=r'\(apache_beam\): pip install'):
    main(folder_arguments(images, '--beam=--runner=DirectRunner'))


def test_help_has_every_data_set(capsys):
  with pytest.raises(SystemExit):
    main(['--help'])
  text = capsys.readouterr().out
  for name in ('imagenet2012', 'imagenet21k_fall11', 'folder', 'idx', 'tfds'):
    assert f'python -m tools.prepare {name} ' in text


@pytest.mark.parametrize('command', ['tfds', 'folder', 'idx'])
def test_a_bucket_is_not_written_to(tmp_path, command, capsys):
  arguments = [command, f'--source_dir={tmp_path}', '--output_dir=gs://bucket']
  with pytest.raises(SystemExit):
    main(arguments)
  error = ' '.join(capsys.readouterr().err.split())
  assert "'gs://bucket'; it must be on a disk of this machine" in error


@pytest.mark.slow
def test_a_tfrecord_data_set_is_converted(tmp_path):
  # Here, because it takes TensorFlow along.
  from tests.data.tfds_source_test import store

  store(str(tmp_path / 'tfrecord'), 'tfrecord')
  source_dir = tmp_path / 'tfrecord' / 'toy' / '1.2.3'
  arguments = ['tfds', f'--source_dir={source_dir}']
  assert main([*arguments, f'--output_dir={tmp_path}/out']) == 0
  assert len(create_tfds_source('toy', f'{tmp_path}/out', 'train')) == 10
  with pytest.raises(UserError, match='is itself in --output_dir'):
    main([*arguments, f'--output_dir={tmp_path}/tfrecord'])
  with pytest.raises(UserError, match='no prepared TFDS data set'):
    main(['tfds', f'--source_dir={tmp_path}', f'--output_dir={tmp_path}/out'])


def hashes(directory):
  return {
    path.name: hashlib.sha256(path.read_bytes()).hexdigest()
    for path in directory.iterdir()
  }


def read_stat(pid):
  """Returns the fields after the name, the state first, or None."""
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return None
  return stat.rsplit(')', 1)[1].split()


def start_time_of(pid):
  """Returns what tells a process from a later one of the same number."""
  stat = read_stat(pid)
  return stat and stat[19]


def children_of(pid):
  """Returns (number, start time) of each."""
  children = pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text()
  return [(child, start_time_of(child)) for child in children.split()]


def is_running(child):
  """Whether a process is there and is not only waiting to be reaped."""
  stat = read_stat(child[0])
  return bool(stat) and stat[0] not in 'ZX' and stat[19] == child[1]


def wait_until(condition, process=None):
  """Waits for minutes: a busy disk takes a second to write a shard."""
  deadline = time.monotonic() + 240
  while not condition():
    assert time.monotonic() < deadline
    assert process is None or process.poll() is None
    time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.rotating
def test_killed_and_started_again_it_ends_with_the_same_files(tmp_path):
  (tmp_path / 'whole.tar').write_bytes(tar(class_archives(100)))
  (tmp_path / 'classes.txt').write_text('\n'.join(SYNSETS))

  def command(output_dir, num_workers):
    return [
      *(sys.executable, '-m', 'tools.prepare', 'imagenet21k_winter21'),
      f'--archive={tmp_path / "whole.tar"}',
      f'--classes={tmp_path / "classes.txt"}',
      f'--output_dir={tmp_path / output_dir}',
      f'--num_workers={num_workers}',
      '--shard_mebibytes=0.005',
    ]

  def run(*arguments):
    subprocess.run(command(*arguments), cwd=ROOT, check=True)

  run('undisturbed', 1)
  part = pathlib.Path('imagenet21k_winter21', '1.0.0')
  expected = hashes(tmp_path / 'undisturbed' / part)
  directory = tmp_path / 'killed' / part
  for already, num_workers in ((0, 2), (60, 3)):
    process = subprocess.Popen(command('killed', num_workers), cwd=ROOT)

    def count():
      return len(list(directory.glob('*.array_record-*')))

    wait_until(lambda already=already: count() > already + 10, process)
    workers = children_of(process.pid)
    process.kill()
    process.wait()
    assert not (directory / 'dataset_info.json').exists()
    assert len(workers) >= num_workers
    wait_until(lambda workers=workers: not any(map(is_running, workers)))
    print(f'Killed with {count()} shards written.')
  run('killed', 2)
  assert hashes(directory) == expected

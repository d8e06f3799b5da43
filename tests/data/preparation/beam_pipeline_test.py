"""Needs requirements-beam.txt; imports Beam in the tests, which are marked."""

import functools

import pytest

from coatnet_jax.data.preparation.imagenet import create_imagenet21k
from coatnet_jax.data.preparation.preparation import (
  PreparationOptions,
  get_data_set_directory,
  prepare,
)
from coatnet_jax.errors import UserError
from tests.data.preparation.archive_examples import (
  SYNSETS,
  class_archives,
  hash_files,
  tar,
)
from tools.prepare import main

pytestmark = pytest.mark.beam


@pytest.fixture
def arguments(tmp_path):
  """Returns a function: the name of an output folder to a command line."""
  (tmp_path / 'whole.tar').write_bytes(tar(class_archives()))
  (tmp_path / 'classes.txt').write_text('\n'.join(SYNSETS))

  def create(output, *more):
    return [
      'imagenet21k_winter21',
      f'--archive={tmp_path / "whole.tar"}',
      f'--classes={tmp_path / "classes.txt"}',
      f'--output_dir={tmp_path / output}',
      '--eval_fraction=0.2',
      '--num_workers=1',
      '--shard_mebibytes=0.01',
      *more,
    ]

  return create


@pytest.mark.parametrize(
  'runner',
  [
    '--runner=DirectRunner',
    '--runner=DirectRunner --direct_num_workers=2'
    ' --direct_running_mode=multi_processing',
  ],
)
def test_a_pipeline_writes_the_same_files(arguments, tmp_path, runner):
  assert main(arguments('processes')) == 0
  assert main(arguments('beam', f'--beam={runner}')) == 0
  assert hash_files(tmp_path / 'beam') == hash_files(tmp_path / 'processes')


def test_an_archive_that_is_gone_is_one_sentence(arguments, tmp_path):
  from coatnet_jax.data.preparation import beam_pipeline

  source = create_imagenet21k(
    'imagenet21k_p',
    tmp_path / 'whole.tar',
    classes=tmp_path / 'classes.txt',
  )
  (tmp_path / 'whole.tar').unlink()
  write = functools.partial(
    beam_pipeline.write_shards, beam_options=['--runner=DirectRunner']
  )
  options = PreparationOptions(output_dir=tmp_path)
  with pytest.raises(UserError, match=r'cannot be read from .*whole.tar: No'):
    prepare(source, options, write=write)
  work_folder = get_data_set_directory(source, options) / '.preparing'
  assert not list(work_folder.glob('*.npz'))

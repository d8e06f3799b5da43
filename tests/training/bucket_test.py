"""A workdir in a bucket, gs://..., which is a local directory behind epath."""

import json
import logging
import os
import tempfile

import pytest
from etils import epath

from coatnet_jax.checkpoints import saving
from coatnet_jax.checkpoints.trained_model import find_checkpoint
from coatnet_jax.errors import UserError
from coatnet_jax.reports import files
from coatnet_jax.training import log_file, reporting
from coatnet_jax.training import workdir as workdir_lib
from configs import quickstart

WORKDIR = 'gs://bucket/run'


def test_a_bucket_is_claimed(bucket):
  config = quickstart.get_config()
  workdir_lib.claim_workdir(WORKDIR, config)
  saved = json.loads((bucket / 'run' / 'config.json').read_text())
  assert saved['model']['name'] == config.model.name
  assert os.listdir(bucket / 'run') == ['config.json']
  config.seed += 1
  with pytest.raises(UserError, match='seed: 0 before, 1 now'):
    workdir_lib.claim_workdir(WORKDIR, config)


def test_a_bucket_has_a_summary_and_a_log_elsewhere(bucket, monkeypatch):
  temporary = bucket / 'temporary'
  temporary.mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(temporary))
  workdir_lib.claim_workdir(WORKDIR, quickstart.get_config())
  assert not reporting.has_summary(WORKDIR)
  reporting.write_summary(WORKDIR, {'steps': 3})
  assert reporting.has_summary(WORKDIR)
  assert json.loads((bucket / 'run' / 'summary.json').read_text()) == {
    'steps': 3
  }
  with log_file.log_to_file(WORKDIR):
    logging.getLogger().info('told')
  assert 'told' in (temporary / 'bucket_run_train.log').read_text()


def test_a_bucket_has_checkpoints(bucket):
  assert not saving.has_checkpoint(WORKDIR)
  directory = bucket / 'run' / 'checkpoints' / '5' / 'state'
  directory.mkdir(parents=True)
  assert not saving.has_checkpoint(WORKDIR)
  # What Orbax writes last into a checkpoint in a bucket.
  (directory.parent / 'commit_success.txt').write_text('')
  assert saving.has_checkpoint(WORKDIR)
  for path in (WORKDIR, f'{WORKDIR}/checkpoints/5'):
    assert os.fspath(find_checkpoint(path)) == f'{WORKDIR}/checkpoints/5'
  with pytest.raises(UserError, match='gs://bucket/other does not exist'):
    find_checkpoint('gs://bucket/other')


def test_a_bucket_has_a_report_that_is_replaced(bucket):
  path = epath.Path(f'{WORKDIR}/report.html')
  path.parent.mkdir(parents=True)
  for title in ('first', 'second'):
    text = f'<meta name="generator" content="{files.GENERATOR}">{title}'
    files.write_page(path, text)
  assert (bucket / 'run' / 'report.html').read_text().endswith('second')
  assert os.listdir(bucket / 'run') == ['report.html']
  path.write_text('of somebody else')
  with pytest.raises(UserError, match='is no report of a run'):
    files.write_page(path, text)

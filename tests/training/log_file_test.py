"""The log files of runs in one process."""

import logging

import pytest

from coatnet_jax.training import log_file


def test_each_run_of_a_process_is_logged_in_its_own_file(tmp_path):
  root = logging.getLogger()
  before = list(root.handlers), root.level
  for name in ('first', 'second'):
    (tmp_path / name).mkdir()
    with log_file.log_to_file(str(tmp_path / name)):
      logging.getLogger('of_the_run').info('this is the %s', name)
  for name, other in (('first', 'second'), ('second', 'first')):
    text = (tmp_path / name / 'train.log').read_text()
    assert f'this is the {name}' in text
    assert f'this is the {other}' not in text
  assert (list(root.handlers), root.level) == before


def test_where_an_error_comes_from_is_in_the_log(tmp_path):
  with pytest.raises(OSError, match='put'), log_file.log_to_file(str(tmp_path)):
    raise OSError(5, 'Input/output error')
  text = (tmp_path / 'train.log').read_text()
  assert 'Traceback' in text
  assert 'raise OSError' in text

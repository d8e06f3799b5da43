"""What tests of training share."""

import os

import pytest
from etils import epath


@pytest.fixture(name='bucket')
def fixture_bucket(tmp_path, monkeypatch):
  """The directory that holds gs://bucket."""
  # Else epath asks TensorFlow, and that the network.
  monkeypatch.setattr('etils.epath.gpath._is_tf_installed', lambda: False)

  def local(path):
    path = os.fspath(path)
    return path.replace('gs://bucket', str(tmp_path)).replace(
      '/gs/bucket', str(tmp_path)
    )

  def redirect(original, *paths, **options):
    paths = [local(p) if hasattr(p, '__fspath__') else p for p in paths]
    paths = [local(p) if isinstance(p, str) else p for p in paths]
    return original(*paths, **options)

  names = ('exists', 'isdir', 'listdir', 'makedirs', 'mkdir', 'open')
  with epath.testing.mock_epath(
    **dict.fromkeys((*names, 'replace', 'rename', 'stat', 'glob'), redirect)
  ):
    yield tmp_path

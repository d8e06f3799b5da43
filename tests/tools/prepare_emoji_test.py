import subprocess

import pytest

from coatnet_jax.data.tfds_source import create_tfds_source
from coatnet_jax.errors import UserError
from tests.data.preparation.emoji_examples import write_package
from tools import prepare_emoji


@pytest.fixture
def packages(tmp_path, monkeypatch):
  """Writes one; returns its folder."""
  folder = tmp_path / 'packages'
  folder.mkdir()
  packages = [write_package(folder, 'google')[0]]
  monkeypatch.setattr(prepare_emoji, 'PACKAGES', packages)
  return folder


def test_packages_become_data_sets(packages, tmp_path, capsys):
  arguments = [f'--output_dir={tmp_path}', f'--packages_dir={packages}']
  assert prepare_emoji.main(arguments) == 0
  output = capsys.readouterr().out
  assert 'emoji_google/1.0.0 is complete: ' in output
  validation = create_tfds_source('emoji_google', str(tmp_path), 'validation')
  assert f"{len(validation):,} images in 'validation'" in output


def test_npm_is_asked_for_a_package(packages, tmp_path, monkeypatch):
  commands = []

  def run(command, cwd, **_):
    commands.append(command)
    path = next(packages.iterdir())
    (cwd / path.name).write_bytes(path.read_bytes())

  monkeypatch.setattr(subprocess, 'run', run)
  assert prepare_emoji.main([f'--output_dir={tmp_path}']) == 0
  name = 'emoji-datasource-google@16.0.0'
  assert commands == [['npm', 'pack', '--silent', name]]


@pytest.mark.parametrize(
  ('error', 'message'),
  [
    (FileNotFoundError(), 'npm is not installed: .* by --packages_dir'),
    (subprocess.CalledProcessError(1, 'npm'), 'ended with status 1'),
  ],
)
def test_npm_fails(packages, tmp_path, monkeypatch, error, message):
  def run(*_, **__):
    raise error

  monkeypatch.setattr(subprocess, 'run', run)
  with pytest.raises(UserError, match=message):
    prepare_emoji.main([f'--output_dir={tmp_path}'])

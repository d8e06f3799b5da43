import json
import zipfile

import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.export import parity
from tools import export


@pytest.fixture(autouse=True)
def _briefly(monkeypatch):
  """Has nothing be timed for longer than it takes once."""
  monkeypatch.setattr(parity, '_SECONDS', 0.0)


def _export(checkpoint, out, *arguments, name='stablehlo'):
  return export.main(
    [
      *(f'--checkpoint={checkpoint}', f'--out={out}', f'--format={name}'),
      *map(str, arguments),
    ]
  )


@pytest.mark.slow
@pytest.mark.rotating
def test_a_run_is_exported(workdir, best, eval_source, tmp_path, capsys):
  out = tmp_path / 'model.zip'
  assert _export(workdir, out, '--json') == 0
  result = json.loads(capsys.readouterr().out)
  assert result['file'] == str(out)
  assert result['bytes'] == out.stat().st_size
  # All pictures of the run's evaluation split, as it evaluates them.
  assert result['count'] == result['same_top1'] == 100
  assert result['top1'] == pytest.approx(best['top1'])
  assert result['difference'] < 1e-5
  with zipfile.ZipFile(out) as archive:
    description = json.loads(archive.read('description.json'))
  assert description['class_names'] == list(eval_source.class_names)
  assert description['step'] == best['step']


@pytest.mark.slow
@pytest.mark.rotating
def test_pictures_of_the_command_line(workdir, image_dir, tmp_path, capsys):
  out = tmp_path / 'model.zip'
  assert _export(workdir, out, '--pictures=7', image_dir) == 0
  said = capsys.readouterr().out
  assert 'the same first class for 7 of 7 pictures' in said
  assert 'Top-1' not in said
  assert '16 at a time: ' in said


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--precision=int8'], '--format=stablehlo is written in float32 alone'),
    (['--image_size=30'], 'divisible'),
  ],
)
def test_what_cannot_be_exported(arguments, message, workdir, tmp_path):
  with pytest.raises(UserError, match=message):
    _export(workdir, tmp_path / 'model.zip', *arguments)
  assert [*tmp_path.iterdir()] == []


def test_a_target_that_exists_is_left_alone(workdir, tmp_path):
  out = tmp_path / 'model.zip'
  out.write_text('mine')
  with pytest.raises(UserError, match='exists already: give a new path'):
    _export(workdir, out)
  assert out.read_text() == 'mine'


def test_a_damaged_checkpoint(damaged_workdir, tmp_path):
  with pytest.raises(UserError, match='damaged'):
    _export(damaged_workdir, tmp_path / 'model.zip')


def test_a_picture_that_cannot_be_read(workdir, tmp_path):
  with pytest.raises(UserError, match='leave it out, or give another'):
    _export(workdir, tmp_path / 'model.zip', tmp_path / 'no.jpg')

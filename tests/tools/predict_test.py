import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.errors import UserError
from coatnet_jax.imagenet_classes import list_words
from tools import predict


@pytest.fixture(scope='module')
def trained(workdir):
  return load_trained_model(workdir)


def _predict(capsys, *arguments):
  """Returns exit status, results and stderr."""
  status = predict.main([*map(str, arguments), '--json'])
  captured = capsys.readouterr()
  return status, json.loads(captured.out), captured.err


def test_predictions_are_those_that_evaluation_counts(
  workdir, best, image_dir, eval_source, capsys
):
  status, results, err = _predict(capsys, f'--checkpoint={workdir}', image_dir)
  assert (status, err) == (0, '')
  assert [r['image'] for r in results] == sorted(map(str, image_dir.iterdir()))
  labels = [int(r['image'][-len('0.png')]) for r in results]
  ranked = [[p['label'] for p in r['predictions']] for r in results]
  hits = [label == found[0] for label, found in zip(labels, ranked)]
  hits5 = [label in found for label, found in zip(labels, ranked)]
  assert sum(hits) == round(100 * best['top1'])
  assert sum(hits5) == round(100 * best['top5'])
  # The counts say something: the model knows several classes apart.
  assert len({found[0] for found in ranked}) > 2
  for result in results:
    probabilities = [p['probability'] for p in result['predictions']]
    assert len(probabilities) == 5
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) < 1
    for prediction in result['predictions']:
      name = eval_source.class_names[prediction['label']]
      assert prediction['class'] == name
      assert prediction['words'] == []


def test_all_classes_together_are_certain(workdir, image_dir, capsys):
  _, results, _ = _predict(
    capsys, f'--checkpoint={workdir}', '--top=10', image_dir / '000_9.png'
  )
  (result,) = results
  assert sorted(p['label'] for p in result['predictions']) == [*range(10)]
  total = sum(p['probability'] for p in result['predictions'])
  assert total == pytest.approx(1, rel=1e-5)


def test_json_has_a_path_itself_and_a_terminal_is_shown_it(
  workdir, image_dir, tmp_path, capsys
):
  path = tmp_path / 'a\nb\x1b[2J\udcff.png'
  shutil.copy(image_dir / '000_9.png', path)
  _, (result,), _ = _predict(capsys, f'--checkpoint={workdir}', path)
  assert result['image'] == str(path)
  first, *_ = predict.describe_result(result).splitlines()
  assert first == rf'{tmp_path}/a\x0ab\x1b[2J\xff.png'


def test_another_image_size_is_used_and_said(workdir, image_dir, capsys):
  status, results, err = _predict(
    capsys,
    f'--checkpoint={workdir}',
    '--image_size=32',
    '--batch_size=1',
    image_dir / '000_9.png',
  )
  assert (status, len(results)) == (0, 1)
  assert err == 'resized 2 relative position tables, 7x7 to 8x8\n'


def test_what_cannot_be_read_is_named_and_the_rest_predicted(
  workdir, image_dir, run_tool, tmp_path
):
  photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
  jpeg = cv2.imencode('.jpg', photo)[1].tobytes()
  (tmp_path / 'photo.jpg').write_bytes(jpeg)
  (tmp_path / 'truncated.jpg').write_bytes(jpeg[: len(jpeg) // 2])
  (tmp_path / 'text.png').write_text('not a picture')
  (tmp_path / 'empty.webp').write_bytes(b'')
  png = cv2.imencode('.png', photo)[1].tobytes()
  (tmp_path / 'truncated.png').write_bytes(png[: len(png) // 2])
  shutil.copy(image_dir / '000_9.png', tmp_path / 'boot.png')
  names = ['missing.jpg', 'photo.jpg', 'truncated.jpg', 'text.png']
  os.mkfifo(tmp_path / 'pipe.png')
  names += ['empty.webp', 'truncated.png', 'boot.png', 'pipe.png']

  result = run_tool(
    'predict', f'--checkpoint={workdir}', *names, '--top=2', cwd=tmp_path
  )
  assert result.returncode == 1
  errors = [
    line
    for line in result.stderr.splitlines()
    # Of libpng itself, which cannot be told not to, or of a slow start.
    if not line.startswith(('libpng error', 'Reading the checkpoint'))
  ]
  assert len(errors) == 6
  assert errors[0].startswith('missing.jpg: cannot be read: No such file')
  assert errors[1].startswith('truncated.jpg: cannot be decoded: truncated')
  assert errors[2].startswith('text.png: cannot be decoded: ')
  assert errors[3] == 'empty.webp: cannot be decoded: the file is empty'
  assert errors[4].startswith('truncated.png: cannot be decoded: truncated')
  assert errors[5] == 'pipe.png: cannot be read: it is a named pipe'
  lines = result.stdout.splitlines()
  assert [line for line in lines if line[0] != ' '] == ['photo.jpg', 'boot.png']
  assert len(lines) == 6
  for line in (*lines[1:3], *lines[4:]):
    probability, _, name = line.strip().partition('%  ')
    assert 0 < float(probability) < 100
    assert name


def test_no_image_that_can_be_read_is_an_empty_list(workdir, tmp_path, capsys):
  status, results, err = _predict(
    capsys, f'--checkpoint={workdir}', tmp_path / 'none.png', tmp_path
  )
  assert status == 1
  assert results == []
  assert 'none.png: cannot be read' in err
  assert f'{tmp_path}: there are no images in it (.jpg' in err


def test_batches_have_one_shape_and_do_not_change_the_result(
  trained, image_dir, monkeypatch
):
  shapes = []
  compute = predict.predict_top_classes

  def count(variables, images, **options):
    shapes.append(images.shape)  # Once per compilation.
    return compute(variables, images, **options)

  monkeypatch.setattr(predict, 'predict_top_classes', count)
  paths = sorted(image_dir.iterdir())

  def predict_paths(paths, batch_size):
    return list(
      predict.predict_files(
        trained, paths, top=5, batch_size=batch_size, report_failure=pytest.fail
      )
    )

  in_batches = predict_paths(paths[:50], 16)
  assert shapes == [(16, 28, 28, 3)]
  alone = predict_paths(paths[49:50], 4)
  for found, expected in zip(
    in_batches[-1]['predictions'], alone[0]['predictions']
  ):
    assert found['label'] == expected['label']
    assert found['probability'] == pytest.approx(expected['probability'])


def test_directories_are_searched_for_images(tmp_path):
  names = ['b.JPG', 'a.png', 'notes.txt', '.hidden.png', 'deep/c.webp']
  names += ['.cache/d.png', 'a.jpg.partial']
  for name in names:
    path = tmp_path / 'folder' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
  odd = tmp_path / 'no_suffix'
  missing = tmp_path / 'missing.png'
  found = predict.find_images(
    [odd, tmp_path / 'folder', missing], report_failure=pytest.fail
  )
  folder = tmp_path / 'folder'
  assert list(found) == [
    odd,
    folder / 'a.png',
    folder / 'b.JPG',
    folder / 'deep' / 'c.webp',
    missing,
  ]


@pytest.mark.parametrize(
  ('top', 'num_classes', 'expected'),
  [(None, 10, 5), (None, 3, 3), (10, 10, 10), (1, 10, 1)],
)
def test_top_classes(top, num_classes, expected):
  assert predict.check_top(top, num_classes) == expected


@pytest.mark.parametrize('top', [11, 0, -1])
def test_more_top_classes_than_there_are_is_an_error(workdir, image_dir, top):
  with pytest.raises(
    UserError, match=rf'--top is {top};.* (1 \.\. 10|at least 1)'
  ):
    predict.main([f'--checkpoint={workdir}', str(image_dir), f'--top={top}'])


def test_a_batch_size_of_none_is_an_error(workdir, image_dir):
  with pytest.raises(UserError, match=r'--batch_size is 0'):
    predict.main([f'--checkpoint={workdir}', str(image_dir), '--batch_size=0'])


@pytest.mark.parametrize('size', ['30', '0', 'abc', '28x30', '-28', '28x'])
def test_an_image_size_that_does_not_fit_is_an_error(workdir, image_dir, size):
  with pytest.raises(UserError, match=r'^(--image_size is|.*divisible by 4)'):
    predict.main(
      [f'--checkpoint={workdir}', str(image_dir), f'--image_size={size}']
    )


def test_no_image_is_a_usage_error(workdir, capsys):
  with pytest.raises(SystemExit) as exit_info:
    predict.main([f'--checkpoint={workdir}'])
  assert exit_info.value.code == 2
  assert 'IMAGE' in capsys.readouterr().err


def test_a_damaged_checkpoint_is_a_sentence(
  damaged_workdir, image_dir, run_tool
):
  result = run_tool('predict', f'--checkpoint={damaged_workdir}', image_dir)
  assert result.returncode == 1
  assert result.stdout == ''
  assert result.stderr.startswith(f'Error: The checkpoint {damaged_workdir}/')
  assert result.stderr.count('\n') == 1


def test_no_checkpoint_is_an_error(tmp_path, image_dir):
  with pytest.raises(UserError, match=r'elsewhere does not exist'):
    predict.main([f'--checkpoint={tmp_path}/elsewhere', str(image_dir)])


def test_starting_needs_no_tensorflow():
  code = (
    'import sys, tools.predict;'
    "print([m for m in ('tensorflow', 'clu', 'grain', 'tensorflow_datasets')"
    ' if m in sys.modules])'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == '[]'


def test_classes_of_imagenet_are_said_in_words():
  def predict_class(name):
    result = {
      'image': 'a.jpg',
      'predictions': [
        {
          'class': name,
          'words': list_words(name),
          'label': 0,
          'probability': 0.5,
        }
      ],
    }
    return predict.describe_result(result).splitlines()[1]

  assert predict_class('n02749479') == '   50.00%  assault rifle (n02749479)'
  assert predict_class('Sneaker') == '   50.00%  Sneaker'
  assert predict_class('n00000000') == '   50.00%  n00000000'

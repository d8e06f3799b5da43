import json

import cv2
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from tools import explain


@pytest.fixture
def photo(tmp_path):
  """Returns a picture that is wider than it is high."""
  pixels = np.random.default_rng(0).integers(0, 256, (90, 140, 3), np.uint8)
  path = tmp_path / 'a photo.png'
  assert cv2.imwrite(str(path), pixels)
  return path


def _explain(capsys, *arguments):
  status = explain.main([*map(str, arguments), '--json'])
  captured = capsys.readouterr()
  return status, json.loads(captured.out), captured.err


def test_every_map_is_a_file_that_is_named(workdir, photo, tmp_path, capsys):
  out = tmp_path / 'new' / 'maps'
  arguments = [
    f'--checkpoint={workdir}',
    '--method=grad_cam,relevance,rollout,head,integrated_gradients',
    '--class=3',
    '--steps=8',
    '--head=1',
    f'--out={out}',
  ]
  status, results, _ = _explain(capsys, *arguments, photo)
  assert status == 0
  assert {r['method'] for r in results} == {*explain.METHODS}
  assert {r['label'] for r in results} == {3}
  assert sorted(r['file'] for r in results) == sorted(map(str, out.iterdir()))
  for result in results:
    picture = cv2.imread(result['file'])
    # Enlarged by 2, with words below.
    assert picture.shape[0] > 180
    assert picture.shape[1] == max(280, 320)
  # The same again replaces what this tool made, and nothing else.
  assert _explain(capsys, *arguments, photo)[0] == 0
  other = out / 'a photo.rollout.png'
  other.write_bytes(photo.read_bytes())
  with pytest.raises(
    UserError, match=r'a photo\.rollout\.png is there, and is'
  ):
    explain.main([*arguments, str(photo)])
  assert other.read_bytes() == photo.read_bytes()


def test_the_predicted_class_is_explained(workdir, image_dir, tmp_path, capsys):
  (first, *_) = sorted(image_dir.iterdir())
  _, (result,), _ = _explain(
    capsys, f'--checkpoint={workdir}', f'--out={tmp_path}', first
  )
  from tools import predict

  predict.main([f'--checkpoint={workdir}', '--json', str(first)])
  (expected,) = json.loads(capsys.readouterr().out)
  assert result['class'] == expected['predictions'][0]['class']
  assert result['probability'] == pytest.approx(
    expected['predictions'][0]['probability'], rel=1e-4
  )


def test_what_cannot_be_read_is_named(workdir, photo, tmp_path, capsys):
  broken = tmp_path / 'broken.png'
  broken.write_text('no picture')
  status, results, err = _explain(
    capsys, f'--checkpoint={workdir}', f'--out={tmp_path}', broken, photo
  )
  assert status == 1
  assert len(results) == 1
  assert 'broken.png: cannot be decoded' in err


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--position=1,2'], r'^--position changes .*=grad_cam; .*=head\.$'),
    (['--steps=5'], r'^--steps changes .* give --method=integrated_gradients'),
    (['--method=relevance', '--stage=s2'], '^--stage changes nothing'),
    (['--method=rollout,head', '--class=0'], '^--class changes nothing'),
  ],
)
def test_a_flag_of_other_methods_is_refused(arguments, message):
  with pytest.raises(UserError, match=message):
    explain.main(['--checkpoint=nowhere', 'picture.png', *arguments])


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('--stage=s5', r"^The stage is 's5'; it must be one of s0, s1.*s4"),
    ('--class=Bagg', r"^--class is 'Bagg'; it must be one of .*mean Bag\?"),
    ('--class=10', r'^--class is 10; the model has 10 classes, .* 0 \.\. 9'),
    ('--method=gradcam', r"^--method is 'gradcam'; .*did you mean grad_cam"),
    ('--position=3', r"^--position is '3'; it must be ROW,COLUMN"),
    ('--head=-1', r'^--head is -1; it must be'),
    ('--head=99', r'^The head is 99; s4_block_0 has \d+ heads, so it must'),
    ('--block=s1_block_0', r"^The block .* is 's1_block_0'; it must be one of"),
    ('--position=0,0', r'^The position is 0,0; the model sees the rows'),
    ('--out=FILE', r'^--out=.* is a file; give a directory'),
  ],
)
def test_what_is_not_there_is_one_sentence(
  argument, message, workdir, photo, tmp_path
):
  (tmp_path / 'FILE').touch()
  arguments = [f'--checkpoint={workdir}', '--method=grad_cam,head', str(photo)]
  arguments.append(f'--out={tmp_path / "maps"}')
  arguments.append(argument.replace('FILE', str(tmp_path / 'FILE')))
  with pytest.raises(UserError, match=message):
    explain.main(arguments)


def test_a_class_may_be_called_by_a_number():
  assert explain.find_class('7', ('7', '8')) == 0
  assert explain.find_class('1', ('7', '8')) == 1
  assert explain.find_class(None, ('7', '8')) is None

import sys

import cv2
import numpy as np
import pytest

from coatnet_jax.errors import UserError
from coatnet_jax.figures import augmented_grid
from tests.quick_configs import create_quick_config
from tools import visualize


@pytest.mark.parametrize(
  'arguments',
  [
    ['position_tables', '--checkpoint=WORKDIR'],
    ['stem', '--checkpoint=WORKDIR'],
    ['curves', 'WORKDIR', '--measure=train/loss,eval/top5'],
    ['schedule', '--config=configs/coatnet_2.py:imagenet21k'],
    ['augmentations', '--config=configs/quickstart.py', '--pictures=2'],
  ],
  ids=lambda arguments: arguments[0],
)
def test_a_figure_is_written(arguments, workdir, tmp_path, capsys):
  out = tmp_path / 'new' / 'figure.png'
  words = [word.replace('WORKDIR', str(workdir)) for word in arguments]
  for _ in range(2):  # The second replaces the first.
    assert visualize.main([*words, f'--out={out}']) == 0
  assert str(out) in capsys.readouterr().out
  picture = cv2.imread(str(out))
  assert min(picture.shape[:2]) > 120
  # Something is drawn.
  assert picture.std() > 5


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['curves', 'nowhere'], 'There is no directory .*nowhere: give workdirs'),
    (['curves', 'EMPTY'], r'EMPTY has no curves: give workdirs'),
    (
      ['curves', 'WORKDIR', '--measure=eval/lss'],
      r"^--measure is 'eval/lss'; .*did you mean eval/loss",
    ),
    (['schedule'], r'^--config is missing'),
    (['schedule', '--config=configs/no.py'], r'does not exist; this project'),
    (
      ['schedule', '--config=configs/quickstart.py', '--config.data.name=no'],
      r'Without data: --train_examples=N',
    ),
    (['stem', '--checkpoint=EMPTY'], r'EMPTY has no checkpoint'),
    (['curves', 'WORKDIR', '--out=a.jpg'], r'must be a PNG file, NAME\.png'),
  ],
)
def test_what_is_not_there_is_one_sentence(
  arguments, message, workdir, tmp_path
):
  (tmp_path / 'EMPTY').mkdir()
  paths = {'WORKDIR': str(workdir), 'EMPTY': str(tmp_path / 'EMPTY')}
  words = [f'--out={tmp_path / "figure.png"}', *arguments[1:]]
  for name, path in paths.items():
    words = [word.replace(name, path) for word in words]
  with pytest.raises(UserError, match=message):
    visualize.main([arguments[0], *words])


def test_a_missing_package_is_a_sentence(workdir, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  with pytest.raises(UserError, match=r'pip install matplotlib'):
    visualize.main(['curves', str(workdir), f'--out={tmp_path / "a.png"}'])


def test_a_picture_of_several_labels_has_all_their_names(tmp_path, monkeypatch):
  for number in range(4):
    pixels = np.full((30, 30, 3), 60 * number, np.uint8)
    cv2.imwrite(str(tmp_path / f'{number}.png'), pixels)
  labels = ('ape|cat,train', 'cat,train', ',train', 'ape,test')
  rows = [f'{number}.png,{text}' for number, text in enumerate(labels)]
  text = '\n'.join(['path,labels,split', *rows])
  (tmp_path / 'labels.csv').write_text(text)
  drawn = []
  monkeypatch.setattr(
    augmented_grid,
    'draw_augmented_grid',
    lambda pictures, *options, **named: drawn.extend(pictures),
  )
  config = create_quick_config(
    {
      'data.source': 'folder',
      'data.data_dir': str(tmp_path / 'labels.csv'),
      'data.train_split': 'train',
      'data.eval_split': 'test',
    }
  )
  visualize.draw_augmentations(config, 4, 2)
  assert [name for _, name in drawn] == ['ape, cat', 'cat', '']

"""What docs/data.md says of lists, folds and groups does as it stands."""

import itertools

import cv2
import numpy as np
import pytest

from coatnet_jax.config_flag import load_config
from coatnet_jax.run import create_run
from tests import documents
from tests.documents import ROOT


@pytest.fixture(autouse=True)
def _pictures(tmp_path, monkeypatch):
  """Goes to a directory with FOLDER and PICTURES, of two classes."""
  monkeypatch.chdir(tmp_path)
  for name in ('FOLDER/cat', 'FOLDER/dog', 'PICTURES/images'):
    (tmp_path / name).mkdir(parents=True)
  rng = np.random.default_rng(0)
  for number in range(80):
    pixels = rng.integers(0, 256, (8, 9, 3), np.uint8)
    name = f'{("cat", "dog")[number % 2]}/patient{number // 4}_{number}.png'
    assert cv2.imwrite(f'FOLDER/{name}', pixels)
    assert cv2.imwrite(f'PICTURES/images/{number:04}.jpg', pixels)


def _create_run(wanted):
  """Resolves the command of the page that has a text."""
  (block,) = [
    block
    for block in documents.find_blocks('bash')
    if block.page == 'docs/data.md' and wanted in block.text
  ]
  ((*words,),) = documents.split_commands(block.text)
  changes = [word for word in words if word.startswith('--config.')]
  return create_run(load_config(f'{ROOT}/configs/image_folder.py', changes))


def _names(source):
  return [name for name, _ in source.list_files()]


def test_the_table_that_is_shown_is_read(tmp_path):
  page = (ROOT / 'docs' / 'data.md').read_text(encoding='utf-8')
  header = 'path,label,split,patient_id'
  start = page.index(header)
  shown = page[start : page.index('```', start)].split()[1:]
  rows = [row.split(',') for row in shown]
  lines = [header]
  for number, (_, label, split, patient) in zip(
    range(80), itertools.cycle(rows)
  ):
    # Those of the training split have both classes.
    label = label if split == 'val' else ('benign', 'malignant')[number % 4 > 1]
    lines.append(f'images/{number:04}.jpg,{label},{split},{patient}')
  (tmp_path / 'PICTURES' / 'labels.csv').write_text('\n'.join(lines))
  run = _create_run('PICTURES/labels.csv')
  assert run.train_source.class_names == ('benign', 'malignant')
  assert (len(run.train_source), len(run.eval_source)) == (40, 40)


def test_the_fold_that_is_shown_is_a_fifth():
  run = _create_run('num_folds=5')
  assert (len(run.train_source), len(run.eval_source)) == (64, 16)


def test_the_pattern_that_is_shown_keeps_patients_together():
  run = _create_run('group_pattern=')
  patients = [
    {name.split('/')[1].split('_')[0] for name in _names(source)}
    for source in (run.train_source, run.eval_source)
  ]
  assert patients[0] | patients[1] == {f'patient{n}' for n in range(20)}
  assert not patients[0] & patients[1]
  assert len(patients[1]) == 2


def test_the_several_labels_that_are_shown_are_read(tmp_path):
  page = (ROOT / 'docs' / 'data.md').read_text(encoding='utf-8')
  shown = '{"path": "images/0001.jpg", "label": ["cat", "dog"]}'
  assert shown in page
  lines = [shown.replace('0001', f'{number:04}') for number in range(70)]
  (tmp_path / 'PICTURES' / 'labels.jsonl').write_text('\n'.join(lines))
  run = _create_run('labels.jsonl')
  assert run.train_source.has_several_labels
  assert len(run.train_source) + len(run.eval_source) == 70
  assert run.checkpoint.best_metric == 'mean_average_precision'

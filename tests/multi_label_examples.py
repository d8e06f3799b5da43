"""Pictures with several labels each, a list of them, and a config for it."""

import json

import cv2
import numpy as np

from tests.quick_configs import create_quick_config

NAMES = ('cat', 'dog', 'owl', '<b>yak|')
_COLOURS = ((250, 40, 40), (40, 250, 40), (40, 40, 250), (250, 250, 40))


def paint_labels(labels, seed=0):
  """Returns [28, 28, 3] uint8: noise, with a patch of a colour per label."""
  pixels = np.random.default_rng(seed).integers(0, 200, (28, 28, 3), np.uint8)
  for label in labels:
    top, left = 14 * (label // 2), 14 * (label % 2)
    pixels[top + 2 : top + 12, left + 2 : left + 12] = _COLOURS[label]
  return pixels


def draw_label_sets(number, seed=0):
  """Returns labels of each picture: the last is rare, and some have none."""
  rng = np.random.default_rng(seed)
  has = rng.random((number, 4)) < (0.5, 0.4, 0.3, 0.1)
  return [np.flatnonzero(row).tolist() for row in has]


def write_list(folder, label_sets, names=NAMES, *, split='', damaged=()):
  """Writes pictures and a list of them; returns its path.

  Args:
    folder: directory of both.
    label_sets: labels of each picture.
    names: names of the classes.
    split: what the last half is called in the list, the rest being 'train';
      no splits if empty.
    damaged: numbers of pictures that cannot be decoded.
  """
  (folder / 'pictures').mkdir(parents=True)
  lines = []
  for number, labels in enumerate(label_sets):
    path = f'pictures/{number:03}.png'
    pixels = paint_labels(labels, number)
    cv2.imwrite(str(folder / path), np.ascontiguousarray(pixels[..., ::-1]))
    if number in damaged:
      (folder / path).write_bytes(b'\x89PNG\r\n\x1a\ncut off')
    line = {'file': path, 'labels': [names[label] for label in labels]}
    if split:
      line['split'] = split if 2 * number >= len(label_sets) else 'train'
    lines.append(json.dumps(line))
  path = folder / 'labels.jsonl'
  path.write_text('\n'.join(lines))
  return path


def create_config(path, **changes):
  """Returns the config of a short run on a list."""
  return create_quick_config(
    {
      'data.source': 'folder',
      'data.data_dir': str(path),
      'data.train_split': 'train',
      'data.eval_split': 'validation',
      'loss.kind': 'sigmoid',
      'loss.label_smoothing': 0.0,
      'checkpoint.best_metric': 'mean_average_precision',
      'training.num_steps': 12,
      'training.global_batch_size': 16,
      'evaluation.every_epochs': 0.0,
      'evaluation.every_steps': 6,
      'evaluation.global_batch_size': 16,
      **changes,
    }
  )

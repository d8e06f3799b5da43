"""Evaluation where images have several labels, by a model that reads them."""

import dataclasses
import json

import cv2
import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from coatnet_jax.data.sources import DataOptions
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation import data_sets, label_decisions, tasks
from coatnet_jax.evaluation.descriptions import describe_result
from coatnet_jax.reports import content
from coatnet_jax.training.losses import LossOptions

NAMES = ('ant', 'bee', 'cow', 'dog')


class _ReadsBits(nn.Module):
  """Says that classes are there whose bits red has, the surer the greener."""

  num_classes: int

  @nn.compact
  def __call__(self, images, train):
    """Maps [B, H, W, 3] in 0..1 to [B, num_classes]."""
    colour = jnp.round(images.mean((1, 2)) * 255)
    bits = colour[:, :1] // 2 ** jnp.arange(self.num_classes) % 2
    logits = (2 * bits - 1) * (1 + colour[:, 1:2]) / 32
    return jnp.where(colour[:, 2:] > 200, jnp.nan, logits)


@pytest.fixture
def trained(create_trained):
  return dataclasses.replace(
    create_trained(NAMES),
    model=_ReadsBits(len(NAMES)),
    loss=LossOptions(kind='sigmoid', label_smoothing=0.0),
  )


def _write(folder, images, names=NAMES):
  """Writes pictures of (labels said, labels true, sureness, NaN or not)."""
  folder.mkdir(exist_ok=True)
  lines = []
  for number, (said, true, sureness, *is_nan) in enumerate(images):
    bits = sum(2**k for k in said)
    colour = (255 * bool(is_nan), sureness, bits)
    pixels = np.broadcast_to(np.array(colour, np.uint8), (8, 8, 3))
    path = f'{number:02}.png'
    cv2.imwrite(str(folder / path), np.ascontiguousarray(pixels))
    line = {'file': path, 'labels': [names[k] for k in true]}
    lines.append(json.dumps(line))
  path = folder / 'list.jsonl'
  path.write_text('\n'.join(lines))
  return path


@pytest.fixture
def evaluate(data_options, trained):
  """Returns a function: a list to the figures, and what could not be read."""

  def evaluate(path, model=trained):
    data = data_options(source='folder', data_dir=str(path))
    own = DataOptions(**model.config.data)
    data = data_sets.hold_nothing_out(data, own)
    task = tasks.open_classification(data, model, pytest.fail)
    damaged = []
    found = task.run(model, batch_size=8, report_undecodable=damaged.append)
    return task, found, damaged

  return evaluate


_IMAGES = (
  ((0,), (0,), 90),
  ((0, 1), (0, 1), 80),
  ((0, 1), (1,), 70),  # An ant too many.
  ((1,), (1, 2), 60),  # A cow too few.
  ((), (), 50),
  ((0,), (), 40),
  ((1,), (0, 1), 30),
  ((0, 1), (0,), 20),
  ((), (2,), 10),
  ((0, 1), (0, 1), 25, 'nan'),
  ((3,), (3,), 95),
)


def test_figures_are_scikit_learns(tmp_path, evaluate):
  task, found, damaged = evaluate(_write(tmp_path, _IMAGES))
  assert task.kind == 'multi_label'
  assert ', all: 11 images, 4 classes' in task.data
  assert damaged == []
  true = np.array([[k in i[1] for k in range(4)] for i in _IMAGES])
  said = np.array([[k in i[0] for k in range(4)] for i in _IMAGES])
  scores = np.where(said, 1, -1) * (1 + np.array([[i[2]] for i in _IMAGES]))
  said[9], scores[9] = False, -1000  # NaN.
  names = ('precision', 'recall', 'f1', 'count')
  expected = metrics.precision_recall_fscore_support(
    true, said, zero_division=np.nan
  )
  for label, one in enumerate(found['per_class']):
    assert one['class'] == NAMES[label]
    for name, values in zip(names, expected):
      np.testing.assert_allclose(one[name], values[label], err_msg=name)
    assert one['average_precision'] == pytest.approx(
      metrics.average_precision_score(true[:, label], scores[:, label])
    )
  assert len(found['per_class']) == 4
  assert found['mean_average_precision'] == pytest.approx(
    metrics.average_precision_score(true, scores)
  )
  for average in ('micro', 'macro'):
    assert found[f'{average}_f1'] == pytest.approx(
      metrics.f1_score(true, said, average=average)
    )
  # Of images without labels, and of NaN, nothing is right.
  assert found['top1'] == pytest.approx(6 / 11)
  assert found['count'] == 11
  assert np.isnan(found['loss'])
  lines = describe_result({'kind': 'multi_label', **found}).splitlines()
  assert lines[0].startswith('result      mean average precision ')
  assert f'F1 {found["micro_f1"]:.4f} of all labels' in lines[1]
  weakest = [line for line in lines if line.startswith('weakest')]
  assert len(weakest) == 3
  least = min(found['per_class'], key=lambda one: one['average_precision'])
  assert weakest[0].startswith(f'weakest     {least["class"]}: average prec')


def test_a_class_without_images_is_in_no_mean():
  targets = np.array([[True, False], [False, False], [True, False]])
  decisions = np.array([[True, True], [False, False], [False, False]])
  found = label_decisions.measure_decisions(decisions, targets)
  assert found.macro_f1 == pytest.approx(2 / 3)
  # It is a wrong decision all the same.
  assert found.micro_f1 == pytest.approx(2 / 4)
  assert np.isnan(found.recall[1])
  nothing = label_decisions.measure_decisions(decisions, targets & False)
  assert np.isnan(nothing.macro_f1)
  assert nothing.micro_f1 == 0
  assert label_decisions.decide(np.array([0.5])).tolist() == [True]


def test_classes_of_other_data_are_found_by_name(tmp_path, evaluate, trained):
  names = ('dog', 'bee', 'ant')
  # As the model has them: what is said are the model's classes.
  images = [
    ((3,), (0,), 90),
    ((1,), (1,), 80),
    ((0, 1), (2, 1), 70),
    ((2,), (1,), 255),  # A cow that nobody asks for.
  ]
  task, found, _ = evaluate(_write(tmp_path, images, names))
  assert [one['class'] for one in found['per_class']] == ['ant', 'bee', 'dog']
  assert [one['count'] for one in found['per_class']] == [1, 3, 1]
  assert [one['recall'] for one in found['per_class']] == [1, 2 / 3, 1]
  assert [one['precision'] for one in found['per_class']] == [1, 1, 1]
  assert task.rules == (
    'only the logits of the 3 classes that the data have compete, of 4',
  )
  assert found['top1'] == 0.75
  with pytest.raises(UserError, match="and 'eel' is none of them"):
    evaluate(_write(tmp_path, images, ('dog', 'bee', 'eel')))


def test_classes_may_be_in_another_order(tmp_path, evaluate, trained):
  names = ('dog', 'ant', 'cow', 'bee')
  model = dataclasses.replace(trained, class_names=names)
  images = [((0,), (0,), 90), ((1, 3), (1, 3), 80), ((2,), (2, 0), 70)]
  _, found, _ = evaluate(_write(tmp_path, images, names), model)
  assert [(one['class'], one['recall']) for one in found['per_class']] == [
    *(('dog', 0.5), ('ant', 1), ('cow', 1), ('bee', 1))
  ]
  assert found['top1'] == 1


def test_an_image_that_cannot_be_decoded_is_left_out(tmp_path, evaluate):
  path = _write(tmp_path, _IMAGES)
  (tmp_path / '02.png').write_bytes(b'none')
  _, found, (damaged,) = evaluate(path)
  assert '02.png: ' in damaged
  assert found['undecodable'] == 1
  assert found['count'] == 10
  assert found['per_class'][1]['count'] == 4
  result = describe_result({'kind': 'multi_label', **found})
  assert ', 1 more cannot be decoded' in result.splitlines()[0]


def test_a_model_of_one_label_is_refused(
  tmp_path, evaluate, trained, data_options, monkeypatch
):
  loss = LossOptions(kind='softmax', label_smoothing=0.0)
  model = dataclasses.replace(trained, loss=loss)
  path = _write(tmp_path, _IMAGES)
  with pytest.raises(UserError, match="the model's loss is 'softmax', by wh"):
    evaluate(path, model)
  monkeypatch.setattr(content, 'load_trained_model', lambda *_: model)
  data = data_options(source='folder', data_dir=str(path), eval_fraction=1.0)
  with pytest.raises(UserError, match="the model's loss is 'softmax', by wh"):
    content.create_content(
      path, report=pytest.fail, find_data=lambda trained: data
    )


@pytest.mark.parametrize('is_probe', [True, False])
def test_a_classifier_of_features_is_refused(
  tmp_path, data_options, trained, is_probe
):
  path = _write(tmp_path, _IMAGES * 2)
  data = data_options(source='folder', data_dir=str(path))
  options = [] if is_probe else [(1,), (0,)]
  open_task = tasks.open_linear_probe if is_probe else tasks.open_few_shot
  with pytest.raises(
    UserError, match='labels each, and --fewshot and --linear'
  ):
    open_task(data, trained, *options)

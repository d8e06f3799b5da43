"""Outcomes that are drawn, reports of them, and what a page says."""

import dataclasses
import html.parser

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.augmentation import PreprocessingOptions
from coatnet_jax.data.image_source import CorruptImageError, ImageSource
from coatnet_jax.evaluation.measures import Predictions, Tally
from coatnet_jax.reports.content import (
  LabelReportContent,
  ReportContent,
  measure_outcomes,
)
from coatnet_jax.reports.multi_label.outcomes import LabelOutcomes
from coatnet_jax.reports.outcomes import BaseOutcomes, collect_outcomes
from coatnet_jax.training.losses import LossOptions
from configs import base

# Without an end of their own.
_VOID = ('meta', 'img', 'br', 'wbr')


def draw_outcomes(
  num_examples, num_classes, *, seed=0, names=None, skill=2.0, labels=None
):
  """Returns outcomes of random logits, in which the label's are larger.

  The labels may be given; else none is of the last class, if there are several.
  """
  return draw(
    num_examples,
    num_classes,
    seed=seed,
    names=names,
    skill=skill,
    labels=labels,
  )[0]


def draw(
  num_examples, num_classes, *, seed=0, names=None, skill=2.0, labels=None
):
  """Returns the same, and what `tools.evaluate` says of them."""
  rng = np.random.default_rng(seed)
  if labels is None:
    labels = rng.integers(max(num_classes - 1, 1), size=num_examples)
  logits = rng.normal(size=(num_examples, num_classes))
  logits[np.arange(num_examples), labels] += skill
  scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  return judge(scores.astype(np.float32), np.asarray(labels), names)


def judge(scores, labels, names=None):
  """Returns outcomes of probabilities [n, C], and the figures."""
  num_classes = scores.shape[1]
  names = names or tuple(f'class {number}' for number in range(num_classes))
  predictions = Predictions(
    indices=np.arange(len(labels)),
    labels=labels.astype(np.int32),
    classes=np.argsort(-scores, axis=1, kind='stable')[:, :5].astype(np.int32),
    confidences=scores.max(axis=1),
    losses=-np.log(scores[np.arange(len(labels)), labels]),
    valid=~np.isnan(scores).any(axis=1),
    probabilities=scores if num_classes <= 20 else scores[:, :0],
  )
  hits = (predictions.classes == labels[:, None]) & predictions.valid[:, None]
  tally = Tally(num_classes)
  tally.update(predictions, hits)
  figures = {
    **tally.summarize(),
    'undecodable': 0,
    'most_confused': tally.most_confused(names, 20),
  }
  return collect_outcomes([(predictions, hits)], names), figures


def create_content(
  outcomes: BaseOutcomes, figures: dict, **changes
) -> ReportContent:
  """Returns the content of a report that no run has written."""
  config = base.get_config().to_dict()
  trained = TrainedModel(
    model=None,
    variables=None,
    preprocessing=PreprocessingOptions(**config['preprocessing']),
    loss=LossOptions(kind='softmax', label_smoothing=0.1),
    class_names=outcomes.class_names,
    config=ConfigDict(config),
    step=7,
    path=epath.Path('/nowhere/checkpoints/7'),
    mesh=None,
    changes=(),
  )
  is_of_labels = isinstance(outcomes, LabelOutcomes)
  content = (LabelReportContent if is_of_labels else ReportContent)(
    trained=trained,
    workdir=epath.Path('/nowhere'),
    figures=figures,
    outcomes=outcomes,
    **measure_outcomes(outcomes),
    data=(('Evaluated on', 'drawn numbers'),),
    undecodable=(),
    rules=(),
    galleries=(),
    command='',
    seconds=1.0,
  )
  return dataclasses.replace(content, **changes)


class Pictures(ImageSource):
  """Pictures of noise, some of which cannot be read."""

  description = 'noise'

  def __init__(self, number, size, names, damaged=()):
    self.class_names, self._number, self._size = names, number, size
    self._damaged = damaged

  def __len__(self):
    return self._number

  def __getitem__(self, index):
    if index in self._damaged:
      raise CorruptImageError('torn')
    rng = np.random.default_rng(index)
    pixels = rng.integers(0, 256, (*self._size, 3), np.uint8)
    return {'image': pixels, 'label': 0}

  def describe(self, index):
    return f'a "file" <{index}>'


class Page(html.parser.HTMLParser):
  """What a page says.

  Attributes:
    numbers: {key: [whole number or None, text]} of what has a key.
    series: {key: whole numbers}, in order, where several have the same key.
    tables: {id or class: rows}, each a list of cells, (text, number or None).
    texts: all that is shown, in order.
    attributes: (element, name, value) of every attribute.
  """

  def __init__(self, text):
    super().__init__()
    self.numbers, self.series, self.tables = {}, {}, {}
    self.texts, self.attributes = [], []
    self._open, self._rows, self._cell, self._key = [], None, None, None
    self.feed(text)
    self.close()
    assert self._open == []

  def handle_starttag(self, tag, attrs):
    self.attributes += [(tag, name, value) for name, value in attrs]
    if tag not in _VOID and not self.get_starttag_text().endswith('/>'):
      self._open.append(tag)
    attrs = dict(attrs)
    if tag == 'table':
      name = attrs.get('id') or attrs.get('class') or 'other'
      self._rows = self.tables.setdefault(name, [])
    elif tag == 'tr':
      self._rows.append([])
    elif tag in ('td', 'th'):
      self._rows[-1].append(['', None])
      self._cell = self._rows[-1][-1]
    elif tag == 'data' and self._cell is not None and self._cell[1] is None:
      self._cell[1] = float(attrs['value'])
    if tag in ('data', 'span') and 'data-key' in attrs:
      value = float(attrs['value']) if tag == 'data' else None
      self._key = attrs['data-key']
      self.numbers[self._key] = [value, '']
      self.series.setdefault(self._key, []).append(value)

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)

  def handle_endtag(self, tag):
    assert self._open.pop() == tag
    if tag in ('td', 'th'):
      self._cell = None
    if tag in ('data', 'span'):
      self._key = None

  def handle_data(self, data):
    self.texts.append(data)
    if self._cell is not None:
      self._cell[0] += data
    if self._key is not None:
      self.numbers[self._key][1] += data

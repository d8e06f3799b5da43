"""Few-shot evaluation: N images per class, least squares on frozen features.

The linear few-shot evaluation of ViT (arXiv 2010.11929, section 4.1), with
the settings of google-research/big_vision: features are standardised over the
training images, targets are -1 and 1, the L2 penalty is 1024, and a constant
feature of 100 makes that of the bias small.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import scipy.linalg

from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.data.image_source import CorruptImageError, ImageSource
from coatnet_jax.data.sources import DataOptions
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation.features import (
  Subset,
  collect_features,
  compute_features,
)
from coatnet_jax.training.metrics import NO_EXAMPLES

L2_PENALTY = 1024.0
BIAS_FEATURE = 100.0
_EPSILON = 1e-5


class LeastSquaresClassifier:
  """L2-regularised least squares from features to {-1, 1} for each class."""

  def __init__(
    self,
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    l2_penalty: float = L2_PENALTY,
  ):
    """Solves for the weights, in float64.

    Args:
      features: features of N examples, [N, D].
      labels: true class of each, [N] integers.
      num_classes: number of classes, K.
      l2_penalty: penalty of the squared weights, added to the sum over
        examples.
    """
    features = features.astype(np.float64)
    self._mean = features.mean(axis=0)
    self._std = features.std(axis=0) + _EPSILON
    x = self._standardize(features)  # [N, D + 1]
    y = 2.0 * np.eye(num_classes)[labels] - 1.0  # [N, K]
    # The smaller of the two equivalent systems.
    if len(x) > x.shape[1]:
      gram = x.T @ x + l2_penalty * np.eye(x.shape[1])
      self._weights = scipy.linalg.solve(gram, x.T @ y, assume_a='pos')
    else:
      gram = x @ x.T + l2_penalty * np.eye(len(x))
      self._weights = x.T @ scipy.linalg.solve(gram, y, assume_a='pos')

  def _standardize(self, features: np.ndarray) -> np.ndarray:
    x = (features - self._mean) / self._std
    return np.pad(x, ((0, 0), (0, 1)), constant_values=BIAS_FEATURE)

  def scores(self, features: np.ndarray) -> np.ndarray:
    """Returns [n, K] float64 for [n, D]; the largest is the prediction."""
    return self._standardize(features.astype(np.float64)) @ self._weights


def choose_examples(
  source: ImageSource,
  shots: int,
  seed: int,
  excluded: Collection[int] = (),
) -> tuple[np.ndarray, np.ndarray]:
  """Chooses some images of every class at random.

  Labels are read in a random order, until there are enough of all classes.

  Args:
    source: images to choose from for training.
    shots: number of images per class.
    seed: seed of the choice. Fewer shots of the same seed are the first of
      more.
    excluded: indices of images that are passed over.

  Returns:
    Indices in the source, [n] int64, and which image of its class each is,
    [n], from 0.

  Raises:
    UserError: a class has fewer images.
  """
  counts = np.zeros(source.num_classes, np.int64)
  missing = source.num_classes
  chosen, ranks = [], []
  for index in np.random.default_rng(seed).permutation(len(source)).tolist():
    if index in excluded:
      continue
    try:
      label = int(source[index]['label'])
    except CorruptImageError:
      continue
    if counts[label] < shots:
      chosen.append(index)
      ranks.append(counts[label])
      counts[label] += 1
      missing -= counts[label] == shots
      if not missing:
        return np.array(chosen), np.array(ranks)
  label = int(counts.argmin())
  raise UserError(
    f'{source.description}: the class {source.class_names[label]!r} has'
    f' {counts[label]} images; for {shots} shots every class must have as many.'
  )


def compute_shots(
  trained: TrainedModel,
  source: ImageSource,
  shots: int,
  seed: int,
  *,
  data: DataOptions,
  **run: Any,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Computes the features of as many images of every class.

  An image that cannot be decoded is replaced by another: the bias hardly has a
  penalty, so that a class with fewer images is hardly ever predicted.

  Args:
    trained: model with its weights.
    source: images to choose from for training.
    shots: number of images per class.
    seed: seed of the choice; see `choose_examples`.
    data: options: batches read ahead, workers and threads.
    **run: other keyword arguments of `compute_features`.

  Returns:
    Features [n, D] float32, labels [n] int32, and which image of its class
    each is, [n], from 0.

  Raises:
    UserError: see `choose_examples` and `compute_features`.
  """
  excluded: set[int] = set()
  # However many are replaced: a class that runs out of images is an error.
  data = dataclasses.replace(data, max_damaged_fraction=1.0)
  while True:
    chosen, ranks = choose_examples(source, shots, seed, excluded)
    batches = compute_features(
      trained, Subset(source, chosen), data=data, **run
    )
    rows, features, labels = collect_features(batches, len(chosen))
    if len(rows) == len(chosen):
      return features, labels, ranks
    excluded |= set(chosen.tolist()) - set(chosen[rows].tolist())


def evaluate_few_shot(
  trained: TrainedModel,
  train_source: ImageSource,
  eval_source: ImageSource,
  *,
  shots: Sequence[int],
  seeds: Sequence[int],
  **run: Any,
) -> dict[str, Any]:
  """Evaluates a model's features by few-shot classification.

  Args:
    trained: model with its weights; its classes don't matter.
    train_source: images that the shots are chosen from.
    eval_source: images that are evaluated, all of them, in one pass.
    shots: numbers of images per class, with one result for each.
    seeds: seeds of the choices.
    **run: keyword arguments of `compute_features`: data, batch_size and
      report_undecodable.

  Returns:
    'shots': a list with, for each, 'shots', 'top1' (0..1, the mean over
    seeds), 'top1_std' (over seeds, n - 1; 0 for one) and 'top1_by_seed';
    'seeds' and 'count', the images evaluated.

  Raises:
    UserError: a class has too few images, the classes of the two sources
      differ, or more images to evaluate cannot be decoded than may be.
  """
  check_same_classes(train_source, eval_source)
  classifiers = {}
  for seed in seeds:
    features, labels, ranks = compute_shots(
      trained, train_source, max(shots), seed, **run
    )
    for number in shots:
      some = ranks < number
      classifiers[number, seed] = LeastSquaresClassifier(
        features[some], labels[some], train_source.num_classes
      )
  hits, count = dict.fromkeys(classifiers, 0), 0
  for _, features, labels in compute_features(trained, eval_source, **run):
    count += len(labels)
    for key, classifier in classifiers.items():
      hits[key] += int((classifier.scores(features).argmax(-1) == labels).sum())
  if not count:
    raise UserError(NO_EXAMPLES)
  results = []
  for number in shots:
    top1 = [hits[number, seed] / count for seed in seeds]
    results.append(
      {
        'shots': number,
        'top1': float(np.mean(top1)),
        'top1_std': float(np.std(top1, ddof=1)) if len(top1) > 1 else 0.0,
        'top1_by_seed': top1,
      }
    )
  return {'shots': results, 'seeds': list(seeds), 'count': count}


def check_same_classes(
  train_source: ImageSource, eval_source: ImageSource
) -> None:
  """Raises UserError if labels of two splits mean different things."""
  if train_source.class_names != eval_source.class_names:
    raise UserError(
      'The training and the evaluation images have different classes:'
      f' {train_source.description}; {eval_source.description}.'
    )

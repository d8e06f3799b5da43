"""Average precision: of classes, where images have several."""

import numpy as np


def compute_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
  """Returns the mean of the precisions at which recall grows, weighted by that.

  As scikit-learn's: images of the same score are found together. NaN where no
  image has the class.

  >>> compute_average_precision(np.array([0.9, 0.8, 0.1]), np.array([1, 0, 1]))
  0.8333333333333333

  Args:
    scores: scores of the images, [N], the highest the likeliest; a NaN is the
      lowest.
    targets: whether each image has the class, [N].
  """
  scores = np.nan_to_num(scores.astype(np.float64), nan=-np.inf, posinf=np.inf)
  targets = targets > 0
  if not targets.any():
    return float('nan')
  order = np.argsort(-scores, kind='stable')
  scores, found = scores[order], np.cumsum(targets[order])
  # The last of each score.
  ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
  precision = found[ends] / (ends + 1)
  recall = found[ends] / found[-1]
  return float((np.diff(recall, prepend=0) * precision).sum())


def compute_average_precisions(
  scores: np.ndarray, targets: np.ndarray
) -> np.ndarray:
  """Returns the average precision of each class, [K]; NaN where none has it.

  Args:
    scores: scores of the images for each class, [N, K].
    targets: above 0 where an image has a class, [N, K].
  """
  return np.array(
    [
      compute_average_precision(scores[:, label], targets[:, label])
      for label in range(scores.shape[1])
    ]
  )


def compute_mean_average_precision(
  scores: np.ndarray, targets: np.ndarray
) -> float:
  """Returns the mean over the classes that occur; NaN where none does.

  Args:
    scores: scores of the images for each class, [N, K].
    targets: above 0 where an image has a class, [N, K].
  """
  precisions = compute_average_precisions(scores, targets)
  precisions = precisions[~np.isnan(precisions)]
  return float(precisions.mean()) if len(precisions) else float('nan')

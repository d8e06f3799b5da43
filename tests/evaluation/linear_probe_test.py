import numpy as np
import pytest
import scipy.optimize
import scipy.special

from coatnet_jax.distributed import mesh as mesh_lib
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation import linear_probe
from tests.evaluation.painted_images import Painted, create_clusters


@pytest.fixture(scope='module')
def mesh():
  return mesh_lib.create_mesh(replica=-1, data=-1, fsdp=1, tensor=1)


# Shapes are the same in all tests, so that L-BFGS is compiled once.
_COUNT, _WIDTH, _CLASSES = 40, 2, 2


def test_logistic_regression_is_scipys(mesh):
  penalty = 1e-1
  raw, labels = create_clusters(_COUNT, _CLASSES, _WIDTH, spread=1.5)
  probe = linear_probe.fit_linear_probe(
    raw.copy(), labels, _CLASSES, mesh, l2_penalties=(penalty,)
  )
  assert probe.largest_gradient < linear_probe.TOLERANCE
  features = (raw - raw.mean(0)) / (raw.std(0) + 1e-5)

  def objective(flat):
    kernel, bias = flat[:4].reshape(2, 2), flat[4:]
    logits = features @ kernel + bias
    losses = scipy.special.logsumexp(logits, axis=1)
    losses = losses - logits[np.arange(_COUNT), labels]
    return losses.mean() + penalty / 2 * (kernel**2).sum()

  expected = scipy.optimize.minimize(objective, np.zeros(6), method='BFGS').x
  kernel, bias = probe.weights
  np.testing.assert_allclose(kernel, expected[:4].reshape(2, 2), atol=2e-3)
  # Only differences of biases matter.
  np.testing.assert_allclose(
    bias - bias.mean(), expected[4:] - expected[4:].mean(), atol=2e-3
  )
  np.testing.assert_allclose(
    probe.logits(raw), features @ kernel + bias, rtol=1e-4, atol=1e-5
  )


@pytest.mark.slow
def test_blocks_change_nothing(mesh, monkeypatch):
  features, labels = create_clusters(_COUNT, _CLASSES, _WIDTH, spread=1.5)

  def fit():
    return linear_probe.fit_linear_probe(
      features.copy(), labels, _CLASSES, mesh, l2_penalties=(1e-1,)
    ).weights

  expected = fit()
  monkeypatch.setattr(linear_probe, '_BLOCK_ROWS', 16)  # 16, 16, 8 and padding.
  for found, before in zip(fit(), expected):
    np.testing.assert_allclose(found, before, atol=2e-3)


def test_the_penalty_is_the_best_on_the_held_out_part(mesh, monkeypatch):
  monkeypatch.setattr(linear_probe, 'HELD_OUT_FRACTION', 0.5)
  features, labels = create_clusters(_COUNT, _CLASSES, _WIDTH, spread=0.5)
  # Uneven, so that one that hardly sees the features says 1 of everything.
  labels[:8] = 1
  features[:8] = features[labels == 1][-1]
  probe = linear_probe.fit_linear_probe(
    features.copy(), labels, _CLASSES, mesh, l2_penalties=(1e4, 1e-2, 1e-4)
  )
  scores = dict(probe.held_out_top1)
  assert list(scores) == [1e4, 1e-2, 1e-4]
  assert scores[1e4] < scores[1e-2]
  best = max(scores.values())
  assert probe.l2_penalty == next(key for key in scores if scores[key] == best)


def test_the_held_out_part_is_not_fitted(mesh, monkeypatch):
  monkeypatch.setattr(linear_probe, 'HELD_OUT_FRACTION', 0.5)
  features, labels = create_clusters(_COUNT, _CLASSES, _WIDTH, spread=0.1)
  half = np.random.default_rng(0).permutation(_COUNT)[: _COUNT // 2]
  # Where the rest says one thing, what is held out says the other.
  labels[half] = 1 - labels[half]
  probe = linear_probe.fit_linear_probe(
    features, labels, _CLASSES, mesh, l2_penalties=(1e-2,)
  )
  assert probe.held_out_top1 == ((1e-2, 0.0),)


def test_one_image_is_a_sentence(mesh):
  with pytest.raises(UserError, match='has 1 image; a linear probe'):
    linear_probe.fit_linear_probe(
      np.zeros((1, 2), np.float32), np.zeros(1, np.int32), 2, mesh
    )


def test_a_probe_of_pictures(create_trained, data_options, monkeypatch):
  monkeypatch.setattr(
    linear_probe.fit_linear_probe, '__defaults__', ((1e-3, 1e-5),)
  )
  labels = [0, 1] * 20
  shown = [10 * c + i % 3 for i, c in enumerate(labels)]  # And blue is 0.
  train = Painted(labels, shown, class_names=('x', 'y'))
  evaluated = Painted(
    [0, 1, 0, 1, 0], [0, 10, 2, 9, 12], class_names=('x', 'y')
  )
  result = linear_probe.evaluate_linear_probe(
    create_trained(tuple('abcdefg')),
    train,
    evaluated,
    data=data_options(),
    batch_size=8,
    report_undecodable=print,
  )
  assert result['top1'] == 0.8
  assert result['count'] == 5
  assert result['train_count'] == 40
  assert [one['l2_penalty'] for one in result['held_out']] == [1e-3, 1e-5]
  assert result['l2_penalty'] == 1e-3  # Both are right: the stronger.

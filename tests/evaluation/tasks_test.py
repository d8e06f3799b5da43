"""What is evaluated on what, and how it is told."""

import pytest

from coatnet_jax.evaluation import tasks
from coatnet_jax.evaluation.descriptions import describe_result


@pytest.mark.parametrize('kind', ['linear_probe', 'few_shot'])
def test_a_probe_is_fitted_to_training_and_judged_on_evaluation(
  create_trained, data_options, kind, monkeypatch
):
  def record(trained, train_source, eval_source, **options):
    return train_source, eval_source, options

  for name in ('evaluate_linear_probe', 'evaluate_few_shot'):
    monkeypatch.setattr(tasks, name, record)
  data = data_options(
    source='synthetic', synthetic_examples=6, synthetic_image_size=(4, 4)
  )
  trained = create_trained(tuple(str(i) for i in range(1000)))
  task = (
    tasks.open_linear_probe(data, trained)
    if kind == 'linear_probe'
    else tasks.open_few_shot(data, trained, (1,), (0,))
  )
  train_source, eval_source, _ = task.run(trained)
  assert train_source.description.startswith('synthetic, train')
  assert eval_source.description.startswith('synthetic, eval')
  assert task.data == eval_source.description
  (rule,) = task.rules
  assert rule.endswith(train_source.description)


@pytest.mark.parametrize('count', [0, 1, 2])
def test_what_could_not_be_decoded_or_has_no_label_is_said(count):
  result = {
    'kind': 'classification',
    'top1': 0.5,
    'top5': 0.75,
    'loss': 1.0,
    'count': 8,
    'calibration_error': 0.1,
    'mean_class_accuracy': 0.5,
    'undecodable': count,
    'without_labels': count,
  }
  first = describe_result(result).splitlines()[0]
  assert (f'{count} more cannot be decoded' in first) == (count > 0)
  assert (f'{count} more have no label' in first) == (count > 0)

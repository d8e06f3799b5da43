import copy
import gzip
import json
import struct
import types

import numpy as np
import pytest

from coatnet_jax.checkpoints.trained_model import load_trained_model
from coatnet_jax.data.decoding import decode_example
from coatnet_jax.data.image_source import ImageSource
from coatnet_jax.errors import UserError
from coatnet_jax.evaluation.classification import evaluate_classification
from coatnet_jax.evaluation.data_sets import EvaluationData
from coatnet_jax.evaluation.descriptions import (
  describe_result,
  describe_subject,
)
from coatnet_jax.evaluation.label_spaces import match_classes
from tools import evaluate


def _evaluate(capsys, *arguments):
  status = evaluate.main([*map(str, arguments), '--json'])
  assert status == 0
  return json.loads(capsys.readouterr().out)


@pytest.fixture
def idx_dir(eval_source, tmp_path):
  """Returns the evaluation images as idx files, with the classes' names."""
  examples = [decode_example(eval_source, i) for i in range(len(eval_source))]
  images = np.stack([image[..., 0] for image, _ in examples])
  labels = np.array([label for _, label in examples], np.uint8)
  arrays = {'images-idx3': images, 'labels-idx1': labels}
  for prefix in ('train', 't10k'):
    for kind, array in arrays.items():
      header = bytes((0, 0, 8, array.ndim))
      header += struct.pack(f'>{array.ndim}I', *array.shape)
      path = tmp_path / f'{prefix}-{kind}-ubyte.gz'
      path.write_bytes(gzip.compress(header + array.tobytes()))
  names = '\n'.join(eval_source.class_names)
  (tmp_path / 'class_names.txt').write_text(names)
  return tmp_path


def test_a_workdir_alone_gives_what_training_saw(workdir, best, run_tool):
  result = run_tool('evaluate', '--checkpoint', workdir, '--json')
  assert result.returncode == 0
  assert result.stderr == ''
  report = json.loads(result.stdout)
  assert report['step'] == best['step']
  assert report['checkpoint'] == str(
    workdir / 'checkpoints' / str(best['step'])
  )
  assert report['model'] == 'coatnet_mini'
  assert report['image_size'] == [28, 28]
  assert report['changes'] == []
  assert 'fashion_mnist_12k' in report['data']
  assert report['count'] == 100
  assert report['undecodable'] == 0
  assert report['images_per_second'] > 0
  for name in ('top1', 'top5', 'count'):
    assert report[name] == best[name]
  assert report['loss'] == pytest.approx(best['loss'], rel=1e-5)


def test_a_person_reads_what_was_evaluated_on_what(workdir, best, capsys):
  evaluate.main(['--checkpoint', str(workdir)])
  out = capsys.readouterr().out
  assert f'coatnet_mini at 28x28 px, step {best["step"]}' in out
  assert str(workdir / 'checkpoints' / str(best['step'])) in out
  assert 'test[:100]: 100 images, 10 classes' in out
  assert f'top-1 {best["top1"]:.2%}, top-5 {best["top5"]:.2%}' in out
  assert f'loss {best["loss"]:.4f} on 100 images' in out
  assert 'images/s on 1 cpu device' in out


def test_the_directory_of_a_step_is_that_step(workdir, best, capsys):
  other = 18 - best['step']  # The run has 6 and 12.
  path = workdir / 'checkpoints' / str(other)
  report = _evaluate(capsys, '--checkpoint', path)
  assert report['step'] == other
  assert report['loss'] != pytest.approx(best['loss'], rel=1e-3)


@pytest.mark.parametrize('batch_size', [7, 128])
def test_any_batch_size_counts_every_image_once(
  workdir, best, batch_size, capsys
):
  report = _evaluate(
    capsys, '--checkpoint', workdir, '--batch_size', batch_size
  )
  assert report['count'] == 100
  assert report['top1'] == best['top1']
  assert report['top5'] == best['top5']
  assert report['loss'] == pytest.approx(best['loss'], rel=1e-5)


def test_another_image_size_is_used_and_said(workdir, best, capsys):
  report = _evaluate(capsys, f'--checkpoint={workdir}', '--image_size=32x28')
  assert report['image_size'] == [32, 28]
  assert report['changes'] == ['resized 2 relative position tables, 7x7 to 8x7']
  assert report['count'] == 100
  # Nearly the same pictures, to nearly the same model.
  assert report['loss'] == pytest.approx(best['loss'], rel=0.3)
  assert report['loss'] != best['loss']
  text = describe_subject(report)
  assert 'coatnet_mini at 32x28 px' in text
  assert (
    '\n            resized 2 relative position tables, 7x7 to 8x7\n' in text
  )


def test_other_data_can_be_named(workdir, best, idx_dir, capsys):
  report = _evaluate(
    capsys,
    f'--checkpoint={workdir}',
    '--data.source=idx',
    f'--data.data_dir={idx_dir}',
    '--data.eval_split=test',
  )
  assert str(idx_dir) in report['data']
  assert report['top1'] == best['top1']
  assert report['loss'] == pytest.approx(best['loss'], rel=1e-5)


def test_a_part_of_the_data_can_be_named(workdir, capsys):
  report = _evaluate(
    capsys, '--checkpoint', workdir, '--data.eval_split=test[100:123]'
  )
  assert report['count'] == 23


def test_other_data_have_the_split_that_is_usual_for_them(config):
  trained = types.SimpleNamespace(config=copy.deepcopy(config))

  def resolve(**changes):
    return [
      (data.source, data.name, data.eval_split)
      for data in evaluate.resolve_data(trained, changes)
    ]

  own = ('tfds', 'fashion_mnist_12k', 'test[:100]')
  assert resolve() == resolve(data_dir='/moved') == [own]
  assert resolve(name='imagenet2012_real, imagenet_a:0.1.0') == [
    ('tfds', 'imagenet2012_real', 'validation'),
    ('tfds', 'imagenet_a:0.1.0', 'test'),
  ]
  assert resolve(name='imagenet_a', eval_split='test[:9]') == [
    ('tfds', 'imagenet_a', 'test[:9]')
  ]
  trained.config.data.source = 'folder'
  assert resolve(name='imagenet_r') == [('tfds', 'imagenet_r', 'test')]


def test_data_with_more_or_fewer_classes_are_refused(workdir, idx_dir):
  (idx_dir / 'class_names.txt').write_text('one\ntwo\nthree')
  with pytest.raises(UserError, match=r'have 3 classes and the model has 10'):
    evaluate.main(
      [
        f'--checkpoint={workdir}',
        '--data.source=idx',
        f'--data.data_dir={idx_dir}',
        '--data.eval_split=test',
      ]
    )


@pytest.mark.slow
@pytest.mark.rotating
def test_sizes_and_data_sets_in_one_call_and_a_results_file(
  workdir, best, tmp_path, capsys
):
  reports = _evaluate(
    capsys,
    f'--checkpoint={workdir}',
    '--image_size=28,32',
    '--data.name=fashion_mnist_12k,fashion_mnist_12k',
    '--data.eval_split=test[:100]',
    f'--results={tmp_path}/out',
  )
  assert [r['image_size'] for r in reports] == [[28, 28]] * 2 + [[32, 32]] * 2
  assert [r['top1'] for r in reports[:2]] == [best['top1']] * 2
  assert reports[2]['changes'] == [
    'resized 2 relative position tables, 7x7 to 8x8'
  ]
  record = json.loads((tmp_path / 'out.json').read_text())
  for short, long in zip(reports, record['evaluations'], strict=True):
    per_class = long.pop('per_class')
    assert short == long
    assert sum(one['count'] for one in per_class) == 100
  assert record['run']['step'] == best['step']
  assert record['run']['trained_on'] == 'tfds fashion_mnist_12k train[:2000]'
  page = (tmp_path / 'out.md').read_text()
  assert f'| 28x28 | {best["top1"]:.2%} |' in page


@pytest.mark.slow
@pytest.mark.rotating
def test_few_shots_and_a_probe_judge_the_features(workdir, capsys):
  reports = _evaluate(
    capsys,
    f'--checkpoint={workdir}',
    '--fewshot=1,5',
    '--fewshot_seeds=2',
    '--linear_probe',
    '--data.train_split=train[:300]',
  )
  few, probe = reports
  assert few['kind'] == 'few_shot'
  one, five = few['shots']
  assert (one['shots'], five['shots']) == (1, 5)
  assert len(five['top1_by_seed']) == 2
  # Far more than chance, and more of more.
  assert 0.2 < one['top1'] < five['top1']
  assert probe['kind'] == 'linear_probe'
  assert probe['train_count'] == 300
  assert probe['top1'] > 0.4
  assert 'train[:300]' in probe['rules'][0]


class _OneCorrupt(ImageSource):
  """Black images of class 0, one of which is text."""

  class_names = tuple('abcdefghij')
  description = 'black'

  def __len__(self):
    return 120

  def __getitem__(self, index):
    black = np.zeros((40, 30, 3), np.uint8)
    return {'image': b'text' if index == 77 else black, 'label': 0}

  def describe(self, index):
    return f'black image {index}'


def test_an_image_that_cannot_be_decoded_is_named_and_left_out(workdir):
  trained = load_trained_model(workdir)
  (data,) = evaluate.resolve_data(trained, {})
  source = _OneCorrupt()
  space = match_classes(source.class_names, trained.class_names, report=print)
  named = []
  result = evaluate_classification(
    trained,
    EvaluationData(
      source=source,
      data=data,
      space=space,
      preprocessing=trained.preprocessing,
      rules=(),
    ),
    batch_size=50,
    report_undecodable=named.append,
  )
  assert result['count'] == 119
  assert result['undecodable'] == 1
  assert result['top1'] in (0, 1)
  assert named == ['black image 77: not an image']
  line = describe_result({'kind': 'classification', **result})
  assert '1 more cannot be decoded' in line


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--batch_size=0'], r'--batch_size is 0'),
    (['--image_size=abc'], r"--image_size is 'abc'; .*384, or HEIGHTxWIDTH"),
    (['--image_size=0'], r"--image_size is '0'; it must be pixels"),
    (['--image_size=30'], r'divisible by 4'),
    (['--data.source=web'], r"'web'; it must be one of tfds, folder"),
    (['--data.name=fashion_mnist_12'], r'did you mean fashion_mnist_12k'),
    (
      ['--data.eval_split=validation'],
      r"is 'validation', .* one of test, train",
    ),
    (
      ['--data.source=folder', '--data.data_dir=/none'],
      r'/none does not exist',
    ),
    (['--data.eval_fraction=2'], r'eval_fraction is 2'),
    (['--image_size=28,30'], r'divisible by 4'),
    (['--image_size=28,,32'], r"--image_size is ''"),
    (['--data.name=a,,b'], r"--data.name is 'a,,b'; it must be names with"),
    (['--fewshot=1,x'], r"--fewshot is '1,x'; it must be images per class"),
    (['--fewshot=0'], r"--fewshot is '0'"),
    (['--fewshot=1', '--fewshot_seeds=0'], r'--fewshot_seeds is 0'),
    (['--fewshot=3000'], r'for 3000 shots every class must have'),
    (['--results=/proc/none/x'], r'--results=/proc/none/x cannot be written'),
  ],
)
def test_bad_input_is_a_sentence(workdir, arguments, message):
  with pytest.raises(UserError, match=message):
    evaluate.main([f'--checkpoint={workdir}', *arguments])


def test_a_damaged_checkpoint_is_a_sentence(damaged_workdir, run_tool):
  result = run_tool('evaluate', f'--checkpoint={damaged_workdir}', '--json')
  assert result.returncode == 1
  assert result.stdout == ''
  assert result.stderr.startswith(f'Error: The checkpoint {damaged_workdir}/')
  assert 'cannot be read' in result.stderr
  assert 'Others are beside it' in result.stderr
  assert result.stderr.count('\n') == 1


def test_an_empty_workdir_is_a_sentence(tmp_path, run_tool):
  result = run_tool('evaluate', f'--checkpoint={tmp_path}')
  assert result.returncode == 1
  assert result.stdout == ''
  assert result.stderr.startswith(f'Error: {tmp_path} has no checkpoint')
  assert result.stderr.count('\n') == 1


def test_no_checkpoint_named_is_a_usage_error(capsys):
  with pytest.raises(SystemExit) as exit_info:
    evaluate.main(['--json'])
  assert exit_info.value.code == 2
  assert '--checkpoint' in capsys.readouterr().err

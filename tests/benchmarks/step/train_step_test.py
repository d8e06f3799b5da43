"""The command that times a config's own step."""

import json

import pytest

from benchmarks import stand_ins, train_step
from benchmarks.step import measuring, trace
from benchmarks.step.peaks import find_peak
from coatnet_jax.errors import UserError
from tests.benchmarks.refusing import MISSING, run_refusing

FIGURES = {
  'model': 'coatnet_0, 224x224 px',
  'num_parameters': 25_000_000,
  'device': 'NVIDIA H100 80GB HBM3',
  'num_devices': 1,
  'num_cpus': 16,
  'load_before': 0.0,
  'versions': {'jax': '0.11.2'},
  'date': '2026-11-27',
  'global_batch_size': 128,
  'steps_per_round': 3,
  'seconds_per_step': [0.09, 0.1, 0.11],
  'peak_bytes': 3 << 30,
  'temporary_bytes': None,
  'compile_seconds': 60.0,
  'trace_seconds': 5.0,
  'peak_share': 0.25,
  'compiler_peak_share': 0.5,
  'peak_flops_per_device': 989e12,
  **measuring.summarise_times([0.09, 0.1, 0.11], 128),
}


def test_what_is_shown():
  text = train_step.describe(FIGURES)
  assert 'step        100.0 ms (95.0 to 105.0; 3 rounds of 3)' in text
  assert 'images/s    1,280.0 in batches of 128' in text
  assert '25.0% by the model, 50.0% by what XLA counts, of 989 TFLOP/s' in text
  assert '3.0 GiB at most; an unknown number of temporaries' in text
  assert 'kind of layer' not in text


def test_a_device_whose_peak_is_not_known_has_no_share():
  text = train_step.describe(
    FIGURES | {'peak_share': None, 'device': 'cpu', 'peak_flops': None}
  )
  assert "of peak     left out: the peak of 'cpu' is not known" in text


@pytest.mark.parametrize(('unknown', 'is_said'), [(0.001, False), (0.05, True)])
def test_a_profile_is_a_table(unknown, is_said):
  row = {'name': 'dot.1', 'kind': 'FFN', 'seconds': 0.075}
  profile = {
    'seconds_per_step': 0.1,
    'by_kind': {'FFN': 0.075, 'head': 0.0, train_step.UNKNOWN: unknown},
    'largest': [row | {'op_name': 'jit(train_step)/s3_block_0/ffn_expand/dot'}],
  }
  text = train_step.describe(FIGURES | {'profile': profile})
  assert '| FFN | 75.00 | 75.0% |' in text
  assert '| head |' not in text
  assert '| dot.1 | FFN | 75.00 | s3_block_0/ffn_expand/dot |' in text
  assert ('xla_gpu_enable_command_buffer' in text) == is_said
  assert train_step.UNKNOWN == trace.UNKNOWN


def test_peaks_of_devices():
  assert find_peak('NVIDIA L40S', 'bfloat16') == 362e12
  assert find_peak('NVIDIA L4', 'bfloat16') == 121e12
  assert find_peak('NVIDIA H100 80GB HBM3', 'float32') == 494e12
  assert find_peak('TPU v4', 'float32') == 275e12
  assert find_peak('NVIDIA A100 80GB PCIe', 'bfloat16') == 312e12


@pytest.mark.parametrize(
  'name',
  [
    *('NVIDIA GeForce GT 710', 'NVIDIA L40', 'NVIDIA H200 NVL'),
    'NVIDIA GeForce RTX 4090 Laptop GPU',
  ],
)
def test_a_card_has_no_peak_of_another_one(name):
  assert find_peak(name, 'bfloat16') is None


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    ([], '--config is missing'),
    (['--config=configs/quickstart.py', '--rounds=0'], '--rounds is 0'),
    (
      ['--config=configs/quickstart.py', '--config.model.name=coatnet_x'],
      'config.model.name',
    ),
    (
      ['--config=configs/coatnet_0.py', '--num_classes=10'],
      '--train_examples and --num_classes go together',
    ),
  ],
)
def test_what_is_wrong_is_said(words, message):
  with pytest.raises(UserError, match=message):
    train_step.main(words)


def test_what_is_missing_is_said(monkeypatch):
  monkeypatch.setattr(stand_ins, 'is_installed', lambda package: False)
  with pytest.raises(UserError, match='pip install ml-collections'):
    train_step.main(['--config=configs/quickstart.py'])


@pytest.mark.slow
@pytest.mark.rotating
def test_a_step_is_timed_and_profiled(tmp_path):
  """Where what reads data and writes curves is missing."""
  path = tmp_path / 'figures.json'
  shown = run_refusing(
    MISSING,
    'from benchmarks import train_step; train_step.main(sys.argv[1:])',
    *('--config=configs/coatnet_0.py:imagenet1k', '--rounds=2', '--profile'),
    *('--config.model.name=coatnet_mini', f'--json={path}'),
    '--config.preprocessing.image_size=(32,32)',
    *('--config.training.global_batch_size=8', '--config.model.dtype=float32'),
  )
  figures = json.loads(path.read_text())
  assert figures['num_parameters'] == 243_384
  assert len(figures['seconds_per_step']) == 2
  assert figures['images_per_second'] == pytest.approx(
    8 / figures['median_seconds']
  )
  assert figures['peak_share'] is None
  assert figures['temporary_bytes'] > 1e6
  profile = figures['profile']
  # On two threads at most, and slowed down by tracing.
  assert 0.1 < profile['seconds_per_step'] / figures['median_seconds'] < 10
  for kind in ('attention', '1x1 convolutions', 'norms', 'optimizer'):
    assert profile['by_kind'][kind] > 0.01 * profile['seconds_per_step'], kind
  assert profile['by_kind'][trace.UNKNOWN] < 0.01 * profile['seconds_per_step']
  assert '| norms |' in shown

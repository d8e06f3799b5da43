import json

import jax
import pytest

from coatnet_jax.config_flag import load_config
from coatnet_jax.errors import UserError
from coatnet_jax.planning import plan_config, plan_program
from coatnet_jax.tpu_compiler import topologies
from coatnet_jax.weights import imported
from tests.planning.plan_examples import PLAN, TOO_LARGE
from tools import plan

COATNET_0 = '--config=configs/coatnet_0.py'


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch):
  """What needs libtpu: devices, which are this machine's, and its version."""
  monkeypatch.setattr(topologies, 'start_compiler', lambda: None)
  monkeypatch.setattr(
    topologies,
    'create_abstract_devices',
    lambda name, num_slices: jax.devices(),
  )
  monkeypatch.setattr(topologies, 'describe_compiler', lambda: 'libtpu 1.2')


@pytest.fixture
def planned(monkeypatch):
  """Returns a list of plans that take the place of the compiler's."""
  plans, runs = [], []

  def compile_step(run):
    runs.append(run)

  monkeypatch.setattr(plan_program, 'compile_step', compile_step)
  monkeypatch.setattr(
    plan_program, 'create_plan', lambda *arguments: plans.pop(0)
  )
  return plans, runs


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--topology=v5e-12'], "The TPU slice is 'v5e-12'; it must be one of"),
    (['--topology=v5e-4'], '--config is missing'),
    (
      ['--topology=v5e-4', '--config=none.py'],
      'does not exist; this project has',
    ),
    (['--topology=v5e-4', COATNET_0, '--config.x=1'], "no key 'config.x';"),
    (['--topology=v5e-4', COATNET_0, '--steps=1'], "flag 'steps'"),
    (['--topology=v5e-4', COATNET_0, 'more'], 'Unexpected arguments: more'),
    (
      ['--topology=v5e-4', COATNET_0, '--compare=x'],
      "A choice of --compare is 'x'",
    ),
    (
      [*('--topology=v5e-4', COATNET_0, '--find_batch', '--save_compiled=x')],
      'keeps one program',
    ),
    (['--topology=v5e-4', COATNET_0, '--num_classes=5'], 'go together'),
    (
      ['--topology=v5e-4', COATNET_0, '--num_classes=0', '--train_examples=9'],
      '--num_classes is 0; .* at least 1',
    ),
    (
      ['--topology=v5e-4', COATNET_0, '--config.data.name=own'],
      'To plan without data: --train_examples=N --num_classes=N',
    ),
    (
      ['--topology=v5e-4', COATNET_0, '--config.sharding.fsdp=3'],
      'config.sharding is .*; the product must be',
    ),
    (
      [
        *('--topology=v5e-4', COATNET_0),
        '--config.training.gradient_accumulation_steps=3',
      ],
      'it must be a positive multiple of',
    ),
  ],
)
def test_bad_input(arguments, message):
  with pytest.raises(UserError, match=message):
    plan.main(arguments)


def test_no_libtpu_is_one_sentence(monkeypatch):
  def no_libtpu():
    raise UserError('libtpu is not installed')

  monkeypatch.setattr(topologies, 'start_compiler', no_libtpu)
  with pytest.raises(UserError, match='libtpu is not installed'):
    plan.main(['--topology=v5e-4', COATNET_0])


def test_sizes_of_data_that_are_not_here():
  config = load_config('configs/coatnet_4.py:imagenet21k')
  source, _ = plan_config.find_sources(config, None, None)
  assert source.num_classes > 10_000
  assert len(source) > 10_000_000
  source, _ = plan_config.find_sources(config, 5_000, 7)
  assert (len(source), source.num_classes) == (5_000, 7)
  assert source.description == 'own data: 5,000 images, 7 classes'


def test_data_that_are_here_are_counted():
  config = load_config('configs/quickstart.py')
  config.data.train_split = 'train[:2000]'
  train_source, _ = plan_config.find_sources(config, None, None)
  assert len(train_source) == 2000


def test_the_page_is_printed(planned, capsys):
  plans, runs = planned
  plans.append(PLAN)
  arguments = [
    *('--topology=v5e-4', COATNET_0),
    '--config.training.global_batch_size=64',
  ]
  assert plan.main(arguments) == 0
  printed = capsys.readouterr().out
  assert printed.startswith('Plan of configs/coatnet_0.py on 2 x v5e-16\n')
  (run,) = runs
  # That of the recipe: 300 epochs.
  assert run.training.num_steps == round(300 * 1_281_167 / 64)


def test_the_model_is_that_of_the_weights_which_are_not_fetched(
  planned, capfd, monkeypatch
):
  def fetch(path):
    raise AssertionError(path)

  monkeypatch.setattr(imported, 'locate_weights', fetch)
  plans, runs = planned
  plans += [PLAN, PLAN]
  arguments = [
    *('--topology=v5e-4', '--config=configs/finetune_folder.py'),
    '--config.init_from=timm/coatnet_rmlp_2_rw_384.sw_in12k_ft_in1k',
    *('--train_examples=500', '--num_classes=3'),
  ]
  assert plan.main(arguments) == 0
  assert runs[0].model_name == 'coatnet_rmlp_2_rw_384'
  assert runs[0].preprocessing.image_size == (384, 384)
  assert runs[0].preprocessing.mean == (0.5, 0.5, 0.5)
  assert 'config.model.name: coatnet_rmlp_2_rw_384' in capfd.readouterr().err
  # What the user says goes before.
  assert plan.main([*arguments, '--config.model.name=coatnet_mini']) == 0
  assert runs[1].model_name == 'coatnet_mini'


@pytest.mark.parametrize(
  'config',
  [
    ['--config', 'configs/coatnet_0.py'],
    ['-config=configs/coatnet_0.py'],
    ['--config.training.ema_decay=0.5', COATNET_0],
  ],
)
def test_the_config_is_named_however_it_is_given(planned, capsys, config):
  plans, runs = planned
  plans.append(PLAN)
  assert plan.main(['--topology=v5e-4', *config, '--config.seed=3']) == 0
  assert 'Plan of configs/coatnet_0.py on' in capsys.readouterr().out
  assert runs[0].seed == 3
  assert runs[0].training.ema_decay == (0.5 if len(config[0]) > 30 else 0.0)


def test_what_does_not_fit_comes_with_what_may(planned, capsys):
  plans, _ = planned
  plans += [TOO_LARGE, TOO_LARGE]
  arguments = ['--topology=v5e-4', COATNET_0]
  assert plan.main(arguments) == 1
  printed = capsys.readouterr().out
  assert 'does not fit, by 8.25' in printed
  assert 'By arithmetic, not compiled' in printed
  assert '\n  --config.training.gradient_accumulation_steps=4 (' in printed
  assert plan.main([*arguments, '--json']) == 1
  row = json.loads(capsys.readouterr().out)
  assert (row['cycles'], len(row['suggestions'])) == (None, 3)


def test_choices_stand_side_by_side(planned, capsys):
  plans, runs = planned
  plans += [PLAN, TOO_LARGE] * 2
  arguments = ['--topology=v5e-4', COATNET_0, '--compare=remat=none:blocks']
  assert plan.main(arguments) == 0
  lines = capsys.readouterr().out.splitlines()
  assert 'not measured on a TPU' in lines[1]
  assert [line.split()[0] for line in lines[4:]] == [
    *('remat=none', 'remat=blocks'),
  ]
  assert [run.model.compute.remat for run in runs] == ['none', 'blocks']
  assert plan.main([*arguments, '--json']) == 0
  rows = json.loads(capsys.readouterr().out)
  assert [row['choice'] for row in rows] == [
    *('remat=none (config)', 'remat=blocks'),
  ]


def test_the_search_ends_with_the_page_of_the_best(planned, capsys):
  plans, runs = planned
  # 4,096 images fit, 8,192 do not, and nothing between is possible.
  plans += [PLAN, TOO_LARGE]
  arguments = ['--topology=v5e-4', COATNET_0, '--find_batch']
  arguments += [f'--config.training.global_batch_size={jax.device_count()}']
  assert plan.main(arguments) == 0
  printed = capsys.readouterr().out
  assert 'Plans of configs/coatnet_0.py' in printed
  assert 'Plan of configs/coatnet_0.py' in printed
  assert [run.training.global_batch_size for run in runs] == [
    *(jax.device_count(), 2 * jax.device_count()),
  ]

r"""Pretraining, then finetuning at a higher resolution, in small.

The emoji of one artist at 48 px, then a tenth of another's at 64 px, which is
their own size; or that tenth from scratch. `benchmarks/study.py` runs all of
it, with several seeds.

    python main.py --config=configs/transfer_study.py:pretrain \
        --config.data.data_dir=DATA --workdir=RUN
    python main.py --config=configs/transfer_study.py:finetune \
        --config.data.data_dir=DATA --config.init_from=RUN --workdir=RUN_64

`python -m tools.prepare_emoji` makes the data: docs/data.md. Every number is
ours, chosen for the time on two CPU cores.
"""

from configs import emoji, recipes

# A twentieth of the steps is warm-up where a run starts from nothing.
_FROM_NOTHING = {
  'schedule.peak_learning_rate': 2e-3,
  'schedule.warmup_epochs': 0.0,
  'schedule.decay': 'cosine',
}
_A_TENTH = {
  'data.name': 'emoji_twitter',
  'data.train_split': 'train[:10%]',
  'preprocessing.image_size': (64, 64),
}
_PRETRAINING_STEPS = 1_400
_FINETUNING_STEPS = 200

PHASES = {
  'pretrain': _FROM_NOTHING
  | {
    'data.name': 'emoji_google',
    'preprocessing.image_size': (48, 48),
    'training.num_steps': _PRETRAINING_STEPS,
    'schedule.warmup_steps': _PRETRAINING_STEPS // 20,
  },
  # As the paper finetunes: at a constant rate, a twentieth of pretraining's.
  'finetune': _A_TENTH
  | {
    'init_from': 'WORKDIR_OF_pretrain',
    'schedule.peak_learning_rate': 1e-4,
    'schedule.min_learning_rate': 1e-4,
    'schedule.warmup_epochs': 0.0,
    'schedule.decay': 'constant',
    'training.num_steps': _FINETUNING_STEPS,
  },
  # As many steps as finetuning has, and as both have.
  **{
    name: _FROM_NOTHING
    | _A_TENTH
    | {'training.num_steps': steps, 'schedule.warmup_steps': steps // 20}
    for name, steps in (
      ('scratch', _FINETUNING_STEPS),
      ('scratch_long', _PRETRAINING_STEPS + _FINETUNING_STEPS),
    )
  },
}


def get_config(phase='pretrain'):
  """Returns the config of one phase."""
  column = recipes.choose_phase('the transfer study', PHASES, phase)
  config = emoji.get_config()
  # Objects are seen up to twice as large, which a higher resolution shows.
  config.augmentation.crop_area = (0.25, 1.0)
  config.evaluation.every_steps = 0
  config.update_from_flattened_dict(column)
  return config

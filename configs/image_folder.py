r"""A small CoAtNet on a folder of your own pictures, at 64 px, on any machine.

The folder is `train/<class>/*.jpg` with `val/<class>/*.jpg` beside it, or just
`<class>/*.jpg`, of which a tenth of each class is held out; or it is a list,
`labels.csv`, with columns `path` and `label`. Nothing has to be prepared.

    python main.py --config=configs/image_folder.py --workdir=... \
        --config.data.data_dir=FOLDER

For larger models and pictures: --config.model.name=coatnet_0
--config.preprocessing.image_size='(224, 224)'.

`finetune_folder.py` starts from trained weights, at rates for their layers.
`image_folder.py:finetune` does so at one rate, for ten epochs.
"""

from configs import base, recipes

# What is changed for finetuning: ours, a twentieth of the learning rate.
PHASES = {
  'train': {},
  'finetune': {
    'augmentation.randaugment_layers': 0,
    'mixup.mixup_alpha': 0.0,
    'init_from': 'WORKDIR_OF_train',
    'schedule.min_learning_rate': 1e-6,
    'schedule.peak_learning_rate': 1e-4,
    'schedule.warmup_epochs': 1.0,
    'training.num_epochs': 10.0,
  },
}


def get_config(phase='train'):
  """Returns the config of one phase."""
  column = recipes.choose_phase('image_folder', PHASES, phase)
  config = base.get_config()
  config.model.name = 'coatnet_small'
  config.model.stochastic_depth_rate = 0.1
  config.model.batch_norm_momentum = 0.9
  config.data.source = 'folder'
  config.data.eval_split = 'val'
  config.preprocessing.image_size = (64, 64)
  config.augmentation.crop_area = (0.25, 1.0)
  config.augmentation.randaugment_magnitude = 9.0
  config.augmentation.randaugment_probability = 0.5
  config.augmentation.randaugment_scale = 'timm'
  config.mixup.mixup_alpha = 0.2
  config.schedule.peak_learning_rate = 2e-3
  config.schedule.warmup_epochs = 2.0
  # A run made shorter for trying gets a shorter warm-up.
  config.schedule.max_warmup_fraction = 0.2
  config.training.num_epochs = 30.0
  config.training.global_batch_size = 64
  config.evaluation.global_batch_size = 256
  config.logging.every_steps = 10
  config.follow_init_from = (
    ('model.name', config.model.name),
    *(
      (f'preprocessing.{key}', value)
      for key, value in config.preprocessing.items()
    ),
  )
  config.update_from_flattened_dict(column)
  return config

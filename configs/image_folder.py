r"""A small CoAtNet on a folder of your own pictures, at 64 px, on any machine.

The folder is `train/<class>/*.jpg` with `val/<class>/*.jpg` beside it, or just
`<class>/*.jpg`, of which a tenth of each class is held out; or it is a list,
`labels.csv`, with columns `path` and `label`. Nothing has to be prepared.

    python main.py --config=configs/image_folder.py --workdir=... \
        --config.data.data_dir=FOLDER

For larger models and pictures: --config.model.name=coatnet_0
--config.preprocessing.image_size='(224, 224)'. `finetune_folder.py` starts from
trained weights.
"""

from configs import base


def get_config():
  """Returns the config."""
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
  return config

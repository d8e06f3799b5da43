"""What configs of small pictures share that leave augmentation to little.

Not a run of its own. Every number is ours: the pictures are whole, and a run is
too short for a model to need more than mirroring and crops.
"""

from configs.recipes import Column

SMALL_PICTURES: Column = {
  'model.stochastic_depth_rate': 0.0,
  # The runs are too short for averages over 100 steps.
  'model.batch_norm_momentum': 0.9,
  'data.eval_split': 'test',
  'preprocessing.eval_crop_fraction': 1.0,
  'augmentation.randaugment_layers': 0,
  # For pictures of this size, should it be switched on.
  'augmentation.randaugment_magnitude': 9.0,
  'augmentation.randaugment_scale': 'timm',
  'mixup.mixup_alpha': 0.0,
}

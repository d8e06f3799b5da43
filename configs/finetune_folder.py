r"""Trained weights, finetuned on a folder of your own pictures.

    python main.py --config=configs/finetune_folder.py \
        --config.data.data_dir=FOLDER --workdir=NEW \
        --config.init_from=coatnet_0_rw_224.sw_in1k.safetensors

The folder is what `image_folder.py` takes. `init_from` is a file of weights of
timm, keras_cv or `tools.export_weights`; a name on the Hugging Face Hub, as
below, which is fetched; or the workdir of a run. Model, image size, crop and
normalisation are those of the weights, unless they are set, and the head is new
where they are for another number of classes.

For hundreds to tens of thousands of pictures. Ours: 32 is a batch that a GPU of
8 GB trains coatnet_0 with at 224 px. A GPU or TPU of today is faster with
--config.model.dtype=bfloat16 --config.training.global_batch_size=64.
"""

from configs import image_folder


def get_config():
  """Returns the config."""
  config = image_folder.get_config()
  config.init_from = 'timm/coatnet_0_rw_224.sw_in1k'
  # Of few pictures a tenth says little.
  config.data.eval_fraction = 0.2
  # What is trained holds for whole pictures; MixUp needs more steps than these.
  config.augmentation.crop_area = (0.35, 1.0)
  config.augmentation.random_erasing_probability = 0.1
  config.mixup.mixup_alpha = 0.0
  # The stem of coatnet_0 has a fifteenth of the head's rate.
  config.optimizer.layer_decay = 0.8
  config.schedule.peak_learning_rate = 3e-4
  config.schedule.min_learning_rate = 1e-6
  config.schedule.warmup_epochs = 3.0
  config.training.global_batch_size = 32
  config.training.ema_decay = 0.998
  config.evaluation.global_batch_size = 64
  config.checkpoint.max_to_keep = 1
  return config

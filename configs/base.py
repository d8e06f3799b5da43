"""Every key of a training run: meaning, unit, and where the default is from.

A run's config file starts from `get_config()` and changes what differs; the
command line changes more: `--config.optimizer.weight_decay=0.1`. The result
is locked, so a misspelt key is an error at once. Each section has a function
here, which names the one function or dataclass that the section is splatted
into.

Unless a comment says "ours", defaults are CoAtNet-0's ImageNet-1k column of
Table 10 of the paper (arXiv 2106.04803).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Returns the locked base config."""
  config = ConfigDict()
  _add_root(config)
  _add_model(config)
  _add_data(config)
  _add_preprocessing(config)
  _add_augmentation(config)
  _add_mixup(config)
  _add_loss(config)
  _add_schedule(config)
  _add_optimizer(config)
  _add_training(config)
  _add_evaluation(config)
  _add_checkpoint(config)
  _add_logging(config)
  _add_sharding(config)
  return config.lock()


def _add_root(config: ConfigDict) -> None:
  """Adds what stands in no section: fields of `coatnet_jax.run.RootOptions`."""
  # Seeds initialisation, the data order, augmentation and dropout. Ours.
  config.seed = 0

  # What a new run starts from, to finetune it: a workdir, for its best
  # checkpoint, a directory of one step, or an imported checkpoint; a file of
  # weights of timm, keras_cv or tools.export_weights; or a name on the Hugging
  # Face Hub ('timm/coatnet_0_rw_224.sw_in1k'), which huggingface_hub fetches.
  # Empty initialises everything. Parameters and batch statistics are taken (the
  # averages where it has any), relative position tables resized to this run's
  # image size, and the head initialised if the number of classes differs. The
  # model must otherwise be the same. A run that is resumed takes nothing. Ours.
  config.init_from = ''

  # Pairs of a key and the value that it has where nobody sets it: while it is
  # that one, a run takes the value that init_from's weights were trained
  # with. Keys are 'model.name', with which the variant's options come, and
  # those of preprocessing. Ours.
  config.follow_init_from = ()

  # A file of `tools.plan --save_compiled`: the compiled train step, to be
  # loaded. Where it is not of this very program, versions and devices, a line
  # says so, and the step is compiled, as it is where this is empty. Ours.
  config.compiled_train_step = ''


def _add_model(config: ConfigDict) -> None:
  """Adds config.model: arguments of `coatnet_jax.create_model`.

  The number of classes comes from the data. A config file may add options of
  the variant, such as config.model.transformer = ConfigDict({'head_dim': 64}).
  """
  config.model = ConfigDict()
  # One of coatnet_jax.list_variants().
  config.model.name = 'coatnet_0'
  # Probability of dropping the last block's residual branch; grows linearly
  # from 0 at the first block.
  config.model.stochastic_depth_rate = 0.2
  # Compute dtype: 'float32' or 'bfloat16'. Parameters are always float32. Ours.
  config.model.dtype = 'float32'
  # How relative attention is computed; one of
  # coatnet_jax.ops.relative_attention.IMPLEMENTATIONS. 'auto' is right: the
  # kernel on a TPU, XLA's operations elsewhere. Not in a checkpoint's model:
  # what is loaded from one runs on any machine. Ours.
  config.model.attention = 'auto'
  # How much of the running BatchNorm statistics a step keeps. Ours: the
  # paper does not say; 0.99 is what the closest Google code uses.
  config.model.batch_norm_momentum = 0.99
  # Examples that BatchNorm takes the statistics of, in training; 0 for the
  # whole batch. A group that fits into a device's share of the batch costs no
  # exchange of statistics, and is the same on any mesh. Ours: the paper does
  # not say.
  config.model.batch_norm_group_size = 0
  # What the backward pass computes again instead of keeping it, to save memory:
  # 'none'; 'expansions', the inside of MBConv blocks; 'blocks', of all blocks;
  # 'everything', the blocks of a stage too. Changes no result. Ours.
  config.model.remat = 'none'
  # Whether equal blocks that follow each other are compiled once, as a loop.
  # Changes neither results nor checkpoints. Ours.
  config.model.scan_blocks = False
  # What the biases of the logits start at. With loss.kind = 'sigmoid' and many
  # classes a negative number, -log(number of classes) or the -10 of big_vision,
  # makes every class improbable at first. Ours: the paper does not say.
  config.model.head_bias_init = 0.0


def _add_data(config: ConfigDict) -> None:
  """Adds config.data: what is read, and from where.

  Fields of `coatnet_jax.data.sources.DataOptions`.
  """
  config.data = ConfigDict()
  # 'tfds': any TFDS dataset prepared as ArrayRecord, by name, or a prepared
  #   directory; 'folder': root/train/<class>/*.jpg, or root/<class>/*.jpg with
  #   a held-out part, of JPEG, PNG, GIF, BMP, WebP and TIFF, also in folders
  #   of a class; or a list of such files, CSV or JSON lines, with columns
  #   'path' and 'label', and perhaps 'split' and 'group'; 'idx': the four idx
  #   files of an MNIST-like set; 'synthetic': random images, for benchmarks
  #   only. Ours.
  config.data.source = 'tfds'
  # TFDS name, with an optional version ('imagenet2012:5.1.0'). 'tfds' only;
  # empty reads data_dir itself as one prepared dataset. Ours.
  config.data.name = 'imagenet2012'
  # 'tfds': the TFDS data_dir, or one prepared dataset's directory; empty is
  # $TFDS_DATA_DIR or ~/tensorflow_datasets. 'folder', 'idx': the directory; or
  # the list, by its suffix .csv, .tsv, .jsonl or .ndjson. Ours.
  config.data.data_dir = ''
  # Splits by name; for 'tfds' any TFDS split expression ('train[:90%]'). An
  # empty train_split says that the folders of a 'folder' are all classes. Ours.
  config.data.train_split = 'train'
  config.data.eval_split = 'validation'
  # Part of the images, of all splits together, that may be damaged before a run
  # or an evaluation stops; where that is less than one image it is one, but for
  # 0. Damaged ones are replaced in training, by the next that is whole, with
  # its own label, and left out of evaluation. Ours.
  config.data.max_damaged_fraction = 0.01
  # Pixels of the largest picture that is decoded; a larger one is damaged. What
  # takes longer than a plain JPEG, or more memory, may have fewer. With this
  # number no picture takes more than a second or 512 MiB; with another one that
  # is in proportion. Ours: the largest cameras have 100 million.
  config.data.max_image_pixels = 2**27
  # What is done where a run is resumed on other data than it was begun with:
  # other names of classes, another number of images, files of other names or
  # sizes, another version. 'refuse' says what differs; 'accept' resumes. Ours.
  config.data.changed = 'refuse'
  # Part of each class held out for evaluation where a 'folder' has no train/
  # of its own. 1 evaluates on all of it, which cannot be trained on. Ours.
  config.data.eval_fraction = 0.1
  # Cross-validation: so many parts, of which the one with the number `fold`,
  # from 0, is held out instead of eval_fraction; 0 makes none. Each class is
  # divided equally. Ours.
  config.data.num_folds = 0
  config.data.fold = 0
  # Regular expression to be found in each path of a 'folder', which names what
  # stays on one side when pictures are held out: one patient's, one video's.
  # r'patient(\d+)', say; what stands in parentheses is the name. Empty for
  # none; a list may name groups in a column. Ours.
  config.data.group_pattern = ''
  # How often classes come up in training: 'natural', as often as they have
  # pictures; 'balanced', all equally often, for which labels are read first. An
  # epoch is as many pictures in both. Ours.
  config.data.sampling = 'natural'
  # Images and classes of a 'synthetic' data set. Ours.
  config.data.synthetic_examples = 1024
  config.data.synthetic_classes = 1000
  # Height and width of its images, in pixels, before they are cropped. Ours.
  config.data.synthetic_image_size = (256, 256)
  # A data set whose decoded images fit in this many MiB is kept in memory;
  # 0 keeps none. Ours.
  config.data.cache_mebibytes = 256
  # Processes that decode and augment, beside the training process; 0 uses
  # threads of the training process. Does not change what is read. Ours.
  config.data.num_workers = 0
  # Threads of each worker, or of the training process if it has none. Each
  # makes a batch, so more than prefetch_batches have nothing to do. Ours.
  config.data.num_threads = 4
  # Batches read ahead by each worker, or by the training process. Ours.
  config.data.prefetch_batches = 4


def _add_preprocessing(config: ConfigDict) -> None:
  """Adds config.preprocessing: what is done to every image.

  In evaluation and prediction too; it is saved with every checkpoint. Fields of
  `coatnet_jax.data.augmentation.PreprocessingOptions`.
  """
  config.preprocessing = ConfigDict()
  # (height, width) in pixels.
  config.preprocessing.image_size = (224, 224)
  # Per-channel mean and standard deviation, of pixels in 0..1: ImageNet's.
  # Ours: the paper does not say.
  config.preprocessing.mean = (0.485, 0.456, 0.406)
  config.preprocessing.std = (0.229, 0.224, 0.225)
  # Evaluation resizes to image_size / this, then crops the centre: 224 / 0.875
  # = 256. Ours.
  config.preprocessing.eval_crop_fraction = 0.875
  # What is resized to that: 'cover', the short side, in proportion; 'squash',
  # both sides, ignoring the proportions. Both round to the nearest pixel and
  # reduce by area averages. Ours. 'timm', 'timm_squash' and 'keras_cv' are what
  # those projects measure their weights with, to the pixel, with an antialiased
  # filter: coatnet_jax/data/published_crops.py.
  config.preprocessing.eval_resize = 'cover'
  # 'nearest', 'bilinear' or 'bicubic', to enlarge; reduction is by area
  # averages, but in evaluation by the rules of timm and keras_cv. Ours.
  config.preprocessing.interpolation = 'bicubic'


def _add_augmentation(config: ConfigDict) -> None:
  """Adds config.augmentation: of training images, on the host.

  Fields of `coatnet_jax.data.augmentation.AugmentationOptions`.
  """
  config.augmentation = ConfigDict()
  # Random-resized crop: area as a part of the image, and aspect ratio
  # (width / height). Ours (Inception's, as the closest Google code has it).
  config.augmentation.crop_area = (0.08, 1.0)
  config.augmentation.crop_aspect_ratio = (3 / 4, 4 / 3)
  # Mirror images, left to right, with probability 1/2. Ours.
  config.augmentation.horizontal_flip = True
  # RandAugment: operations per image (0: none) and their strength, 0 to 30.
  config.augmentation.randaugment_layers = 2
  config.augmentation.randaugment_magnitude = 15.0
  # How often each of them is applied, 0 to 1. TensorFlow's EfficientNet always
  # does, timm in half of the cases; the paper does not say.
  config.augmentation.randaugment_probability = 1.0
  # What a magnitude means: 'tensorflow', as in TensorFlow's EfficientNet, whose
  # code the paper's authors build on, or 'timm', where all operations grow with
  # it: coatnet_jax/data/randaugment.py has both. 'tensorflow' moves pictures by
  # 10 pixels per magnitude, so it is for pictures of some 200 pixels and more.
  # The paper does not say.
  config.augmentation.randaugment_scale = 'tensorflow'
  # Random erasing: how often a box of the image is filled, 0 to 1, and with
  # what: 'noise', N(0, 1) of each pixel once it is normalised, or 'mean', 0.
  # The box is 2 % to a third of the image:
  # coatnet_jax/data/random_erasing.py. The paper has none.
  config.augmentation.random_erasing_probability = 0.0
  config.augmentation.random_erasing_fill = 'noise'
  # Repeated augmentation: how often each image is in a batch, augmented anew
  # every time; divides the batch size. An epoch is as many steps as without, so
  # an image comes up in one epoch of so many. The paper has none.
  config.augmentation.repeats = 1


def _add_mixup(config: ConfigDict) -> None:
  """Adds config.mixup: of training batches, on the device.

  Fields of `coatnet_jax.training.mixup.MixupOptions`.
  """
  config.mixup = ConfigDict()
  # Beta(alpha, alpha) of the mixing weight; 0 switches each off.
  config.mixup.mixup_alpha = 0.8
  config.mixup.cutmix_alpha = 0.0
  # Where both are on, how often CutMix is chosen, 0 to 1. Ours.
  config.mixup.cutmix_probability = 0.5
  # Neighbours in a batch that are mixed with each other; 0 for the whole batch.
  # Groups that fit into a device's share of it need no images of others. Ours.
  config.mixup.group_size = 0


def _add_loss(config: ConfigDict) -> None:
  """Adds config.loss: fields of `coatnet_jax.training.losses.LossOptions`."""
  config.loss = ConfigDict()
  # 'softmax' or 'sigmoid' cross-entropy.
  config.loss.kind = 'softmax'
  # Part of a target that is spread over all classes alike, 0 to 1.
  config.loss.label_smoothing = 0.1
  # How much a training picture of a class counts: 'none', all the same;
  # 'inverse', in inverse proportion to the number of the class's pictures, so
  # that classes count the same, and 1 on average. Not in evaluation. Ours.
  config.loss.class_weights = 'none'


def _add_schedule(config: ConfigDict) -> None:
  """Adds config.schedule: the learning rate of each step.

  Arguments of `coatnet_jax.training.schedules.create_learning_rate_schedule`.
  """
  config.schedule = ConfigDict()
  # Factor of an optimizer step after warm-up, where it is largest.
  config.schedule.peak_learning_rate = 1e-3
  # What it has fallen to at the last step.
  config.schedule.min_learning_rate = 1e-5
  # Warm-up, linear from 0; in steps or in epochs, the other 0. Both 0: none.
  # Ours: the paper's 10,000 steps stand in configs/recipes.py.
  config.schedule.warmup_steps = 0
  config.schedule.warmup_epochs = 0.0
  # Part of the run that a longer warm-up is shortened to, with a line that says
  # so: for configs that are for trying, where num_steps is often made small. 0
  # shortens none, and a warm-up longer than the run is an error. Ours.
  config.schedule.max_warmup_fraction = 0.0
  # After warm-up: 'cosine', 'linear' or 'constant'.
  config.schedule.decay = 'cosine'


def _add_optimizer(config: ConfigDict) -> None:
  """Adds config.optimizer: what is done with a gradient.

  Arguments of `coatnet_jax.training.optimizers.create_optimizer`.
  """
  config.optimizer = ConfigDict()
  # One of coatnet_jax.training.optimizers.OPTIMIZERS: 'adamw' or 'lamb'.
  config.optimizer.name = 'adamw'
  # Decay of the means of gradients and of their squares, and what is added to a
  # denominator. Ours: the paper does not state them.
  config.optimizer.b1 = 0.9
  config.optimizer.b2 = 0.999
  config.optimizer.eps = 1e-8
  # Decoupled, multiplied by the learning rate. Which parameters decay is
  # decided by name: coatnet_jax.training.optimizers.WEIGHT_DECAY_RULES.
  config.optimizer.weight_decay = 0.05
  # Global norm above which gradients are scaled down; 0 switches it off.
  config.optimizer.clip_norm = 1.0
  # Factor from the learning rate of a layer to that of the one before it, to
  # finetune: block by block from the head, which has the whole rate, to the
  # stem. In (0, 1]; 1 switches it off. Ours.
  config.optimizer.layer_decay = 1.0
  # Parameters that stay as they are: regular expressions, each to be found in
  # names such as 's1_block_0/expand/kernel'. ('^s[012]_',) freezes the stem and
  # the convolutional stages, ('^(?!head_logits/)',) all but the last layer. A
  # block that is frozen whole uses its BatchNorm's running statistics. Ours.
  config.optimizer.frozen = ()


def _add_training(config: ConfigDict) -> None:
  """Adds config.training: how long and in what batches.

  Fields of `coatnet_jax.run.TrainingOptions`.
  """
  config.training = ConfigDict()
  # How long: one of the two, the other 0. Ours: a config file says how long.
  config.training.num_epochs = 0.0
  config.training.num_steps = 0
  # Examples per optimizer step, over all devices and processes.
  config.training.global_batch_size = 4096
  # Parts a batch is computed in, one after the other, to save memory. Ours.
  config.training.gradient_accumulation_steps = 1
  # Exponential moving average of parameters and batch statistics, used for
  # evaluation; 0 switches it off.
  config.training.ema_decay = 0.0
  # Whether the decay is (1 + t) / (10 + t) at most after t steps, as in
  # TensorFlow's EfficientNet: averages are about those of the last ninth of the
  # steps. 0.9999 takes over after 89,990 steps, and each finetuning phase of
  # the paper has fewer: it is never in force there while this is on. Off, it
  # holds from the first step, and for the first 10,000 or so averages have much
  # of the start in them. Ours: the paper does not say.
  config.training.ema_warmup = True
  # Evaluations in a row that are not better than the best one, by
  # checkpoint.best_metric, after which the run ends; 0 for never. The best
  # checkpoint is kept. Ours.
  config.training.early_stopping_evaluations = 0
  # Steps that may be skipped in all: one whose loss, gradients, new parameters
  # or statistics are not finite then leaves everything as it was but the number
  # of the step, and is counted. One more ends the run, as the first does with
  # 0. Ours.
  config.training.skip_nonfinite_steps = 0


def _add_evaluation(config: ConfigDict) -> None:
  """Adds config.evaluation: how often and in what batches.

  Fields of `coatnet_jax.run.EvaluationOptions`.
  """
  config.evaluation = ConfigDict()
  # How often: one of the two, the other 0. The last step is always evaluated;
  # where both are 0, only that one. Ours.
  config.evaluation.every_epochs = 1.0
  config.evaluation.every_steps = 0
  # Over all devices and processes; does not change the result. Ours.
  config.evaluation.global_batch_size = 1024


def _add_checkpoint(config: ConfigDict) -> None:
  """Adds config.checkpoint: when a checkpoint is saved, and kept.

  Fields of `coatnet_jax.checkpoints.saving.CheckpointOptions`.
  """
  config.checkpoint = ConfigDict()
  # Save every so many steps, and whenever so many seconds have passed; 0
  # switches either off. The last step, and each evaluated one, is always
  # saved. Ours.
  config.checkpoint.every_steps = 0
  config.checkpoint.every_seconds = 600.0
  # How many of the newest checkpoints are kept, beside the best. Ours.
  config.checkpoint.max_to_keep = 2
  # Evaluation metric that decides which is best: 'top1', 'top5', where some
  # classes are rare 'mean_class_accuracy', of images with several labels
  # 'mean_average_precision' (highest), 'loss' (lowest).
  # Ours.
  config.checkpoint.best_metric = 'top1'


def _add_logging(config: ConfigDict) -> None:
  """Adds config.logging: what of a run is written down on the way.

  Fields of `coatnet_jax.training.training_log.LoggingOptions`.
  """
  config.logging = ConfigDict()
  # What curves are written to, in the workdir: 'tensorboard'; 'csv',
  # metrics_train.csv and metrics_eval.csv; 'wandb', a run of Weights & Biases,
  # whose package is to be installed beside this project's. Ours.
  config.logging.writers = ('tensorboard',)
  # Steps between two rows of training metrics. Ours.
  config.logging.every_steps = 50
  # Images of the first training batch written to TensorBoard, and whether each
  # evaluation writes its confusion matrix (up to 40 classes) and predictions:
  # not with 0. Ours.
  config.logging.image_grid_size = 64
  # Steps whose profile is written, from this one on; 0 for none. Ours.
  config.logging.profile_at_step = 0
  config.logging.profile_num_steps = 5
  # Whether report.html is written at the end of the run, of its best
  # checkpoint; it takes one more evaluation. Of several processes, the
  # command for it is told instead. Ours.
  config.logging.report = True


def _add_sharding(config: ConfigDict) -> None:
  """Adds config.sharding: devices along each axis of the mesh. Ours.

  One may be -1, for what the others leave. Arguments of
  `coatnet_jax.distributed.mesh.create_mesh`.
  """
  config.sharding = ConfigDict()
  # Groups between which only gradients are exchanged: a multiple of the number
  # of slices; -1 for that number.
  config.sharding.replica = -1
  # Shards the batch.
  config.sharding.data = -1
  # Shards the batch, and parameters with optimizer state and averages.
  config.sharding.fsdp = 1
  # Shards the heads of attention and the hidden layer of feed-forward parts.
  config.sharding.tensor = 1

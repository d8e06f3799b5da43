"""Writes what is published: weights, config.json and the card."""

import dataclasses
import pathlib

from coatnet_jax.checkpoints import published_folder
from coatnet_jax.checkpoints.metadata import Metadata, find_model_arguments
from coatnet_jax.checkpoints.trained_model import TrainedModel
from coatnet_jax.publishing.model_card import create_card
from coatnet_jax.publishing.scrubbing import scrub_config
from coatnet_jax.publishing.weights_file import write_weights
from coatnet_jax.strict_json import to_json
from coatnet_jax.weights import timm, timm_config
from coatnet_jax.weights.hub import import_hub


def write_folder(
  trained: TrainedModel,
  folder: pathlib.Path,
  *,
  repository: str,
  licence: str | None,
) -> None:
  """Writes the files of a published model.

  Args:
    trained: trained model, from `load_trained_model`.
    folder: directory that is there, and empty.
    repository: name on the hub, 'OWNER/NAME', for the card.
    licence: the hub's word for the licence, or None.

  Raises:
    UserError: huggingface_hub is not installed.
  """
  hub = import_hub(f'A card for {repository}')
  name, variant = trained.config.model.name, trained.model.variant
  is_in_timm = not timm.explain_difference(name, variant)
  weights = folder / published_folder.WEIGHTS_FILE
  write_weights(trained, weights, as_timm=is_in_timm)
  preprocessing = dataclasses.asdict(trained.preprocessing)
  config = {}
  if is_in_timm:
    config = timm_config.create_config(
      name, variant, preprocessing, trained.class_names
    )
  published = published_folder.PublishedModel(
    metadata=Metadata(
      model=find_model_arguments(
        trained.config.model, trained.model.num_classes
      ),
      preprocessing=preprocessing,
      class_names=trained.class_names,
      config=scrub_config(trained.config.to_dict()),
    ),
    step=trained.step,
    is_averaged=bool(trained.config.training.ema_decay),
    weights_sha256=published_folder.compute_sha256(weights),
  )
  config[published_folder.SECTION] = published_folder.create_section(published)
  text = to_json(config, indent=2) + '\n'
  (folder / published_folder.CONFIG_FILE).write_text(text, encoding='utf-8')
  card = create_card(trained, hub, repository=repository, licence=licence)
  (folder / published_folder.CARD_FILE).write_text(card, encoding='utf-8')

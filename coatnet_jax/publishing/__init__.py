"""A trained model as others take it: on the Hugging Face Hub, with a card."""

"""Language models that ``transformers`` maintains: thin adapters, one file a family over one shared `Pretrained`."""

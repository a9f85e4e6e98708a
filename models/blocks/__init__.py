"""Building blocks that the models share; every block is an ordinary ``torch.nn.Module``."""

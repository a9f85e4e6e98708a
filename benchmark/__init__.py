"""How it is run: sweeps, plan, workers, store, datasets and the command line."""

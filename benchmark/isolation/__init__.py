"""Systems in processes of their own: protocol, limits, sandbox, environments."""

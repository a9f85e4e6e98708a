"""What training a codec takes: losses, discriminators, the loop."""

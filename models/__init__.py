"""What is evaluated: codecs and codec language models behind one interface."""

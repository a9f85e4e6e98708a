"""The conformance checks of codecs and language models, a file a subject."""

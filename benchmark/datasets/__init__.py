"""Datasets: what is listened to, where it comes from, and the proof that everyone listened to the same."""

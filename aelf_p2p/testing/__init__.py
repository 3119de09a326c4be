"""Helpers for testing nodes and what embeds them: public and supported."""

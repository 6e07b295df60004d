"""The META LOG text format: names, emoji and banners."""

"""Files, arrays and caches on disk and at addresses."""

"""Video files -> pixels: decoding, clip sampling, test views, and a loader that accounts for every sample."""
